"""Image files that cannot be used are named before training, with where they are asked for."""

import pytest
from PIL import Image

from mmattn.data import images
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.image_files import with_sound_images
from mmattn.data.problems import Gathered
from mmattn.errors import DataError, ReadError


def sound(examples, root, *, leave_out):
    """What `with_sound_images` returns, unless it found something wrong."""
    gathered = Gathered()
    found = with_sound_images(examples, root, gathered, leave_out=leave_out)
    gathered.raise_if_any(found)
    return found


@pytest.fixture
def root(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "empty.png").write_bytes(b"")
    return tmp_path


def parts(*names):
    rows = [Example(f"k{i}", {}, (name,), place=f"l:{i}") for i, name in enumerate(names, 1)]
    return {"train": [*rows, Example("text", {}, text="no image")]}


def test_sound_images_pass(root):
    given = parts("a.png", "b.png", "a.png")
    assert sound(given, root, leave_out=False) == (given, [])


@pytest.mark.fault("F15")
def test_missing_and_damaged_are_named_with_their_place(root):
    with pytest.raises(DataError) as caught:
        sound(parts("a.png", "gone.png", "empty.png"), root, leave_out=False)
    message = str(caught.value)
    assert "2 of 3 images cannot be used" in message
    assert f"l:2: {root / 'gone.png'} cannot be read: No such file" in message
    assert f"l:3: {root / 'empty.png'} is empty" in message
    assert "leave_out_bad=true" in message
    kept, notes = caught.value.splits
    assert ([example.key for example in kept["train"]], notes) == (["k1", "text"], [])


def test_they_are_left_out_if_asked(root):
    given = parts("a.png", "gone.png", "gone.png", "empty.png")
    kept, notes = sound(given, root, leave_out=True)
    assert [example.key for example in kept["train"]] == ["k1", "text"]
    assert notes == ["Images missing or damaged: 2 (gone.png, empty.png); examples left out: 3"]


@pytest.mark.fault("F13")
def test_none_is_left_out_because_the_disk_failed(root, monkeypatch):
    def fail(path, max_bytes):
        raise ReadError(f"{path}: Input/output error")

    monkeypatch.setattr(images, "_check_file", fail)
    with pytest.raises(ReadError):
        sound(parts("a.png"), root, leave_out=True)


def test_an_example_with_one_bad_image_of_two_is_left_out(root):
    given = {"train": [Example("1", {}, ("a.png", "gone.png")), Example("2", {}, ("a.png",))]}
    kept, _ = sound(given, root, leave_out=True)
    assert [example.key for example in kept["train"]] == ["2"]


@pytest.mark.fault("F19")
@pytest.mark.parametrize("leave_out", [True, False])
@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a\\b.png", ""])
def test_a_name_that_leads_out_is_never_left_out_quietly(root, name, leave_out):
    with pytest.raises(DataError, match="l:1: The file name"):
        sound(parts(name), root, leave_out=leave_out)
