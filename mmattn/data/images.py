"""Safe decoding: an image file becomes uint8 RGB, or a `DataError` says what is wrong with it."""

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE
from torch import Tensor

from mmattn.data.findings import listing
from mmattn.data.unreadable import passes, unreadable
from mmattn.errors import DataError, ReadError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 50_000_000
# The widest pixel of these formats is RGBA with 16 bits a channel, uncompressed: 8 bytes.
MAX_BYTES = 8 * MAX_PIXELS

_PILLOW = r"PIL\.(Image|ImageFile|\w+ImagePlugin)$"
_PILLOW_IS_QUIET = ("ignore", None, Warning, re.compile(_PILLOW), 0)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Tensor:
    """Return the picture as uint8 RGB [3, height, width], turned upright by its EXIF orientation.

    Transparent pixels are laid on white. 16-bit samples keep their high byte. Of an animation or a
    file with several pages the first picture is read. Colour profiles are not applied. The tensor
    lies channels last in memory, as decoded: torchvision resizes that faster.

    Both limits are checked before any pixel is decoded. Pillow has a limit of its own, about
    179 megapixels, that a larger `max_pixels` does not lift.

    Raises `DataError` if the file is missing, empty, damaged, cut short, too large, of another
    format, or holds 32-bit samples, whose range is unknown; `ReadError` if the disk failed.
    """
    path = Path(path)
    with _opened(path, max_pixels, max_bytes) as image:
        image.load()
        return _upright(image, str(path))


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Return what `read_image` returns of a file that holds `data`; messages call it `name`.

    Raises `DataError` as `read_image` does.
    """
    with _identified(_nonempty(data, name), name, max_pixels) as image:
        image.load()
        return _upright(image, name)


def image_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the bytes of an image file. Raises `DataError` where it is none of allowed size."""
    _check_file(path, max_bytes)
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(str(path), error) from error


def image_header(
    source: Path | bytes, name: str, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> tuple[str, int, int]:
    """Return (format, height, width) as the header of a file, or of its bytes, tells them.

    The format is one of `FORMATS`; the size is that before any turn. Raises `DataError` as
    `read_image` does.
    """
    if isinstance(source, bytes):
        opened = _identified(_nonempty(source, name), name, max_pixels)
    else:
        opened = _opened(source, max_pixels, max_bytes)
    with opened as image:
        return str(image.format), image.height, image.width


def rgb_tensor(image: Image.Image, name: str = "the image") -> Tensor:
    """Return a PIL image as `read_image` returns a file.

    Raises `DataError` where it cannot be decoded, has no pixel, or holds 32-bit samples.
    """
    if not all(image.size):
        raise DataError(f"{name} has {image.width} x {image.height} pixels: give one that has some")
    _quiet_pillow()
    try:
        image.load()
        return _upright(image, name)
    except DataError:
        raise
    except Exception as error:  # see `_opened`
        raise DataError(f"{name} cannot be decoded: {error or type(error).__name__}") from error


def _upright(image: Image.Image, name: str) -> Tensor:
    """Return a loaded picture as RGB, turned upright."""
    turn = _turn(image)
    picture = _rgb(image, name)
    if turn is not None:
        picture = picture.transpose(turn)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def check_images(
    paths: Iterable[Path], *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> None:
    """Read the header of every file; raise one `DataError` that names those which are no images.

    A damaged body is found only by decoding it, which `read_image` does later. About 0.1 ms a file.
    A disk that fails ends it at once, with a `ReadError`.
    """
    faults = [image_fault(path, max_pixels=max_pixels, max_bytes=max_bytes) for path in paths]
    checked, problems = len(faults), [fault for fault in faults if fault]
    if problems:
        head = f"{len(problems):,} of {checked:,} images cannot be used:"
        raise DataError(f"{head}\n{listing(problems)}", problems)


def image_fault(
    path: Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> str | None:
    """Return what makes a file no usable image, its name included, or None; reads its header.

    Raises `ReadError` where the disk failed, which is no fault of the image.
    """
    try:
        with _opened(path, max_pixels, max_bytes):
            return None
    except ReadError:
        raise
    except DataError as error:
        return str(error)


def inside(root: str | Path, name: str) -> Path:
    r"""Return `root / name` after checking that it stays inside `root`, symbolic links followed.

    For names that come from data. Raises `DataError` for an empty or absolute name, a drive letter,
    a backslash, a NUL, a `..` component, or a link whose target lies outside `root`. The same names
    are refused on every system, so that a data set accepted here is accepted elsewhere.
    """
    fault = name_fault(name)
    if fault is None and _leaves(root, name):
        fault = "is a symbolic link, or passes through one, that leaves the folder"
    if fault is None:
        return Path(root, name)
    raise DataError(
        f"The file name {name!r} {fault}. Name a file inside {root} by its path relative to that "
        f"folder, with forward slashes; put the file itself there, not a link to another place."
    )


def name_fault(name: str) -> str | None:
    """Return what makes the text of `name` unsafe as a relative path, or None."""
    if name[:1] != "/" and all(part in ("", ".") for part in name.split("/")):
        return "names no file"
    if "\0" in name:
        return "holds a NUL character"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is absolute"
    if ".." in name.split("/"):
        return "holds '..'"
    return None


def _leaves(root: str | Path, name: str) -> bool:
    """Return whether a symbolic link on the way from `root` to the file `name` leads out of `root`.

    Without a link on the way the answer is no, and one cheap look at each step is enough.
    """
    try:
        steps = accumulate(name.split("/"), os.path.join, initial=os.fspath(root))
        if not any(map(_is_link, islice(steps, 1, None))):
            return False
        return not Path(root, name).resolve().is_relative_to(Path(root).resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long
        path = str(Path(root, name))
        raise DataError(f"The path {path!r} cannot be followed: {error}. Mend it.") from error


def _is_link(path: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextmanager
def _opened(path: Path, max_pixels: int, max_bytes: int) -> Iterator[Image.Image]:
    """Open `path` with its header read and its limits checked; every failure is a `DataError`."""
    _check_file(path, max_bytes)
    with _identified(path, str(path), max_pixels) as image:
        yield image


@contextmanager
def _identified(source: Path | BytesIO, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Read the header of a picture called `name`; every failure until the end is a `DataError`."""
    _quiet_pillow()
    try:
        with Image.open(source, formats=FORMATS) as image:
            _check_size(name, image, max_pixels)
            yield image
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _unknown(source, name) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{name} is too large: {error}; the limit here is {max_pixels:,} pixels. "
            f"Make the picture smaller or leave it out."
        ) from error
    # Hostile bytes make Pillow's decoders raise almost any type, from struct.error to MemoryError.
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise unreadable(name, error) from error
        raise DataError(
            f"{name} cannot be decoded: {error or type(error).__name__}. The file is damaged or "
            f"cut short: copy or download it again, or leave it out."
        ) from error


def _nonempty(data: bytes, name: str) -> BytesIO:
    """Return the bytes to read from. Raises `DataError` where there is none."""
    if not data:
        raise DataError(f"{name} is empty (0 bytes). Copy or download it again, or leave it out.")
    return BytesIO(data)


def _check_file(path: Path, max_bytes: int) -> None:
    """Raise `DataError` unless `path` is a regular file (a pipe would block) of allowed size."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise unreadable(str(path), error) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a regular file. Name an image file.")
    if status.st_size == 0:
        raise DataError(f"{path} is empty (0 bytes). Copy or download it again, or leave it out.")
    if status.st_size > max_bytes:
        raise DataError(
            f"{path} has {status.st_size:,} bytes; the limit is {max_bytes:,}. "
            f"Make the picture smaller or leave it out."
        )


def _check_size(name: str, image: Image.Image, max_pixels: int) -> None:
    """Raise `DataError` if the header promises more pixels than allowed."""
    width, height = image.size
    if width * height > max_pixels:
        raise DataError(
            f"{name} has {width:,} x {height:,} = {width * height:,} pixels; the limit is "
            f"{max_pixels:,}. Make the picture smaller or leave it out."
        )


def _unknown(source: Path | BytesIO, name: str) -> DataError:
    """Say what a file that is no image begins with: often a web page saved under its name."""
    try:
        if isinstance(source, BytesIO):
            head = source.getvalue()[:24]
        else:
            with source.open("rb") as file:
                head = file.read(24)
    except OSError as error:
        return unreadable(name, error)
    return DataError(
        f"{name} is not an image, or its header is damaged: it begins with {head!r}. Formats read: "
        f"{', '.join(FORMATS)}. Download it again, convert it, or leave it out."
    )


def _quiet_pillow() -> None:
    """Let Pillow's image readers give no warnings: here a file is either read or refused.

    One filter for those modules, and not `warnings.catch_warnings` around each file: that swaps the
    process's filters (unsafe with threads) and makes Python forget which warnings it has shown.
    """
    if _PILLOW_IS_QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the turn that puts a loaded image upright; Pillow has already turned a TIFF."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    # Broken metadata is no fault of the pixels: viewers show such a picture as it is stored.
    except Exception as error:
        if passes(error):
            raise
        return None


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """Return `image` in mode RGB, transparency laid on white."""
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name} holds 32-bit samples, whose range is unknown. Convert it to 8 or 16 bits."
        )
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which would copy
    layer = image.convert("RGBA")
    picture = Image.new("RGB", layer.size, "white")
    picture.paste(layer, mask=layer.getchannel("A"))
    return picture


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 (TIFF: also 12) bits with its 8 highest bits, in mode L.

    Pillow's own conversion clips at 255; its readers of 16-bit colour keep the high byte, as here.
    """
    bits = getattr(image, "tag_v2", {}).get(BITSPERSAMPLE, (16,))[0]
    return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
