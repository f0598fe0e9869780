"""PIL images of every mode, arrays and tensors: the same picture, the same bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.data.images import read_image
from mmattn.errors import DataError
from mmattn.pipeline.in_memory import from_array, from_pil, from_tensor

LIMIT = 10**6


@pytest.fixture(scope="module")
def pixels():
    """A picture [5, 7, 3] of which every pixel is another."""
    return np.arange(105, dtype=np.uint8).reshape(5, 7, 3) * np.uint8(2)


def shown(tensor):
    """Return [3, h, w] as [h, w, 3]."""
    assert tensor.dtype == torch.uint8
    return tensor.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "RGBX", "P", "L", "LA", "1", "CMYK", "YCbCr", "HSV"]
)
def test_a_pil_image_is_read_as_its_file_or_its_conversion_is(pixels, mode, tmp_path):
    image = Image.fromarray(pixels).convert(mode)
    found = shown(from_pil(image, "it", LIMIT))
    assert np.array_equal(found, np.asarray(image.convert("RGB")))
    if mode in ("RGB", "RGBA", "P", "L", "LA", "1"):
        image.save(tmp_path / "a.png")
        assert np.array_equal(found, shown(read_image(tmp_path / "a.png")))


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (2, 1), (200, 100, 0, 0))
    image.putpixel((1, 0), (200, 100, 0, 255))
    assert shown(from_pil(image, "it", LIMIT)).tolist() == [[[255, 255, 255], [200, 100, 0]]]


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_sixteen_bits_keep_the_high_byte(mode):
    image = Image.new(mode, (3, 2), 0x8123)
    assert set(from_pil(image, "it", LIMIT).flatten().tolist()) == {0x81}


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_says_which_side_is_up(pixels, turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        found = from_pil(image, "it", LIMIT)
    assert torch.equal(found, read_image(tmp_path / "a.png"))
    assert found.shape == ((3, 5, 7) if turn < 5 else (3, 7, 5))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_a_mode_of_unknown_range_is_refused(mode):
    with pytest.raises(DataError, match="photo 3 holds 32-bit samples"):
        from_pil(Image.new(mode, (2, 2)), "photo 3", LIMIT)


def test_no_pixel_and_too_many_are_refused():
    with pytest.raises(DataError, match="photo 3 has 0 x 5 pixels"):
        from_pil(Image.new("RGB", (0, 5)), "photo 3", LIMIT)
    with pytest.raises(
        DataError, match=r"2,000 x 1,000 = 2,000,000 pixels; the limit is 1,000,000.*max_pixels"
    ):
        from_pil(Image.new("1", (2000, 1000)), "photo 3", LIMIT)


def test_an_opened_file_that_is_cut_short_or_closed_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with Image.open(path) as image, pytest.raises(DataError, match="photo 3 cannot be decoded"):
        from_pil(image, "photo 3", LIMIT)
    with Image.open(path) as image:
        pass
    with pytest.raises(DataError, match="photo 3 cannot be decoded"):
        from_pil(image, "photo 3", LIMIT)


def test_threads_may_read_the_same_opened_file(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    for _ in range(10):
        together = threading.Barrier(4)
        with Image.open(tmp_path / "a.png") as image, ThreadPoolExecutor(4) as pool:

            def read(_, image=image, together=together):
                together.wait()
                return from_pil(image, "it", LIMIT)

            found = list(pool.map(read, range(4)))
        assert all(np.array_equal(shown(one), noise) for one in found)


def test_an_array_of_any_layout_is_the_same_picture(pixels):
    locked = pixels.copy()
    locked.flags.writeable = False
    floats = pixels / 255
    for array in [
        *(pixels, locked, np.asarray(Image.fromarray(pixels)), np.asfortranarray(pixels)),
        *(pixels[::-1][::-1], np.dstack([pixels, np.full((5, 7), 255, np.uint8)])),
        *(floats, floats.astype(np.float32), floats.astype(np.float16), floats.astype(">f4")),
    ]:
        assert np.array_equal(shown(from_array(array, "it")), pixels)


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 1), (1, 1), (3, 3), (3, 4)])
def test_grey_arrays_of_two_or_three_dimensions(shape):
    grey = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    for array in (grey, grey[..., None], grey / 255):
        found = shown(from_array(array, "it"))
        assert np.array_equal(found, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (1, 1, 3), (1, 1, 4), (1, 1, 1)])
def test_a_picture_of_one_row_or_column_keeps_its_shape(shape):
    assert shown(from_array(np.full(shape, 255, np.uint8), "it")).shape == (*shape[:2], 3)


def test_transparent_arrays_are_laid_on_white():
    array = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    assert shown(from_array(array, "it")).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (
            np.zeros((3, 5, 7), np.uint8),
            r"shape \(3, 5, 7\) is no image: give \[height, width, 3\]",
        ),
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\) is no image"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\) is no image"),
        (np.zeros((5, 0)), r"shape \(5, 0\) is no image"),
        (np.zeros((5, 7), np.uint16), "pixels of uint16: give uint8, or floats from 0 to 1"),
        (np.zeros((5, 7), int), "pixels of int64"),
        (np.zeros((5, 7), bool), "pixels of bool"),
        (np.zeros((5, 7), complex), "pixels of complex128"),
        (np.zeros((5, 7), object), "pixels of object"),
        (np.full((5, 7), "a"), "pixels of <U1"),
        (np.zeros((5, 7), "M8[s]"), "pixels of datetime64"),
        (np.full((5, 7), 1.5), "pixels from 1.5 to 1.5: floats must be from 0 to 1"),
        (np.full((5, 7), -0.1), "pixels from -0.1 to -0.1"),
        (np.full((5, 7), np.nan), "pixels from nan to nan"),
        (np.full((5, 7), np.inf), "pixels from inf to inf"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, said):
    with pytest.raises(DataError, match=f"^photo 3: .*{said}"):
        from_array(array, "photo 3")


def test_a_tensor_of_any_layout_is_the_same_picture(pixels):
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    floats = tensor / 255
    for one in [
        *(tensor, tensor.contiguous(), tensor.clone(), floats, floats.double(), floats.half()),
        floats.clone().requires_grad_(),
    ]:
        assert np.array_equal(shown(from_tensor(one, "it")), pixels)


def test_bfloat16_is_as_exact_as_it_can_be(pixels):
    floats = (torch.from_numpy(pixels).permute(2, 0, 1) / 255).bfloat16()
    found = from_tensor(floats, "it")
    assert torch.equal(found, (floats.double() * 255).round().to(torch.uint8))


def test_grey_tensors_of_two_or_three_dimensions():
    grey = torch.arange(12, dtype=torch.uint8).view(3, 4)
    for tensor in (grey, grey[None], grey / 255):
        assert torch.equal(from_tensor(tensor, "it"), grey.expand(3, 3, 4))


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(5, 7, 3), r"shape \(5, 7, 3\) is no image: give \[3, height, width\]"),
        (torch.zeros(4, 5, 7), r"shape \(4, 5, 7\) is no image"),
        (torch.zeros(3, 0, 7), r"shape \(3, 0, 7\) is no image"),
        (torch.zeros(3, 5, 7, dtype=torch.long), "pixels of int64"),
        (torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)), "not normalised"),
        (torch.full((3, 5, 7), float("nan")), "pixels from nan to nan"),
    ],
)
def test_tensors_that_are_no_pictures_are_refused(tensor, said):
    with pytest.raises(DataError, match=f"^photo 3: .*{said}"):
        from_tensor(tensor, "photo 3")
