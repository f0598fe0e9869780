"""Newer formats are told from older ones, and an older one is brought up step by step."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmattn.errors import CheckpointError
from mmattn.model_folder import layout, migrations
from mmattn.model_folder.format import read_folder
from mmattn.model_folder.manifest import write_manifest


@pytest.fixture
def older(folder):
    """A folder as a format 0 might have been: other keys, other names of weights."""
    config = json.loads((folder / "config.json").read_text())
    config["longest"] = config.pop("max_length")
    (folder / "config.json").write_text(json.dumps({**config, "format": 0, "mmattn": "0.0.1"}))
    state = load_file(folder / "model.safetensors")
    old = {name.replace("text.", "decoder."): value for name, value in state.items()}
    save_file(old, folder / "model.safetensors")
    write_manifest(folder)
    return folder


def from_0_to_1(config, state):
    config = {**config, "max_length": config["longest"]}
    del config["longest"]
    return config, {name.replace("decoder.", "text."): value for name, value in state.items()}


def with_format(folder, value, **others):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": value, **others}))
    write_manifest(folder)


def test_an_older_format_is_brought_up(older, bundle, monkeypatch):
    monkeypatch.setitem(migrations.MIGRATIONS, 0, from_0_to_1)
    read = read_folder(older)
    assert read.max_length == 12
    own, found = bundle.model.state_dict(), read.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in own.items())


def test_a_captioner_of_format_1_is_read_as_it_was(folder, bundle):
    """Format 2 says of captioners what format 1 said: only classifiers are new."""
    with_format(folder, 1)
    own, found = bundle.model.state_dict(), read_folder(folder).model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in own.items())


def test_steps_follow_each_other(monkeypatch):
    monkeypatch.setattr(migrations, "FORMAT", 3)
    seen = []
    for step in (0, 1, 2):

        def migration(config, state, step=step):
            seen.append((step, config["format"]))
            return config, state

        monkeypatch.setitem(migrations.MIGRATIONS, step, migration)
    config, _ = migrations.migrate({"format": 1}, {})
    assert config == {"format": 3}
    assert seen == [(1, 1), (2, 2)]


def test_a_format_of_this_version_goes_no_way():
    config, state = {"format": layout.FORMAT}, {"a": torch.ones(1)}
    assert migrations.migrate(config, state) == (config, state)


def test_an_older_format_without_a_way_names_its_writer(older):
    with pytest.raises(CheckpointError) as caught:
        read_folder(older)
    assert str(caught.value) == (
        f"{older}: mmattn 0.0.1 wrote it in format 0, which this version no longer reads: read it "
        "with that version"
    )


def test_a_newer_format_asks_for_a_newer_version(folder):
    with_format(folder, 7, mmattn="3.1.4", unheard_of=True)
    (folder / "adapters.safetensors").touch()  # a newer format may have other files
    write_manifest(folder)
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    assert str(caught.value) == (
        f"{folder}: mmattn 3.1.4 wrote it in format 7; this is mmattn {layout.library_version()}, "
        "which reads formats up to 2: pip install -U mmattn"
    )


@pytest.mark.parametrize("value", ["1", None, True, 1.0, -1, [1]])
def test_a_format_that_is_no_number_is_named(folder, value):
    with_format(folder, value)
    with pytest.raises(CheckpointError, match=r"format is .*; it is a number, 2 the newest"):
        read_folder(folder)
