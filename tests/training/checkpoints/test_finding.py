import os

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mmattn.errors import CheckpointError
from mmattn.training.checkpoints.finding import (
    check_checkpoint,
    find_checkpoint,
    load_weights,
    read_checkpoint,
)


class Touch:
    """Unpickling it runs code that leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def saved(make_data, make_task, make_trainer, tmp_path):
    """A task after one epoch, its data, and the checkpoint."""
    data = make_data()
    task = make_task(data)
    keep = ModelCheckpoint(tmp_path, "one")
    make_trainer(keep, enable_checkpointing=True).fit(task, datamodule=data)
    return task, data, tmp_path / "one.ckpt"


def make_run(folder, age):
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {}}, path)  # as older versions left it: without a manifest
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_auto_is_where_this_directory_stopped_or_else_the_newest_run(tmp_path):
    runs, here = tmp_path / "logs" / "caption", tmp_path / "here"
    assert find_checkpoint(None, here, runs) is None
    assert find_checkpoint("auto", here, runs) is None
    make_run(runs / "runs" / "b", age=50)
    newest = make_run(runs / "runs" / "a", age=10)
    make_run(runs / "runs" / "c", age=30)
    assert find_checkpoint("auto", here, runs) == newest
    own = make_run(here, age=99)
    assert find_checkpoint("auto", here, runs) == own
    assert find_checkpoint(None, here, runs) is None


def test_a_path_is_taken_as_it_is_and_must_exist(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.ckpt").touch()
    assert find_checkpoint("~/my.ckpt", tmp_path, tmp_path) == tmp_path / "my.ckpt"
    for absent in ("no.ckpt", str(tmp_path)):
        with pytest.raises(CheckpointError, match=f"ckpt_path={absent}: no such file"):
            find_checkpoint(absent, tmp_path, tmp_path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 99, b"PK\x03\x04" + b"\0" * 500])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{path}: not a readable checkpoint \(truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_named(saved, share):
    path = saved[2]
    whole = path.read_bytes()
    path.write_bytes(whole[: round(len(whole) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, legacy):
    path = tmp_path / "evil.ckpt"
    content = {"state_dict": {}, "x": Touch(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"it holds \w+\.mkdir, and reading that could run"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.zeros(3), "no state_dict"),
        ({"a": torch.zeros(3)}, "no state_dict"),
        ({"state_dict": 3}, "no state_dict"),
        ({"state_dict": {}}, "not a checkpoint of a run"),
        ({"state_dict": {}, "mmattn": 3}, "not a checkpoint of a run"),
        ({"state_dict": {}, "mmattn": {"schema": 1}}, "not a checkpoint of a run"),
        ({"state_dict": {}, "mmattn": {"schema": 99, "tokenizer": "{}"}}, "schema 99"),
    ],
)
def test_another_content_is_named(saved, tmp_path, content, said):
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"{path}: .*{said}"):
        check_checkpoint(saved[0], path)


def test_weights_come_back(saved, make_data, make_task):
    task, _, path = saved
    fresh = make_task(make_data())
    assert not torch.equal(fresh.model.text.embedding.weight, task.model.text.embedding.weight)
    load_weights(fresh, path)
    for name, value in task.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)


def test_a_run_may_go_on_only_with_the_same_order_of_data(saved, make_data):
    task, data, path = saved
    check_checkpoint(task, path, data)
    check_checkpoint(task, path, make_data(batch_size=2), world_size=2)
    for other in (make_data(seed=1), make_data(batch_size=2)):
        with pytest.raises(CheckpointError, match="its batches would be others"):
            check_checkpoint(task, path, other)
        check_checkpoint(task, path)  # for its weights, order does not matter


@pytest.mark.parametrize("missing", ["optimizer_states", "loops", "CaptionDataModule"])
def test_weights_alone_cannot_be_gone_on_from(saved, missing):
    task, data, path = saved
    content = read_checkpoint(path)
    del content[missing]
    torch.save(content, path)
    check_checkpoint(task, path)
    with pytest.raises(CheckpointError, match=f"has no {missing}.* train=false tests its weights"):
        check_checkpoint(task, path, data)


def test_what_lightning_and_our_callbacks_save_is_plain(saved):
    content = read_checkpoint(saved[2])  # weights_only=True
    assert content["mmattn"]["schema"] == 1
    assert {"loops", "optimizer_states", "lr_schedulers", "callbacks"} <= content.keys()
