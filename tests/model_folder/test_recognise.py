"""A folder that is no model folder is told by name, with the command that makes one of it."""

import json

import pytest

from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.format import read_folder
from mmattn.model_folder.recognise import locate


def make(place, **files):
    """Make a folder with files; of a name, "__" is the dot."""
    place.mkdir()
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text)
    return place


def said(place):
    with pytest.raises(CheckpointError) as caught:
        read_folder(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def importing(place):
    return f"`mmattn import {place} DEST` makes a model folder of it"


def test_a_folder_of_transformers(tmp_path):
    config = json.dumps({"model_type": "blip", "architectures": ["X"]})
    place = make(tmp_path / "m", config__json=config, model__safetensors="")
    wanted = f"{place} is a model of Hugging Face transformers ('blip'): {importing(place)}"
    assert said(place) == wanted


def test_whatever_a_foreign_configuration_says_is_one_short_line(tmp_path):
    config = json.dumps({"model_type": "a\nb" + "c" * 999})
    assert len(said(make(tmp_path / "m", config__json=config))) < 300


def test_a_folder_of_open_clip(tmp_path):
    place = make(tmp_path / "m", open_clip_config__json="{}", config__json='{"model_type": "clip"}')
    assert said(place) == f"{place} is a model of open_clip: {importing(place)}"


def test_a_run_without_a_model(tmp_path):
    place = make(tmp_path / "a run", config__yaml="")
    wanted = (
        f"{place} is a run directory without model/, of an older version or of a run that ended "
        f"early: {importing(repr(str(place)))}"
    )
    assert said(place) == wanted


def test_the_checkpoints_of_a_run(tmp_path):
    place = make(tmp_path / "checkpoints", last__ckpt="", epoch_001__ckpt="")
    assert said(place) == f"{place} is a folder of checkpoints: {importing(place / 'last.ckpt')}"


def test_a_model_folder_without_its_manifest(folder):
    (folder / "manifest.json").unlink()
    assert "is a model folder without manifest.json: copy it again" in said(folder)


@pytest.mark.parametrize("config", [None, "", "[1]", "{}", "[" * 99999])
def test_any_other_folder(tmp_path, config):
    place = make(tmp_path / "m", **({} if config is None else {"config__json": config}))
    wanted = f"{place} is no model folder: it has no manifest.json; give a model folder or a run"
    assert said(place).startswith(wanted)


def test_where_there_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="absent does not exist; give a model folder or a run"):
        read_folder(tmp_path / "absent")


def test_a_file_is_not_a_folder(folder):
    with pytest.raises(ConfigError, match=f"is a file: give the folder that holds it, {folder}"):
        read_folder(folder / "model.safetensors")
    checkpoint = folder.parent / "last.ckpt"
    checkpoint.touch()
    with pytest.raises(ConfigError, match=rf"is a file: `mmattn import {checkpoint} DEST` makes"):
        read_folder(checkpoint)


def test_a_run_leads_to_its_model(tmp_path, folder):
    run = make(tmp_path / "run", config__yaml="")
    folder.rename(run / "model")
    assert locate(run) == run / "model"
    assert locate(run / "model") == run / "model"
    assert locate(str(run)) == run / "model"
