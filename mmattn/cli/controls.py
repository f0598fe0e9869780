"""Controls: the same model without one of its inputs, trained as long, to see what it adds."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf, open_dict

from mmattn.cli.build import build, build_model, build_task, build_trainer, use_feature_cache
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.classes import summarise
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError
from mmattn.tasks.classification import PRIMARY

log = logging.getLogger(__name__)
WITHHELD = {"image_only": "text", "text_only": "image"}
# The callbacks that change what is learnt; the others write, and a control has no folder.
LEARNING = ("step_seed", "finite", "freeze", "ema")

SHARES = ("accuracy", "vqa_accuracy")  # the scores that chance has a say in


def run_controls(config: DictConfig, data: SplitDataModule) -> dict[str, float]:
    """Train and test every control of `config.controls`; return their figures.

    `control/<name>/<test set>` is the score of a control, `control/<name>` where it is best.
    `control/chance/<test set>` is that of always giving the most frequent training answer, and
    `control/chance` where it is worst. `check_controls` comes first.
    """
    assert isinstance(data, LabelDataModule)
    figures: dict[str, float] = {}
    for name in config.controls:
        log.info("control: the same model, %s", name.replace("_", " "))
        scores = train_control(config, WITHHELD[name], data)
        figures |= named(f"control/{name}", scores, max(scores.values()))
    lucky = chance(data)
    return figures | (named("control/chance", lucky, min(lucky.values())) if lucky else {})


def named(name: str, scores: Mapping[str, float], whole: float) -> dict[str, float]:
    """Return the scores by test set below `name`, and `whole` at it."""
    return {**{f"{name}/{test}": score for test, score in scores.items() if test}, name: whole}


def check_controls(names: Sequence[str], data: SplitDataModule | None) -> None:
    """Raise ConfigError for an unknown control, or data that it is not about."""
    unknown = [name for name in names if name not in WITHHELD]
    if unknown:
        raise ConfigError(f"controls names {unknown[0]!r}; choose {', '.join(WITHHELD)}")
    if names and (not isinstance(data, LabelDataModule) or data.withhold is not None):
        raise ConfigError("controls are for classifiers of image and text: set controls=[]")


def train_control(config: DictConfig, withheld: str, data: LabelDataModule) -> dict[str, float]:
    """Train and test the model without one modality; return its score on every test set."""
    config = without(config, withheld)
    L.seed_everything(config.seed, workers=True, verbose=False)
    blind: LabelDataModule = build(config.data, "data")
    blind.read(data.tokenizer)
    model = build_model(config, blind)
    task = build_task(config, model, blind)
    trainer = build_trainer(config)
    if withheld != "image":
        use_feature_cache(config, blind, model, trainer)
    trainer.fit(task, datamodule=blind)
    trainer.test(task, datamodule=blind, verbose=False)
    found = trainer.callback_metrics
    return {
        name: float(found[f"{task.test_prefix(i)}/score"])
        for i, name in enumerate(blind.test_names)
    }


def without(config: DictConfig, withheld: str) -> DictConfig:
    """Return the configuration of a run that lacks one modality, and writes nothing."""
    config = OmegaConf.merge(config)  # type: ignore[assignment]
    with open_dict(config):
        config.data.withhold = withheld
        config.model.may_miss = {**(config.model.get("may_miss") or {}), withheld: 0.0}
        callbacks = (config.callbacks or {}).items()
        config.callbacks = {name: each for name, each in callbacks if name in LEARNING}
        config.logger = None
        config.trainer.update(enable_checkpointing=False, limit_val_batches=0)
    return config


def chance(data: LabelDataModule) -> dict[str, float]:
    """Return, for each test set, the score of the most frequent training answer.

    Empty where a head's score is no share of right answers.
    """
    if any(PRIMARY[each.kind] not in SHARES for each in data.classes.values()):
        return {}
    counts = summarise(data.classes, data.splits.train.examples).counts
    common = {
        head: each.names[counts[head].index(max(counts[head]))]
        for head, each in data.classes.items()
    }
    return {name: right(dataset, common) for name, dataset in data.splits.test.items()}


def right(dataset: LabelledSet, answers: Mapping[str, str]) -> float:
    """Return how right one answer a head is, the mean over examples and then over heads."""
    scores = []
    for head, answer in answers.items():
        labels = [e.labels[head] for e in dataset.examples if head in e.labels]
        scores.append(sum(share(label, answer) for label in labels) / max(len(labels), 1))
    return sum(scores) / len(scores)


def share(label: Any, answer: str) -> float:
    """Return how right an answer is: 0 or 1, a score, or the share of words."""
    if isinstance(label, str):
        return float(label == answer)
    if isinstance(label, tuple):
        return sum(name == answer for name in label) / max(len(label), 1)
    return float(label.get(answer, 0.0))
