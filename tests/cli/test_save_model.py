"""Training ends with a model folder; what hinders that is a warning, and the run goes on."""

import logging
import re
from copy import copy

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torchvision.transforms import v2

from mmattn.bundle import ClassifierBundle
from mmattn.captioner import Captioner
from mmattn.cli import schema
from mmattn.cli.build import build, build_model, build_task
from mmattn.cli.save_model import save_model
from mmattn.model_folder.format import read_folder
from mmattn.tasks.task import Task


@pytest.fixture(scope="module")
def read(small_run):
    """A configuration, and its data."""
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", ["paths.output_dir=nowhere", *small_run])
    data = build(config.data, "data")
    data.read()
    config.model.text.vocab_size = data.tokenizer.vocab_size
    return config, data


@pytest.fixture
def trained(read):
    """The task and the data of a run."""
    config, data = read
    return build_task(config, build(config.model, "model"), data), copy(data)


class Own(Captioner):
    """A user's class."""


def warning(caplog):
    """Return the one warning that there is."""
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    message = record.getMessage()
    assert "\n" not in message
    return message


def test_the_model_is_written_and_said(trained, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        save_model(*trained, tmp_path, results={"test/cider": torch.tensor(1.5)})
    assert f"the model is in {tmp_path}/model" in caplog.text
    found = read_folder(tmp_path / "model")
    own = trained[0].model.state_dict()
    assert all(torch.equal(v, own[name]) for name, v in found.model.state_dict().items())
    assert found.source == "trained by mmattn on Glyphs"
    assert "| test/cider | 1.5 |" in (tmp_path / "model" / "README.md").read_text()


def test_a_second_run_in_the_same_place_replaces_it(trained, tmp_path):
    save_model(*trained, tmp_path)
    with torch.no_grad():
        trained[0].model.text.norm.weight.fill_(7)
    save_model(*trained, tmp_path)
    assert read_folder(tmp_path / "model").model.text.norm.weight.eq(7).all()


def test_the_best_weights_are_loaded_first(trained, tmp_path):
    task, data = trained
    with torch.no_grad():
        task.model.text.norm.weight.fill_(7)
    checkpoint = {"state_dict": {name: v.clone() for name, v in task.state_dict().items()}}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "best.ckpt")
    with torch.no_grad():
        task.model.text.norm.weight.fill_(3)
    save_model(task, data, tmp_path, best=tmp_path / "best.ckpt")
    assert read_folder(tmp_path / "model").model.text.norm.weight.eq(7).all()


def own_class(task, data, folder):
    task.model = Own(task.model.vision, task.model.text)
    return "the captioner is a .*Own: only Captioner itself can be written as plain values"


def own_transform(task, data, folder):
    data.eval_transform = v2.Compose([v2.Grayscale(3), nn.Identity()])
    return "Grayscale is not one of Resize, CenterCrop and ToNormalised"


def diverged(task, data, folder):
    with torch.no_grad():
        task.model.text.norm.bias[0] = float("nan")
    return r"text\.norm\.bias: 1 of 16 weights are not finite; take an earlier checkpoint"


def occupied(task, data, folder):
    (folder / "model").mkdir()
    (folder / "model" / "notes.txt").touch()
    return r"holds other files \('notes\.txt'\)"


@pytest.mark.parametrize("hinder", [own_class, own_transform, diverged, occupied])
def test_a_model_that_cannot_be_written_is_one_warning(trained, tmp_path, caplog, hinder):
    said = hinder(*trained, tmp_path)
    assert re.search(said, warned(trained, tmp_path, caplog))


def warned(trained, tmp_path, caplog):
    save_model(*trained, tmp_path)
    message = warning(caplog)
    assert message.startswith(f"{tmp_path}/model was not written: ")
    assert f"`mmattn import {tmp_path} DEST` writes it" in message
    return message


def test_a_full_disk_is_one_warning(trained, tmp_path, caplog, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("mmattn.model_folder.format.write_manifest", full)
    message = warned(trained, tmp_path, caplog)
    assert "no space left on device; free some" in message
    assert list(tmp_path.iterdir()) == []


def test_a_best_checkpoint_that_is_gone_is_one_warning(trained, tmp_path, caplog):
    save_model(*trained, tmp_path, best=tmp_path / "gone.ckpt")
    assert "gone.ckpt: not a readable checkpoint" in warning(caplog)
    assert not (tmp_path / "model").exists()


def test_a_classifier_is_written_with_its_classes_and_temperatures(small_questions, tmp_path):
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", ["paths.output_dir=nowhere", *small_questions])
    data = build(config.data, "data")
    data.read()
    task = build_task(config, build_model(config, data), data)
    task.temperature = {"answer": 1.5}
    save_model(task, data, tmp_path, results={"test/fonts/accuracy": 0.5})
    found = read_folder(tmp_path / "model")
    assert isinstance(found, ClassifierBundle)
    assert found.classes == data.classes
    assert found.temperature == {"answer": 1.5}
    assert found.tokenizer.fingerprint == data.tokenizer.fingerprint
    assert (found.max_length, found.source) == (40, "trained by mmattn on GlyphQuestions")
    batch = data.evaluation_batch(data.splits.val, range(3))
    wanted, scores = task.eval().model(batch), found.model(batch)
    assert torch.equal(scores["answer"], wanted["answer"])
    assert "| test/fonts/accuracy | 0.5 |" in (tmp_path / "model" / "README.md").read_text()


def test_a_model_of_another_kind_is_one_warning(trained, tmp_path, caplog):
    _, data = trained
    other = Task(nn.Identity(), None, torch.optim.SGD, None, test_names=[], layer_decay=1.0)
    save_model(other, data, tmp_path)
    assert "a model folder holds a captioner, a classifier or a joint model" in warning(caplog)
