import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmattn.data.caption_files.entry import Entry, named
from mmattn.data.caption_files.matching import Pair
from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps, save_attention
from mmattn.maps.geometry import Placement
from mmattn.maps.words import group_words
from mmattn.reports.scores import pictures as module
from mmattn.reports.scores.pictures import Pictures


def pair(key, name=None):
    reference = Entry(1 if name is None else key, ("a",), name, "1")
    return Pair(reference, Entry(key, ("a",), named(key), "1"))


def save(path, size=(300, 200)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size[::-1], 3), 99, np.uint8)).save(path)


def size_of(address):
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).size


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "photos" / "deep" / "b.png")
    save(tmp_path / "secret.png")
    return tmp_path


def shown(folder, *pairs, **options):
    options = {"photos": folder / "photos", "attention": None, "names": {}, **options}
    pictures = Pictures(folder / "out" / "page.html", **options)
    return [pictures.of(each) for each in pairs], pictures.notes


def test_photos_are_found_by_path_or_name_and_made_small(folder):
    found, notes = shown(
        folder, pair("x/a.png"), pair(7, "deep/b.png"), pair("/home/me/photos/deep/b.png")
    )
    assert [size_of(each["photo"]) for each in found] == [(192, 128)] * 3
    assert notes == []


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "link.png", "deep"])
def test_nothing_outside_of_the_folder_is_read(folder, name):
    (folder / "photos" / "link.png").symlink_to(folder / "secret.png")
    (found,), (note,) = shown(folder, pair(name))
    assert found == {}
    assert note == f"photos that are not in photos: 1 ({name})"


def test_what_cannot_be_shown_is_counted(folder):
    (folder / "photos" / "c.png").write_bytes(b"no image")
    _, notes = shown(folder, pair("c.png"), pair("d.png"), pair("e.png"), pair(3))
    assert notes == [
        "photos that cannot be read: 1 (c.png)",
        "photos that are not in photos: 2 (d.png, …)",
        "photos without a name in either file: 1 (1)",
    ]


def test_a_page_has_room_for_so_many_bytes(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1500)
    found, (note,) = shown(folder, pair("a.png"), pair("b.png", "deep/b.png"))
    assert [sorted(each) for each in found] == [["photo"], []]
    assert note.startswith("pictures that the page has no room for: 1 (it holds")


def test_attention_is_a_strip_and_a_link(folder):
    maps = folder / "my maps"
    save(maps / "x" / "a.png.png", (2000, 400))
    (maps / "x" / "a.png.html").write_text("a page")
    save(maps / "b.png.png", (50, 10))
    names = {"x/a.png": Path("x/a.png"), "b.png": Path("b.png"), "c.png": Path("../secret")}
    options = {"photos": None, "attention": maps, "names": names}
    found, notes = shown(folder, *map(pair, [*names, "d.png"]), **options)
    assert size_of(found[0]["strip"]) == (960, 192)
    assert found[0]["link"] == "../my%20maps/x/a.png.html"
    assert found[1]["link"] == "../my%20maps/b.png.png"
    assert found[2:] == [{}, {}]
    assert notes == [
        "images whose attention is not in my maps: 1 (../secret)",
        "no attention: 1 (d.png)",
    ]


def test_numbers_of_attention_are_drawn(folder):
    record = AttentionRecord(
        key="a.png",
        caption="a dog",
        offsets=((0, 1), (2, 5)),
        words=tuple(group_words("a dog", ((0, 1), (2, 5)))),
        cross=Layers(("text.0.cross",), np.full((1, 2, 2, 6), 1 / 6, np.float32)),
        grid=(2, 3),
        prefix=0,
        image=np.zeros((20, 30, 3), np.uint8),
        placement=Placement.resize((20, 30)),
        methods=(MethodMaps("mean of heads", np.full((2, 2, 3), 1 / 6, np.float32)),),
    )
    save_attention(folder / "maps" / "a.png.npz", record)
    options = {"photos": None, "attention": folder / "maps", "names": {"a.png": Path("a.png")}}
    (found,), notes = shown(folder, pair("a.png"), **options)
    assert sorted(found) == ["strip"]
    assert notes == []
    for damage in (lambda path: save_attention(path, replace(record, methods=())), spoil):
        damage(folder / "maps" / "a.png.npz")
        (found,), notes = shown(folder, pair("a.png"), **options)
        assert (found, notes) == ({}, ["attention that cannot be read: 1 (a.png)"])


def spoil(path):
    path.write_bytes(b"no numbers")
