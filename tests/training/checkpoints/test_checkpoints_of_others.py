"""Checkpoints of another tokenizer, other classes, another architecture, other names of weights."""

import json
import re

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints.content import read_checkpoint
from mmattn.training.checkpoints.finding import check_checkpoint, load_weights

pytestmark = pytest.mark.filterwarnings("ignore:.*WeightAveraging callback")


def saved(task, path, **changes):
    """Write what a run would of a task's weights, with changes."""
    content = {"state_dict": task.state_dict(), "global_step": 1, "epoch": 0}
    task.on_save_checkpoint(content)
    torch.save({**content, **changes}, path)
    return path


@pytest.fixture
def data(make_data):
    found = make_data(tests=("a",))
    found.read()
    return found


@pytest.fixture
def task(make_task, data):
    return make_task(data)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.ckpt"


# F24: the tokenizer.


def with_other_merges(text):
    merges = text["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def with_other_tokens(text):
    vocabulary = text["model"]["vocab"]
    a, b = sorted(vocabulary, key=vocabulary.get)[100:102]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]


def without_a_special_token(text):
    gone = text["added_tokens"].pop()
    text["model"]["vocab"].pop(gone["content"], None)
    text["post_processor"] = None


@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_other_merges, "{size} tokens there, {size} here, other merges or settings"),
        (with_other_tokens, "{size} tokens there, {size} here, first difference '.+'"),
        (without_a_special_token, "{less} tokens there, {size} here, first difference '.+'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_another_tokenizer_is_told_by_sizes_and_the_first_token(task, path, change, said):
    text = json.loads(task.tokenizer.to_json())
    change(text)
    saved(task, path, mmattn={"schema": 1, "tokenizer": json.dumps(text)})
    size = task.tokenizer.vocab_size
    said = said.format(size=size, less=size - 1)
    with pytest.raises(CheckpointError, match=rf"{path}: .*another tokenizer: {said}"):
        load_weights(task, path)


@pytest.mark.fault("F24")
def test_a_tokenizer_of_another_size_is_told_before_the_weights_are(task, path, make_task, data):
    larger = CaptionTokenizer.train(["a red square", "a green thing is there"] * 9, 300, 2)
    saved(task, path, mmattn={"schema": 1, "tokenizer": larger.to_json()})
    sizes = f"{larger.vocab_size} tokens there, {task.tokenizer.vocab_size} here"
    with pytest.raises(CheckpointError, match=f"{sizes}, first difference"):
        check_checkpoint(task, path, data)


# F25: classes.


@pytest.mark.fault("F25")
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["blue", "green"], "2 classes of colour and this run 3; the first ones are the same"),
        (["blue", "green", "red", "x"], "4 classes of colour and this run 3; the first ones"),
        (["green", "blue", "red"], "class 0 is 'green' there and 'blue' here"),
        (["blue", "green", "rot"], "class 2 is 'rot' there and 'red' here"),
    ],
)
def test_other_classes_are_told_by_name(make_label_data, make_label_task, path, names, said):
    task = make_label_task(make_label_data())
    assert list(task.classes["colour"].names) == ["blue", "green", "red"]
    own = task.own_values()
    own["classes"]["colour"]["names"] = names
    saved(task, path, mmattn={"schema": 1, **own})
    with pytest.raises(CheckpointError, match=rf"{path}: .*{said}"):
        load_weights(task, path)


@pytest.mark.fault("F25")
def test_other_heads_are_told(make_label_data, make_label_task, path):
    two = make_label_data(("colour", "place"))
    saved(make_label_task(two), path)
    task = make_label_task(make_label_data())
    with pytest.raises(CheckpointError, match="has the heads colour, place, and this run colour"):
        load_weights(task, path)


# F26: architectures and names.


@pytest.mark.fault("F26")
def test_another_architecture_is_told_by_its_parts(make_task, data, path):
    saved(make_task(data, depth=2), path)
    said = (
        r"another architecture: \d+ of \d+ .*not in the model: model\.\w+\.\* \(\d+\), model\.\w+"
    )
    with pytest.raises(CheckpointError, match=said):
        load_weights(make_task(data, depth=1), path)
    saved(make_task(data, depth=1), path)
    with pytest.raises(CheckpointError, match=r"missing in the checkpoint: model\.\w+\.\* \(\d+\)"):
        load_weights(make_task(data, depth=2), path)


def renamed(state, rename):
    return {rename(name): value for name, value in state.items()}


@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: re.sub(r"^model\.(\w+)", r"model.\1._orig_mod", name),
    ],
    ids=["compiled", "distributed", "both", "parts compiled"],
)
def test_weights_of_a_wrapped_model_load(make_task, data, path, rename):
    task, fresh = make_task(data), make_task(data)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(1)
    saved(task, path, state_dict=renamed(task.state_dict(), rename))
    load_weights(fresh, path)
    for name, value in task.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)


@pytest.mark.fault("F26")
def test_a_prefix_that_nobody_knows_is_refused(task, path):
    saved(task, path, state_dict=renamed(task.state_dict(), lambda name: f"teacher.{name}"))
    count = len(task.state_dict())
    groups = re.escape("not in the model: teacher.model.* (")
    with pytest.raises(CheckpointError, match=rf"{2 * count} of {count} .*{groups}{count}\)"):
        load_weights(task, path)


@pytest.mark.fault("F26")
def test_averages_load_as_the_weights_that_a_test_uses(make_task, data, path, make_trainer):
    task, fresh = make_task(data), make_task(data)
    averaged = AveragedModel(task, use_buffers=True)
    with torch.no_grad():
        for parameter in averaged.module.parameters():
            parameter.add_(1)
    saved(task, path, state_dict=averaged.state_dict())
    load_weights(fresh, path)
    for name, value in averaged.module.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    trainer = make_trainer(AveragedWeights(decay=0.5), limit_train_batches=2)
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(path)
    load_weights(fresh, path)
    for name, value in task.state_dict().items():  # which are the averages, after training
        assert torch.equal(fresh.state_dict()[name], value)


@pytest.mark.fault("F26")
def test_a_newer_schema_says_what_to_install(task, path):
    saved(task, path, mmattn={"schema": 2, "tokenizer": None})
    with pytest.raises(CheckpointError, match=rf"{path}: .*schema 2, of a newer .*pip install -U"):
        read_checkpoint(path)
