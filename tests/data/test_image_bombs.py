"""Small files that would fill the memory: refused, or read, within a limit that the system sets."""

import io
import json
import multiprocessing
import resource
import struct
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from mmattn.data.images import read_image
from mmattn.errors import DataError

pytestmark = pytest.mark.fault("F14")

ALLOWED = 96 << 20  # bytes beyond what the process has; decoding any of the bombs needs far more
MEGA = 1 << 20
READ = "read"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *extra, rows=None):
    """A grey PNG of one bit a pixel, all black unless `rows` says otherwise."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes((width + 7) // 8 + 1) * height if rows is None else rows, 9)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PACKED = zlib.compress(bytes(160 * MEGA), 9)


def text_chunk(kind):
    """A chunk of 160 kB that opens to 160 MB."""
    start = {
        b"iTXt": b"note\0\1\0\0\0",  # keyword, compressed, method, language, translated keyword
        b"zTXt": b"note\0\0",
        b"iCCP": b"profile\0\0",
    }
    return chunk(kind, start[kind] + PACKED)


def jpeg(marker, start, segments, size=65_000):
    """A JPEG of 16 x 16 pixels with many full segments of one kind."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    plain = buffer.getvalue()
    segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(start) + size) + start + bytes(size)
    return plain[:2] + segment * segments + plain[2:]


def jpeg_header(width, height):
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3)
    return b"\xff\xd8\xff\xc0" + frame + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"


# name -> (bytes of the file, what must come of it: a part of the message, or READ, or either)
PIXELS = "pixels; the limit is 50,000,000"
BOMBS = {
    "144 megapixels": (png(12_000, 12_000), (PIXELS,)),
    "400 megapixels": (png(20_000, 20_000), (PIXELS, "too large")),
    "65,535 x 65,535 png": (png(65_535, 65_535, rows=b""), (PIXELS, "too large")),
    "65,535 x 65,535 jpeg": (jpeg_header(65_535, 65_535), (PIXELS, "too large", "not an image")),
    "text of 160 MB": (png(8, 8, text_chunk(b"iTXt")), ("cannot be decoded", READ)),
    "old text of 160 MB": (png(8, 8, text_chunk(b"zTXt")), ("cannot be decoded", READ)),
    "profile of 160 MB": (png(8, 8, text_chunk(b"iCCP")), ("cannot be decoded", READ)),
    "exif of 8 MB": (png(8, 8, chunk(b"eXIf", b"II*\0" + bytes(8 * MEGA))), (READ,)),
    "exif in 128 segments": (jpeg(0xE1, b"Exif\0\0II*\0", 128), (READ,)),
    "profile in 128 segments": (jpeg(0xE2, b"ICC_PROFILE\0\1\1", 128), (READ,)),
    "comments in 128 segments": (jpeg(0xFE, b"", 128), (READ,)),
}


def read_all(paths, found):
    """Read every file under the limit, and write down what came of it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED,) * 2)
    results = {}
    for name, path in paths.items():
        try:
            read_image(path)
            results[name] = READ
        except DataError as error:
            results[name] = str(error)
    found.write_text(json.dumps(results))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a process with little memory makes of each file; it must live to tell."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = {name: folder / f"{i}.jpg" for i, name in enumerate(BOMBS)}
    for name, path in paths.items():
        path.write_bytes(BOMBS[name][0])
    found = folder / "found.json"
    process = multiprocessing.get_context("fork").Process(target=read_all, args=(paths, found))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        process.start()
    process.join(timeout=300)
    assert process.exitcode == 0
    return json.loads(found.read_text())


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_read_in_little_memory(results, name):
    assert any(outcome in results[name] for outcome in BOMBS[name][1]), results[name]


@pytest.mark.parametrize("name", BOMBS)
def test_the_files_are_small(name):
    assert len(BOMBS[name][0]) < 9 * MEGA
    if "megapixels" in name or "160 MB" in name:
        assert len(BOMBS[name][0]) < 1.1 * MEGA


def test_the_memory_allowed_is_less_than_any_of_them_needs():
    assert min(144_000_000, 160 * MEGA) > ALLOWED
