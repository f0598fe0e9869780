"""Checkpoints that would run code when unpickled: no reader does, and a mark never appears."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from mmattn.cli.load_run import load_run
from mmattn.cli.model_of_run import bundle_of_run
from mmattn.data.module import CaptionDataModule
from mmattn.errors import CheckpointError, UserError
from mmattn.tasks.task import Task
from mmattn.training.checkpoints.callback import Checkpoints
from mmattn.training.checkpoints.content import check_whole, read_checkpoint
from mmattn.training.checkpoints.finding import (
    best_checkpoint,
    check_checkpoint,
    find_checkpoint,
    load_weights,
)
from mmattn.training.checkpoints.io import CheckpointFiles
from mmattn.training.checkpoints.manifest import Manifest, hash_of, write_manifest
from mmattn.weights import read_state_dict


class Touch:
    """Unpickling it runs code that leaves a mark."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


OWN = {"mmattn": {"schema": 1, "tokenizer": None}, "callbacks": {}, "loops": {}}
PAYLOADS = {
    "beside the weights": lambda evil: {"state_dict": {}, **OWN, "x": evil},
    "as a weight": lambda evil: {"state_dict": {"model.weight": evil}, **OWN},
    "as a name": lambda evil: {"state_dict": {}, **OWN, evil: 1},
    "in an optimizer": lambda evil: {
        "state_dict": {},
        **OWN,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2), "step": [evil]}}}],
    },
    "in hyper-parameters": lambda evil: {
        "state_dict": {},
        **OWN,
        "hyper_parameters": {"_instantiator": evil},
    },
    "instead of a checkpoint": lambda evil: evil,
}


def zipped(content, path):
    torch.save(content, path)


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


def vouched_for(content, path):
    """Whoever can write a checkpoint can write a manifest of it, too."""
    import hashlib

    torch.save(content, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_manifest(path, Manifest(path.stat().st_size, digest, 1, 0, 0, 1, hash_of("x")))


CONFIG = """
data: {image_size: 8, eval_transform: {}, max_length: 4}
model: {}
optimizer: {}
"""
WAYS = [zipped, legacy, plain_pickle, vouched_for]


@pytest.fixture
def run(tmp_path):
    """A run directory whose only checkpoint is yet to be written."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def readers(run):
    """Everything that is handed a checkpoint, by its name; none gets as far as using its task."""
    path = run / "checkpoints" / "last.ckpt"
    task = Task(nn.Linear(1, 1), None, torch.optim.SGD, None, test_names=[""], layer_decay=1.0)
    data = object.__new__(CaptionDataModule)

    def resume():
        check_checkpoint(task, find_checkpoint(str(path), run, run), data)

    def automatic():  # with a manifest that vouches for it, auto finds it
        check_checkpoint(task, find_checkpoint("auto", run, run), data)

    return {
        "test and train": lambda: load_weights(task, path),
        "resume": resume,
        "auto": automatic,
        "Lightning": lambda: CheckpointFiles().load_checkpoint(path),
        "best": lambda: read_checkpoint(best_checkpoint(path.parent)),
        "import": lambda: bundle_of_run(path),
        "reports": lambda: load_run(run),
        "pretrained": lambda: read_state_dict(path),
    }


@pytest.mark.fault("F21")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_no_reader_runs_code(run, readers, tmp_path, payload, way):
    mark = tmp_path / "ran"
    way(payload(Touch(mark)), run / "checkpoints" / "last.ckpt")
    for name, read in readers.items():
        with pytest.raises(UserError) as raised:
            read()
        said = str(raised.value)
        if way is not plain_pickle:  # where torch may name what stands before it
            assert "mkdir, and reading that could run code" in said or "safely" in said, name
        assert not mark.exists(), name
    if way is not vouched_for:
        with pytest.raises(CheckpointError):
            check_whole(run / "checkpoints" / "last.ckpt")


@pytest.mark.fault("F21")
def test_the_payload_is_one(tmp_path):
    """The comparison of the test above is one that can fail."""
    vouched_for(Touch(tmp_path / "ran"), tmp_path / "x.ckpt")
    torch.load(tmp_path / "x.ckpt", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.fault("F21")
def test_hyper_parameters_that_name_code_are_values_and_stay_so(
    make_data, make_task, make_trainer, tmp_path
):
    """Lightning once called what `_instantiator` names; nothing here does."""
    data = make_data(tests=("a",))
    task = make_task(data)
    keep = Checkpoints(tmp_path / "checkpoints", asynchronous=False)
    options = {"enable_checkpointing": True, "limit_val_batches": 0, "limit_train_batches": 2}
    make_trainer(keep, **options).fit(task, datamodule=data)
    content = read_checkpoint(Path(keep.best_model_path))
    content["hyper_parameters"] = {"_instantiator": "os.mkdir", "path": str(tmp_path / "ran")}
    content["datamodule_hyper_parameters"] = dict(content["hyper_parameters"])
    torch.save(content, tmp_path / "x.ckpt")
    load_weights(task, tmp_path / "x.ckpt")
    trainer = make_trainer(Checkpoints(tmp_path / "checkpoints"), **(options | {"max_epochs": 2}))
    trainer.fit(task, datamodule=data, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert trainer.global_step == 4
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault("F21")
@pytest.mark.parametrize("weights_only", [None, True])
def test_reading_without_care_cannot_be_asked_for(tmp_path, weights_only):
    files = CheckpointFiles()
    zipped({"state_dict": {}, "x": Touch(tmp_path / "ran")}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        files.load_checkpoint(tmp_path / "x.ckpt", weights_only=weights_only)
    with pytest.raises(CheckpointError, match="without weights_only could run code"):
        files.load_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.fault("F21")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.ckpt", "https://x/y.ckpt", "s3://x/y.ckpt"])
def test_a_url_is_no_file(tmp_path, url):
    """Lightning reads a URL with weights_only=False unless it is told otherwise."""
    with pytest.raises(CheckpointError, match="no such file"):
        find_checkpoint(url, tmp_path, tmp_path)
    with pytest.raises(CheckpointError, match="no such file"):
        CheckpointFiles().load_checkpoint(url)
