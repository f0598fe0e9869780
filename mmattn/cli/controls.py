"""Controls: the same model without one of its inputs, trained as long, to see what it adds."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from omegaconf import DictConfig, OmegaConf, open_dict

from mmattn.cli.build import build, build_model, build_task, build_trainer
from mmattn.data.label_module import LabelDataModule
from mmattn.data.split_module import SplitDataModule
from mmattn.errors import ConfigError
from mmattn.tasks.classification import PRIMARY

log = logging.getLogger(__name__)
WITHHELD = {"image_only": "text", "text_only": "image"}


def run_controls(config: DictConfig, folder: Path, data: SplitDataModule) -> dict[str, float]:
    """Train and test every control of `config.controls`; return their figures.

    `control/<name>` is the score on the test set on which the control does best, and
    `control/chance` that of always giving the most frequent training answer, where it does best.
    `check_controls` comes first.
    """
    names = [str(name) for name in config.controls or ()]
    if not names or not (config.train and config.test):
        return {}
    assert isinstance(data, LabelDataModule)
    figures: dict[str, float] = {}
    for name in names:
        log.info("control: the same model, %s", name.replace("_", " "))
        scores = train_control(config, folder / "control" / name, WITHHELD[name], data)
        for test, score in scores.items():
            figures[f"control/{name}/{test}".rstrip("/")] = score
        figures[f"control/{name}"] = max(scores.values())
    return {**figures, "control/chance": max(chance(data))}


def check_controls(names: Sequence[str], data: SplitDataModule) -> None:
    """Raise ConfigError for an unknown control, or data that it is not about."""
    if not names:
        return
    unknown = [name for name in names if name not in WITHHELD]
    if unknown:
        raise ConfigError(f"controls names {unknown[0]!r}; choose {', '.join(WITHHELD)}")
    if not isinstance(data, LabelDataModule) or data.withhold is not None:
        raise ConfigError("controls are for classifiers of image and text: set controls=[]")


def train_control(
    config: DictConfig, folder: Path, withheld: str, data: LabelDataModule
) -> dict[str, float]:
    """Train and test the model without one modality; return its score on every test set."""
    config = OmegaConf.merge(config)  # type: ignore[assignment]
    with open_dict(config):
        config.data.withhold = withheld
        config.model.may_miss = {**(config.model.get("may_miss") or {}), withheld: 0.0}
        config.callbacks = {"step_seed": config.callbacks.step_seed}
        config.logger = None
        config.trainer.update(
            default_root_dir=str(folder), enable_checkpointing=False, limit_val_batches=0
        )
    L.seed_everything(config.seed, workers=True, verbose=False)
    blind: LabelDataModule = build(config.data, "data")
    blind.read(data.tokenizer)
    task = build_task(config, build_model(config, blind), blind)
    trainer = build_trainer(config)
    trainer.fit(task, datamodule=blind)
    trainer.test(task, datamodule=blind, verbose=False)
    found = trainer.callback_metrics
    return {
        name: float(found[f"{task.test_prefix(i)}/score"])
        for i, name in enumerate(blind.test_names)
    }


def chance(data: LabelDataModule) -> list[float]:
    """Return, for each test set, the score of the most frequent training answer."""
    settings: dict[str, Any] = data.task_settings()
    scores = []
    for dataset in data.splits.test.values():
        of_heads = []
        for head, each in data.classes.items():
            if PRIMARY[each.kind] not in ("accuracy", "vqa_accuracy"):
                continue
            counts = settings["counts"][head]
            common = each.names[counts.index(max(counts))]
            labels = [e.labels[head] for e in dataset.examples if head in e.labels]
            of_heads += [sum(share(label, common) for label in labels) / max(len(labels), 1)]
        scores.append(sum(of_heads) / max(len(of_heads), 1))
    return scores


def share(label: Any, answer: str) -> float:
    """Return how right an answer is: 0 or 1, a score, or the share of words."""
    if isinstance(label, str):
        return float(label == answer)
    if isinstance(label, tuple):
        return sum(name == answer for name in label) / max(len(label), 1)
    return float(label.get(answer, 0.0))
