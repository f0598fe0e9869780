"""A record survives the disk exactly; a file that is not one is named in one line."""

import contextlib
import io
import json
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.maps import archive, npz
from mmattn.maps.archive import (
    FORMAT,
    IMAGE_SIDE,
    AttentionRecord,
    Layers,
    MethodMaps,
    load_attention,
    save_attention,
)
from mmattn.maps.geometry import Placement
from mmattn.maps.words import group_words

RNG = np.random.default_rng(0)
SPANS = ((0, 1), (1, 4), (4, 7), (7, 11))


def weights(*shape: int) -> np.ndarray:
    raw = RNG.random(shape, dtype=np.float32)
    return raw / raw.sum(-1, keepdims=True)


def full_record() -> AttentionRecord:
    """Every field filled: 2 layers, 3 heads, 4 tokens, a 3 x 5 grid, 2 prefix tokens."""
    caption = "a snowy owl"
    return AttentionRecord(
        key="birds/owl.jpg",
        caption=caption,
        offsets=SPANS,
        words=tuple(group_words(caption, SPANS)),
        cross=Layers(("text.0.cross", "text.1.cross"), weights(2, 3, 4, 17)),
        grid=(3, 5),
        prefix=2,
        image=RNG.integers(0, 256, (30, 50, 3), dtype=np.uint8),
        placement=Placement.center_crop((30, 50), 20, (12, 20)),
        references=("an owl", "it is snowy"),
        step=120,
        text_self=Layers(("text.0.self",), weights(1, 3, 4, 4)),
        vision_self=Layers(("vision.7.self",), weights(1, 2, 17, 17)),
        methods=(MethodMaps("gradient", RNG.normal(size=(4, 3, 5)).astype(np.float32), True),),
    )


def assert_same(one: AttentionRecord, other: AttentionRecord) -> None:
    for field in fields(AttentionRecord):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "image":
            np.testing.assert_array_equal(a, b)
        elif isinstance(a, Layers):
            assert a.names == b.names
            np.testing.assert_array_equal(a.weights, b.weights)
        elif field.name == "methods":
            assert [(m.title, m.signed) for m in a] == [(m.title, m.signed) for m in b]
            for m, n in zip(a, b, strict=True):
                np.testing.assert_array_equal(m.maps, n.maps)
        else:
            assert a == b, field.name


def test_what_is_written_is_read(tmp_path):
    record = full_record()
    save_attention(tmp_path / "new" / "owl.npz", record)
    assert_same(load_attention(tmp_path / "new" / "owl.npz"), record)
    assert record.tokens == ("a", " sn", "owy", " owl")


def test_a_caption_without_a_word_and_no_extras(tmp_path):
    record = replace(
        full_record(),
        caption="",
        offsets=(),
        words=(),
        references=(),
        step=None,
        cross=Layers(("text.0.cross",), weights(1, 3, 0, 17)),
        text_self=None,
        vision_self=None,
        methods=(),
    )
    save_attention(tmp_path / "empty.npz", record)
    assert_same(load_attention(tmp_path / "empty.npz"), record)


@settings(max_examples=40)
@given(text=st.text(max_size=12), key=st.text(max_size=12), references=st.lists(st.text()))
def test_any_text_survives(tmp_path_factory, text, key, references):
    """Also a NUL at the end, which numpy's own strings drop, and lone surrogates."""
    spans = tuple((i, i + 1) for i in range(len(text)))
    record = replace(
        full_record(),
        key=key,
        caption=text,
        offsets=spans,
        words=tuple(group_words(text, spans)),
        references=tuple(references),
        cross=Layers(("text.0.cross",), weights(1, 1, len(text), 17)),
        text_self=None,
        methods=(),
    )
    path = tmp_path_factory.mktemp("text") / "a.npz"
    save_attention(path, record)
    assert_same(load_attention(path), record)


def test_float16_is_said_in_the_file_and_methods_stay_exact(tmp_path):
    record = full_record()
    tiny = replace(record, methods=(MethodMaps("tiny", np.full((4, 3, 5), 1e-12), False),))
    save_attention(tmp_path / "a.npz", tiny, "float16")
    read = load_attention(tmp_path / "a.npz")
    assert read.cross.weights.dtype == np.float16
    np.testing.assert_array_equal(read.cross.weights, record.cross.weights.astype(np.float16))
    assert read.vision_self is not None
    assert read.vision_self.weights.dtype == np.float16
    np.testing.assert_array_equal(read.methods[0].maps, np.float32(1e-12))


def test_numpy_alone_reads_the_numbers(tmp_path):
    record = full_record()
    save_attention(tmp_path / "a.npz", record)
    with np.load(tmp_path / "a.npz") as arrays:  # allow_pickle is False
        assert int(arrays["format"]) == FORMAT
        np.testing.assert_array_equal(arrays["weights"], record.cross.weights)
        assert arrays["grid"].tolist() == [3, 5]
        assert int(arrays["prefix"]) == 2
        assert json.loads(str(arrays["about"]))["caption"] == record.caption
        listed = archive.__doc__ or ""
        assert [name for name in arrays if name.split("_0")[0] not in listed] == []


def test_a_large_image_is_stored_smaller_and_keeps_its_placement(tmp_path):
    image = RNG.integers(0, 256, (600, 1200, 3), dtype=np.uint8)
    placement = Placement.center_crop((600, 1200), 224, 224)
    record = replace(full_record(), image=image, placement=placement)
    save_attention(tmp_path / "a.npz", record)
    read = load_attention(tmp_path / "a.npz")
    assert read.image.shape == (IMAGE_SIDE // 2, IMAGE_SIDE, 3)
    assert read.placement == placement
    half = read.placement.scaled((256, 512)).box
    assert half == pytest.approx(tuple(edge * 512 / 1200 for edge in placement.box))


def test_the_same_record_gives_the_same_bytes(tmp_path):
    record = full_record()
    for name in ("a", "b"):
        save_attention(tmp_path / name, record)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# ---- files that are not whole, not ours, or not of this format


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        load_attention(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file(tmp_path):
    assert "no such file" in refused(tmp_path / "none.npz")


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9, 0.999])
def test_a_truncated_file(tmp_path, kept):
    path = tmp_path / "cut.npz"
    save_attention(path, full_record())
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert f"format {FORMAT}" in refused(path)


def test_any_damaged_byte_is_read_or_refused(tmp_path):
    """A flipped byte lands in a checksum, a name or a size: never in another kind of error."""
    path = tmp_path / "bad.npz"
    save_attention(path, full_record())
    whole = path.read_bytes()
    outcomes = set()
    for place in np.linspace(0, len(whole) - 1, 300).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            load_attention(path)
            outcomes.add("read")
            continue
        outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def rewritten(path, **changes) -> None:
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays}
    kept |= changes
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})


def test_another_format_names_both_and_the_remedy(tmp_path):
    path = tmp_path / "a.npz"
    save_attention(path, full_record())
    rewritten(path, format=np.array(FORMAT + 6))
    message = refused(path)
    assert f"format {FORMAT + 6}" in message
    assert f"reads format {FORMAT}" in message
    assert "write it again" in message


def test_a_file_from_before_formats_had_numbers_has_format_0(tmp_path):
    path = tmp_path / "a.npz"
    save_attention(path, full_record())
    rewritten(path, format=None)
    assert "format 0" in refused(path)


def test_foreign_files(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    assert "no attention weights" in refused(tmp_path / "other.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "no NPZ archive" in refused(tmp_path / "array.npy")
    with (tmp_path / "array.npy").open("ab") as file:  # an array with an archive behind it
        file.write((tmp_path / "other.npz").read_bytes())
    assert "single array" in refused(tmp_path / "array.npy")
    (tmp_path / "text.npz").write_text("hello")
    assert "pickle" not in refused(tmp_path / "text.npz")


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "a.npz"
    save_attention(path, full_record())
    member = io.BytesIO()
    np.lib.format.write_array(member, np.array([print], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in (members | {"weights.npy": member.getvalue()}).items():
            packed.writestr(name, data)
    assert "allow_pickle=False" in refused(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": np.array([5, 5])},
        {"weights": np.zeros((2, 3, 4, 17), np.int64)},
        {"offsets": np.array([[0, 99]] * 4)},
        {"image": np.zeros((4, 4), np.uint8)},
        {"about": np.array("[]")},
        {"about": np.array('{"key": 1}')},
        {"box": np.array([1.0, 0, 0, 0])},
        {"method_0": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_file_whose_parts_do_not_fit(tmp_path, changes):
    path = tmp_path / "a.npz"
    save_attention(path, full_record())
    rewritten(path, **changes)
    refused(path)


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    save_attention(path, full_record())
    monkeypatch.setattr(npz, "LARGEST", 10_000)
    assert "at most 10,000" in refused(path)


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(Exception, match="float64"):
        save_attention(tmp_path / "a.npz", full_record(), "float64")  # type: ignore[arg-type]
