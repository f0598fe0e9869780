"""Decoding: every kind of good file gives the right pixels, every kind of bad one a `DataError`."""

import errno
import io
import os
import pickle
import resource
import struct
import tempfile
import warnings
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mmattn.data.images import (
    MAX_PIXELS,
    check_images,
    decode_image,
    image_bytes,
    image_fault,
    image_header,
    inside,
    read_image,
)
from mmattn.errors import DataError, ReadError

PHOTO = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG written by hand: any size and depth, without going through Pillow."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def black_png(side):
    """A true one-bit PNG, all black: a few kilobytes for hundreds of megapixels."""
    return png(side, side, 1, 0, bytes((side + 7) // 8 + 1) * side)


def grey_tiff(samples, bits, data):
    """A one-row TIFF written by hand, for depths that Pillow reads and does not write."""
    entries = [
        (256, 4, samples),
        (257, 4, 1),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, len(data)),
    ]
    data += b"\0" * (len(data) % 2)
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return start + data + struct.pack("<H", len(entries)) + fields + bytes(4)


@pytest.fixture
def read(tmp_path):
    """Write bytes to a file and read them as an image: [height, width, 3]."""

    def read_bytes(data, **options):
        path = tmp_path / "picture"
        path.write_bytes(data)
        image = read_image(path, **options)
        assert torch.equal(decode_image(data, "picture", **options), image)
        return image.permute(1, 2, 0).numpy()

    return read_bytes


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_very_pixels(read, format):
    assert np.array_equal(read(encode(Image.fromarray(PHOTO), format)), PHOTO)


def test_lossless_webp_gives_the_very_pixels(read):
    assert np.array_equal(read(encode(Image.fromarray(PHOTO), "WEBP", lossless=True)), PHOTO)


def test_the_result_is_uint8_channels_first(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PHOTO).save(path)
    image = read_image(str(path))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 12, 20)
    image[0, 0, 0] = 7  # writable, and no warning about read-only memory


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_what_pillow_decodes(read, progressive):
    data = encode(Image.fromarray(PHOTO), "JPEG", quality=95, progressive=progressive)
    assert np.array_equal(read(data), np.asarray(Image.open(io.BytesIO(data))))


GREY = PHOTO[..., 0]


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (Image.fromarray(GREY), "PNG", np.stack([GREY] * 3, -1)),
        (Image.new("L", (8, 8), 77), "JPEG", np.full((8, 8, 3), 77)),
        (Image.fromarray(GREY > 127), "PNG", np.stack([(GREY > 127) * np.uint8(255)] * 3, -1)),
        (Image.fromarray(GREY > 127), "TIFF", np.stack([(GREY > 127) * np.uint8(255)] * 3, -1)),
        (Image.new("P", (3, 2), 1), "PNG", None),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF", np.full((8, 8, 3), RED)),
        (Image.fromarray(PHOTO).convert("YCbCr"), "TIFF", None),
    ],
    ids=["grey", "grey-jpeg", "bits", "bits-tiff", "palette", "cmyk", "ycbcr"],
)
def test_modes(read, image, format, expected):
    # Pillow 12.3 cannot read the uncompressed YCbCr TIFF that it writes.
    options = {"compression": "tiff_lzw"} if image.mode == "YCbCr" else {}
    pixels = read(encode(image, format, **options))
    assert pixels.shape == (image.height, image.width, 3)
    if expected is None:
        expected = np.asarray(image.convert("RGB"))
        assert np.abs(pixels.astype(int) - expected).max() <= 12
    else:
        assert np.array_equal(pixels, expected)


def test_lab_black_is_black(read):
    assert read(encode(Image.new("LAB", (4, 4), (0, 128, 128)), "TIFF")).max() <= 1


@pytest.mark.fault("F13")
def test_cmyk_jpeg_is_red_and_not_its_inverse(read):
    pixels = read(encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - RED).max() < 8


def test_palette_colours(read):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    assert read(encode(image, "PNG")).tolist() == [[[*RED], [*GREEN]]]


def test_sixteen_bits_keep_the_high_byte_in_grey_as_in_colour(read):
    values = np.array([[0, 255, 256, 0x1234, 0x80FF, 0xFFFF]], dtype=np.uint16)
    grey = read(encode(Image.fromarray(values), "PNG"))
    colour = read(png(6, 1, 16, 2, b"\0" + values.repeat(3).astype(">u2").tobytes()))
    assert grey[0, :, 0].tolist() == [0, 0, 1, 0x12, 0x80, 0xFF]
    assert np.array_equal(grey, colour)
    assert np.array_equal(grey, read(encode(Image.fromarray(values), "TIFF")))


def test_twelve_bit_tiff_is_not_read_as_nearly_black(read):
    data = bytes([0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00])  # 0xfff, 0x000, 0x800, 0x000
    assert read(grey_tiff(4, 12, data))[0, :, 0].tolist() == [0xFF, 0, 0x80, 0]


@pytest.mark.fault("F13")
def test_alpha_is_laid_on_white(read):
    layer = Image.new("RGBA", (3, 1))
    layer.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (255, 0, 0, 128)])
    opaque, clear, half = read(encode(layer, "PNG"))[0].tolist()
    assert (opaque, clear) == ([*RED], [*WHITE])
    assert half[0] == 255
    assert half[1] == half[2] == pytest.approx(127, abs=1)


def test_grey_with_alpha_and_a_transparent_colour(read):
    layer = Image.new("LA", (2, 1))
    layer.putdata([(10, 255), (10, 0)])
    assert read(encode(layer, "PNG"))[0].tolist() == [[10] * 3, [*WHITE]]
    keyed = png(2, 1, 8, 0, b"\0\x0a\x14", chunk(b"tRNS", struct.pack(">H", 10)))
    assert read(keyed)[0].tolist() == [[*WHITE], [20] * 3]


@pytest.mark.fault("F13")
def test_transparent_palette_entries_are_white(read):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putdata([0, 1])
    assert read(encode(image, "PNG", transparency=b"\x00\xff"))[0].tolist() == [[*WHITE], [*GREEN]]
    assert read(encode(image, "GIF", transparency=0))[0].tolist() == [[*WHITE], [*GREEN]]


@pytest.mark.fault("F13")
@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_the_first_picture_of_several(read, format):
    frames = [Image.new("RGB", (8, 6), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as check:
        assert check.n_frames == 2
    assert np.array_equal(read(data), np.full((6, 8, 3), RED))


# The EXIF standard: what the eight orientations ask a viewer to do to the stored rows.
TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.fault("F13")
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(read, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(Image.fromarray(PHOTO), format, exif=exif, **options)
    assert np.array_equal(read(data), TURNS[orientation](PHOTO))


def test_exif_orientation_of_a_jpeg(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    half_red = Image.new("RGB", (64, 32), "white")
    half_red.paste(RED, (0, 0, 32, 32))
    pixels = read(encode(half_red, "JPEG", exif=exif))
    assert pixels.shape == (64, 32, 3)  # lying 64 x 32, upright 32 x 64
    assert np.abs(pixels[:24].astype(int) - RED).max() < 12
    assert np.abs(pixels[40:].astype(int) - WHITE).max() < 12


def test_sixteen_bit_grey_is_turned_too(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    values = (np.arange(6, dtype=np.uint16).reshape(2, 3) + 1) << 8
    data = encode(Image.fromarray(values), "PNG", exif=exif)
    assert read(data)[..., 0].tolist() == [[4, 1], [5, 2], [6, 3]]


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0"]
)
def test_broken_exif_leaves_the_picture_as_stored(read, exif):
    data = encode(Image.fromarray(PHOTO), "JPEG", exif=exif)
    assert read(data).shape == PHOTO.shape


@pytest.mark.slow
@pytest.mark.fault("F13")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_two_hundred_truncations_all_raise(read, format):
    """Cut anywhere but in the last bytes, which some formats have no need of."""
    data = encode(Image.fromarray(np.tile(PHOTO, (4, 4, 1))), format)
    for cut in np.linspace(0, len(data) - 40, 200).astype(int).tolist():
        with pytest.raises(DataError):
            read(data[:cut])


# ------------------------------------------------------------- what is refused


def jpeg_header(width, height):
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8\xff\xc0" + frame + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"


def webp_header(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


JPEG = encode(Image.fromarray(PHOTO), "JPEG")
PNG = encode(Image.fromarray(PHOTO), "PNG")
LONG_TEXT = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(50_000_000), 9))
BAD = {
    "empty": (b"", "is empty"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "begins with b'<!DOCTYPE html"),
    "text": (b"not an image at all", "not an image"),
    "zip": (b"PK\x03\x04" + bytes(40), "not an image"),
    "pickle": (pickle.dumps(PHOTO.tolist()), "not an image"),
    "one byte": (b"\xff", "not an image"),
    "jpeg: magic only": (JPEG[:3], "cannot be decoded|not an image"),
    "jpeg: half": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "jpeg: last byte lost": (JPEG[:-1], "cannot be decoded"),
    "jpeg: noise behind the magic": (JPEG[:3] + bytes(range(256)), "cannot be|not an image"),
    "jpeg: 65,535 x 65,535 header": (jpeg_header(65535, 65535), "pixels.*limit|not an image"),
    "jpeg: no pixels": (jpeg_header(0, 0), "cannot be decoded|not an image"),
    "png: half": (PNG[: len(PNG) // 2], "cannot be decoded"),
    "png: header only": (PNG[:33], "cannot be decoded|not an image"),
    "png: 50 MB of text in 50 kB": (png(1, 1, 8, 0, b"\0\0", LONG_TEXT), "cannot be decoded"),
    "gif: no frame": (b"GIF89a\x08\x00\x08\x00\x00\x00\x00;", "not an image|cannot be"),
    "webp: 16,384 x 16,384 header": (webp_header(16384, 16384), "not an image|cannot be|pixels"),
    "tiff: directory lost": (b"II*\0\xff\xff\xff\x7f", "not an image|cannot be"),
    "tiff: float": (encode(Image.new("F", (4, 4)), "TIFF"), "32-bit samples"),
    "tiff: 32-bit": (encode(Image.new("I", (4, 4)), "TIFF"), "32-bit samples"),
    "format not allowed: ppm": (encode(Image.fromarray(PHOTO), "PPM"), "not an image"),
    "format not allowed: ico": (encode(Image.fromarray(PHOTO), "ICO"), "not an image"),
    "format not allowed: eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "not an image",
    ),
}


@pytest.mark.fault("F13")
@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_by_name(tmp_path, kind):
    data, message = BAD[kind]
    path = tmp_path / "bad one.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"bad one.jpg.*({message})") as caught:
        read_image(path)
    assert str(caught.value).endswith(".")
    with pytest.raises(DataError) as of_bytes:
        decode_image(data, str(path))
    assert str(of_bytes.value) == str(caught.value)


def test_a_header_tells_format_and_size(tmp_path):
    path = tmp_path / "picture"
    for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"):
        path.write_bytes(encode(Image.fromarray(PHOTO), format))
        expected = (format, *PHOTO.shape[:2])
        assert image_header(path, "x") == image_header(image_bytes(path), "x") == expected
    path.write_bytes(b"")
    for read in (lambda: image_header(path, "x"), lambda: image_header(b"", "x")):
        with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
            read()
    with pytest.raises(DataError, match="is empty"):
        image_bytes(path)
    with pytest.raises(DataError, match=r"144 pixels; the limit is 100"):
        image_header(encode(Image.new("L", (12, 12)), "PNG"), "x", max_pixels=100)


@pytest.mark.fault("F13")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_truncation_is_noticed(read, format):
    data = encode(Image.fromarray(PHOTO), format)
    for cut in range(0, len(data) - 20, max(1, len(data) // 40)):
        with pytest.raises(DataError):
            read(data[:cut])


def test_truncated_files_stay_refused_after_many_reads(read):
    read(JPEG)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_not_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path, message in [
        (tmp_path, "not a regular file"),
        (tmp_path / "pipe.jpg", "not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (tmp_path / "absent.jpg", "absent.jpg.*No such file"),
        (tmp_path / "a\0b.jpg", "cannot be read"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "half\ud800.jpg", "cannot be read"),
    ]:
        with pytest.raises(DataError, match=message):
            read_image(path)


@pytest.mark.fault("F14")
@pytest.mark.parametrize("side", [9_000, 12_000, 20_000])
def test_bombs_are_refused_before_decoding(tmp_path, side):
    """Pillow says nothing at 81 megapixels, warns at 144 and raises at 400; here all are refused.

    The memory allowed is far less than any of the three would need.
    """
    path = tmp_path / "bomb.png"
    path.write_bytes(black_png(side))
    assert path.stat().st_size < 80_000
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), hard))
    try:
        with pytest.raises(DataError, match=r"pixels.*limit") as caught:
            read_image(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert f"{MAX_PIXELS:,}" in str(caught.value)
    assert str(side * side) in str(caught.value).replace(",", "")


def test_limits_are_inclusive_and_named_with_both_numbers(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert read_image(path, max_pixels=240, max_bytes=len(PNG)).shape == (3, 12, 20)
    with pytest.raises(DataError, match=r"20 x 12 = 240 pixels; the limit is 239"):
        read_image(path, max_pixels=239)
    with pytest.raises(DataError, match=rf"{len(PNG)} bytes; the limit is {len(PNG) - 1}"):
        read_image(path, max_bytes=len(PNG) - 1)


# A JPEG whose EXIF directory is cut off and a TIFF with a cut tag: Pillow warns about both.
WARNS = encode(Image.fromarray(PHOTO), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")


def test_pillow_warnings_do_not_leak_and_others_do(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(WARNS)
    with pytest.warns(UserWarning, match="EXIF"), Image.open(path) as image:
        image.getexif().get(0x0112)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (3, 12, 20)
        filters = len(warnings.filters)
        read_image(path)
        assert len(warnings.filters) == filters
        with pytest.raises(UserWarning, match="mine"):
            warnings.warn("mine", stacklevel=1)


FUZZED = {
    "JPEG": JPEG,
    "PNG": PNG,
    "WEBP": encode(Image.fromarray(PHOTO), "WEBP"),
    "BMP": encode(Image.fromarray(PHOTO), "BMP"),
    "GIF": encode(Image.fromarray(PHOTO), "GIF"),
    "TIFF": encode(Image.fromarray(PHOTO), "TIFF", compression="tiff_lzw"),
}


def read_or_refuse(data):
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        try:
            image = read_image(file.name)
        except DataError:
            return
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
        assert image.shape[1] * image.shape[2] <= MAX_PIXELS


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)))


@pytest.mark.fault("F13")
@settings(max_examples=200)
@given(st.sampled_from(sorted(FUZZED)), edits, st.floats(0, 1))
def test_fuzzed_images_are_read_or_refused(format, edits, kept):
    data = bytearray(FUZZED[format])
    for place, patch in edits:
        at = int(place * len(data))
        data[at : at + len(patch)] = patch
    read_or_refuse(bytes(data[: int(kept * len(data)) + 1]))


@settings(max_examples=100)
@given(st.sampled_from([data[:16] for data in FUZZED.values()] + [b""]), st.binary(max_size=200))
def test_random_bytes_are_refused(start, data):
    read_or_refuse(start + data)


@contextmanager
def no_more_files():
    """Let this process open no further file: EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    "reads", [read_image, image_bytes, image_fault, lambda path: check_images([path])]
)
@pytest.mark.parametrize("data", [JPEG, b"<html>"])
def test_what_a_machine_cannot_open_is_no_bad_image(tmp_path, reads, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with suppress(DataError):  # once without the limit: decoders are imported when they are needed
        read_image(path)
    with no_more_files(), pytest.raises(ReadError) as caught:
        reads(path)
    assert str(caught.value).startswith(f"{path} cannot be read: Too many open files")
    assert caught.value.exit_code == 74


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EIO, ReadError),
        (errno.ESTALE, ReadError),
        (errno.ENOENT, DataError),
        (errno.EACCES, DataError),
        (errno.ENAMETOOLONG, DataError),
    ],
)
def test_a_disk_that_fails_is_told_from_a_file_that_is_not_there(
    tmp_path, monkeypatch, number, kind
):
    def fail(path, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", fail)
    with pytest.raises(DataError, match=os.strerror(number)) as caught:
        read_image(tmp_path / "a.jpg")
    assert type(caught.value) is kind


def test_check_images_names_all_bad_files_in_one_error(tmp_path):
    for i in range(15):
        (tmp_path / f"good{i}.png").write_bytes(PNG)
        (tmp_path / f"bad{i:02}.png").write_bytes(b"<html>")
    check_images(tmp_path.glob("good*"))
    with pytest.raises(DataError, match="15 of 30 images cannot be used") as caught:
        check_images(sorted(tmp_path.iterdir()))
    message = str(caught.value)
    assert "bad00.png" in message
    assert "bad09.png" in message
    assert "bad10.png" not in message
    assert message.endswith("and 5 more")


def test_check_images_reads_headers_only(tmp_path):
    path = tmp_path / "cut.jpg"
    path.write_bytes(JPEG[:-100])
    check_images([path])
    with pytest.raises(DataError, match="limit is 10"):
        check_images([path], max_pixels=10)


# ---------------------------------------------------------------- inside(root)


@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "./",
        "..",
        "../secret.jpg",
        "a/../../secret.jpg",
        "a/..",
        "/etc/passwd",
        "//host/share",
        "C:\\x.jpg",
        "c:x.jpg",
        "C:/x.jpg",
        "a\\b.jpg",
        "..\\secret.jpg",
        "a\0.jpg",
        "a.jpg\0.png",
    ],
)
def test_unsafe_names_are_refused(tmp_path, name):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError) as caught:
        inside(tmp_path, name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["x.jpg", "a/x.jpg", "./a/x.jpg", "a..b.jpg", "...", "ü ñ.jpg", "~"]
)
def test_safe_names_are_joined(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name
    assert inside(str(tmp_path), name) == tmp_path / name


@pytest.mark.fault("F19")
def test_links_may_stay_inside_and_not_leave(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "real" / "x.jpg").write_bytes(JPEG)
    (outside / "secret.jpg").write_bytes(JPEG)
    (root / "good.jpg").symlink_to("real/x.jpg")
    (root / "alias").symlink_to("real")
    (root / "bad.jpg").symlink_to("../outside/secret.jpg")
    (root / "real" / "door").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    assert inside(root, "good.jpg") == root / "good.jpg"
    assert inside(root, "alias/x.jpg") == root / "alias" / "x.jpg"
    for name in ["bad.jpg", "real/door/secret.jpg", "alias/door/secret.jpg"]:
        with pytest.raises(DataError, match="leaves the folder"):
            inside(root, name)
    with pytest.raises(DataError):
        read_image(inside(root, "loop"))


def test_the_root_may_itself_be_a_link(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.jpg").write_bytes(JPEG)
    (tmp_path / "root").symlink_to("real")
    assert inside(tmp_path / "root", "x.jpg") == tmp_path / "root" / "x.jpg"
    monkeypatch.chdir(tmp_path / "real")
    (tmp_path / "real" / "out").symlink_to("/")
    assert inside(".", "x.jpg") == Path("x.jpg")
    with pytest.raises(DataError, match="leaves"):
        inside(".", "out/etc")


@pytest.mark.fault("F19")
@given(st.text(st.sampled_from("ab./\\:\0~ C"), max_size=12))
def test_what_is_accepted_stays_inside(name):
    with tempfile.TemporaryDirectory() as root:
        try:
            path = inside(root, name)
        except DataError:
            return
        assert Path(os.path.realpath(path)).is_relative_to(Path(os.path.realpath(root)))
        assert "\0" not in name
