"""A saved picture is the picture, to the last bit, and never half of it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmattn.maps.png import encoded, save_png

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (224, 384, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 65)])
@pytest.mark.parametrize("kind", ["noise", "flat", "ramp", "view"])
def test_another_decoder_reads_the_same_pixels(size, kind):
    height, width = size
    noise = RNG.integers(0, 256, (2 * height, width, 3), dtype=np.uint8)
    picture = {
        "noise": noise[:height],
        "flat": np.full((*size, 3), 200, np.uint8),
        "ramp": np.tile((np.arange(width, dtype=np.uint8) * 3)[None, :, None], (height, 1, 3)),
        "view": noise[::2, ::-1, ::-1],
    }[kind]
    with Image.open(io.BytesIO(encoded(picture))) as read:
        read.verify()  # the check sums
    with Image.open(io.BytesIO(encoded(picture))) as read:
        assert (read.format, read.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(read), picture)


def test_a_saved_picture_is_the_picture(tmp_path):
    path = tmp_path / "run" / "step 1.png"
    save_png(path, PHOTO)
    save_png(str(path), PHOTO[:, ::-1])
    with Image.open(path) as saved:
        assert saved.format == "PNG"
        np.testing.assert_array_equal(np.asarray(saved), PHOTO[:, ::-1])
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_is_replaced_and_never_written_over(tmp_path):
    path = tmp_path / "a.png"
    save_png(path, PHOTO[:32])
    with path.open("rb") as reader:  # someone looks at the old picture while the new one comes
        save_png(path, PHOTO)
        with Image.open(reader) as old:
            np.testing.assert_array_equal(np.asarray(old), PHOTO[:32])


def test_a_failed_save_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_png(path, PHOTO)
    before = path.read_bytes()

    def half(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        save_png(path, PHOTO[::-1])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "picture", [PHOTO / 255, PHOTO[..., 0], PHOTO[:0]], ids=["float", "grey", "empty"]
)
def test_what_is_no_rgb_picture_is_refused_before_a_file_is_touched(tmp_path, picture):
    with pytest.raises(ValueError, match="uint8 RGB"):
        save_png(tmp_path / "a.png", picture)
    assert list(tmp_path.iterdir()) == []
