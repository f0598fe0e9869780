"""Settings that cannot be are told before anything is loaded."""

import inspect
import os
from pathlib import Path

import pytest

from mmattn.cli.job_settings import CaptionSettings
from mmattn.data.images import MAX_PIXELS
from mmattn.errors import ConfigError
from mmattn.pipeline.pipeline import Pipeline


def made(**settings):
    return CaptionSettings(images=("photos",), model="model", **settings)


def test_what_is_not_asked_for_is_as_in_python():
    defaults = inspect.signature(Pipeline.caption).parameters
    settings = made()
    assert settings.max_pixels == MAX_PIXELS == defaults["max_pixels"].default
    assert settings.batch_size == defaults["batch_size"].default
    assert settings.threads == defaults["threads"].default


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "--batch-size 0: give 1 or more"),
        ({"threads": -1}, "--threads -1: give 1 or more"),
        ({"max_pixels": 0}, "--max-pixels 0: give 1 or more"),
        ({"formats": ("png",)}, "are of --attention FOLDER: give it, too"),
        ({"layers": (0,)}, "are of --attention FOLDER: give it, too"),
        ({"retry": True}, "--retry is of the lines that --out has"),
    ],
)
def test_what_cannot_be_is_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        made(**settings)


def test_places_that_can_be_written_are_left_as_they_are(tmp_path):
    made(out=tmp_path / "new" / "a.jsonl", attention=tmp_path / "maps").check_places()
    made().check_places()
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for settings, said in [
        ({"out": tmp_path}, "is a folder: give a file, such as captions.jsonl"),
        ({"out": Path("/dev/null")}, "is no regular file.*leave --out away for stdout"),
        ({"out": tmp_path / "pipe"}, "is no regular file"),
        (
            {"out": tmp_path / "file" / "a.jsonl"},
            "file is no folder: give another folder with --out",
        ),
        (
            {"attention": tmp_path / "file"},
            "file is no folder: give another folder with --attention",
        ),
    ]:
        with pytest.raises(ConfigError, match=said):
            made(**settings).check_places()
