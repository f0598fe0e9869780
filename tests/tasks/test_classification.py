"""The classification task learns, measures every example once, and knows its classes by name."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.classes import Classes
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.split_module import LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import CheckpointError, ConfigError, DataError
from mmattn.fusion import CrossFusion
from mmattn.patches import LinearPatches
from mmattn.tasks.classification import ClassificationTask, check_same_classes
from mmattn.tasks.losses import LossOptions
from mmattn.tasks.optimisation import layer_scales
from mmattn.text import TextTransformer
from mmattn.training.checkpoints.finding import load_weights
from mmattn.vision import VisionTransformer

PLAIN = ToNormalised([0.5] * 3, [0.25] * 3)
BLOCK = BlockOptions(heads=2)


class Shades:
    def image(self, name: str) -> torch.Tensor:
        return torch.full((3, 8, 8), 250 if name.startswith("light") else 5, dtype=torch.uint8)


def questions(heads: tuple[str, ...] = ("answer",)) -> list[Example]:
    """Is it light, is it dark: neither the picture nor the words alone tell."""
    examples = []
    for i in range(16):
        shade = "light" if i % 2 else "dark"
        for asked in ("light", "dark"):
            labels = {"answer": "yes" if asked == shade else "no", "shade": shade}
            examples.append(
                Example(
                    f"{shade}{i}/{asked}",
                    {head: labels[head] for head in heads},
                    (f"{shade}{i}",),
                    f"is it {asked}",
                )
            )
    return examples


def make_data(heads=("answer",), examples=None, text=True, **options) -> LabelDataModule:
    examples = examples or questions(heads)
    if not text:
        seen = {e.images: e for e in examples}
        examples = [Example(e.key, e.labels, e.images) for e in seen.values()]
    found = LabelledSet(examples, Shades())
    splits = LabelledSplits(
        found, found, {"same": found}, {head: HeadSpec("single") for head in heads}
    )
    data = LabelDataModule(
        source=SimpleNamespace(splits=lambda: splits),
        image_size=(8, 8),
        train_transform=PLAIN,
        eval_transform=PLAIN,
        tokenizer=TokenizerOptions(path=None, vocab_size=300),
        loader=LoaderOptions(batch_size=8, eval_batch_size=5),
        max_length=10,
        seed=0,
        **options,
    )
    data.read()
    return data


def make_task(data: LabelDataModule, *, lr=3e-3, text=True, **options) -> ClassificationTask:
    torch.manual_seed(0)
    settings = data.model_settings()
    vocabulary = settings["text.vocab_size"]
    encoder = TextTransformer(vocabulary, 16, 1, BLOCK, max_length=10, causal=False)
    parts = {"text": encoder, "fusion": CrossFusion(16, 2, BLOCK)} if text else {}
    vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, BLOCK)
    return ClassificationTask(
        Classifier(settings["heads"], vision=vision, **parts),
        optimizer=partial(torch.optim.AdamW, lr=lr),
        scheduler=None,
        loss=options.pop("loss", LossOptions()),
        **data.task_settings(),
        **options,
    )


def test_it_learns_what_neither_side_tells_alone(make_trainer, tmp_path):
    data = make_data()
    task, trainer = make_task(data), make_trainer(max_epochs=60)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    assert float(trainer.callback_metrics["test/same/accuracy"]) == 1.0
    assert float(trainer.callback_metrics["test/same/score"]) == 1.0
    trainer.save_checkpoint(tmp_path / "task.ckpt")
    again = make_task(make_data())
    load_weights(again, tmp_path / "task.ckpt")
    batch = next(iter(data.val_dataloader()))
    task.eval(), again.eval()
    assert torch.equal(again.model(batch)["answer"], task.model(batch)["answer"])


def test_several_heads_have_metrics_and_losses_of_their_own(make_trainer):
    data = make_data(("answer", "shade"))
    task = make_task(data, losses={"shade": LossOptions(weight=0.0)})
    trainer = make_trainer()
    before = {k: v.clone() for k, v in task.model.heads["shade"].state_dict().items()}
    trainer.fit(task, datamodule=data)
    found = trainer.callback_metrics
    assert {"val/answer/accuracy", "val/shade/accuracy", "train/answer/loss"} <= found.keys()
    mean = (float(found["val/answer/accuracy"]) + float(found["val/shade/accuracy"])) / 2
    assert float(found["val/score"]) == pytest.approx(mean)
    after = task.model.heads["shade"].state_dict()
    assert torch.equal(after["bias"], before["bias"])  # its loss has no weight


def test_the_sum_over_heads_is_weighted():
    data = make_data(("answer", "shade"))
    task = make_task(data, losses={"shade": LossOptions(weight=3.0)}).eval()
    batch = next(iter(data.val_dataloader()))
    losses = task.loss(task.model(batch), batch.targets)
    torch.testing.assert_close(task.total(losses), losses["answer"] + 3 * losses["shade"])


def test_one_class_alone_in_validation_is_no_crash(make_trainer):
    data = make_data()
    light = [e for e in questions() if e.labels["answer"] == "yes"]
    data.splits.test["same"].__init__(light, Shades())
    trainer = make_trainer()
    trainer.test(make_task(data), datamodule=data, verbose=False)
    assert "test/same/accuracy" in trainer.callback_metrics


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_mixed_images_train(make_trainer, mixup, cutmix):
    data = make_data(("shade",), text=False)
    task = make_task(data, text=False, mixup=mixup, cutmix=cutmix)
    trainer = make_trainer()
    trainer.fit(task, datamodule=data)
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


@pytest.mark.parametrize(("what", "kept"), [("image", "text"), ("text", "images")])
def test_an_example_without_what_the_model_reads_is_named_with_its_place(what, kept):
    whole = questions()
    lacking = Example("odd", {"answer": "no"}, **{kept: getattr(whole[0], kept)}, place="a.csv:9")
    with pytest.raises(DataError, match=rf"a.csv:9 has no {what}.*may_miss\.{what}=0\.1"):
        make_task(make_data(examples=[*whole, lacking]))


def test_a_text_cannot_be_mixed():
    with pytest.raises(ConfigError, match="a text cannot be mixed"):
        make_task(make_data(), mixup=0.5)


def test_a_head_that_there_is_not_has_no_loss():
    with pytest.raises(ConfigError, match=r"task\.losses names 'colour'; the heads are answer"):
        make_task(make_data(), losses={"colour": LossOptions()})


def test_layer_decay_is_of_both_encoders():
    task = make_task(make_data())
    scales = dict(layer_scales(task.model, 0.5))
    assert {name.partition(".")[0] for name in scales} == {"vision", "text"}
    assert scales["vision.norm.weight"] == scales["text.norm.weight"] == 0.5
    assert scales["text.blocks.0.mlp.up.weight"] == 0.25
    assert scales["text.embedding.weight"] == 0.125


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"label": {"names": ["no", "yes"]}}, "has the heads label, and this run answer"),
        ({"answer": {"names": ["no", "maybe"]}}, "class 1 is 'maybe' there and 'yes' here"),
        ({"answer": {"names": ["no", "yes", "maybe"]}}, "3 classes of answer and this run 2"),
        ({"answer": {"names": ["yes", "no"]}}, "class 0 is 'yes' there and 'no' here"),
    ],
)
def test_other_classes_in_a_checkpoint_are_named(saved, message):
    own = {"answer": Classes("single", ("no", "yes"))}
    check_same_classes({"answer": {"names": ["no", "yes"]}}, own)
    with pytest.raises(CheckpointError, match=message):
        check_same_classes(saved, own)


def test_a_captioners_checkpoint_is_refused():
    task = make_task(make_data())
    saved = {"mmattn": {"schema": 1, "tokenizer": task.own_values()["tokenizer"]}}
    with pytest.raises(CheckpointError, match="of another task: it says nothing of classes"):
        task.on_load_checkpoint({**saved, "state_dict": {}})
