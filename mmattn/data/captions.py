"""Caption text from files: strict reading, cleaning, and all problems of one file in one error."""

import codecs
import gzip
import re
import unicodedata
import zlib
from io import BytesIO
from pathlib import Path
from typing import NoReturn

from mmattn.data.problems import Problems
from mmattn.errors import ConfigError, DataError, one_line

MAX_BYTES = 1 << 30

_GZIP = b"\x1f\x8b"
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_lines(path: str | Path, encoding: str = "utf-8") -> list[str]:
    r"""Return the lines of a text file without their ends; line i of the file is entry i - 1.

    A file that gzip packed is unpacked, whatever it is called. Decoding is strict. A byte-order
    mark is dropped; \n, \r\n and \r all end a line, and no other character does.
    Raises `DataError` if the file is missing, empty or over 1 GiB, and one that
    names line and byte offset of every line with undecodable bytes or a NUL; `ConfigError` if
    Python has no text encoding of this name.
    """
    path = Path(path)
    data = _unpacked(path, _read_bytes(path))
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise ConfigError(f"encoding={encoding!r}: {error}. Try 'utf-8' or 'latin-1'.") from error
    except UnicodeError as error:
        _raise_not_text(path, data, encoding, str(error))
    if "\0" in text:
        _raise_not_text(path, data, encoding, "it holds NUL characters")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text.removesuffix("\n").split("\n")


def clean_caption(text: str) -> str | None:
    """Return `text` in NFC with each run of white space made one space, or None if none is visible.

    Characters that only format, such as a zero-width space, do not count as visible; inside a
    caption they stay, since joiners are part of emoji and of some scripts. Words and punctuation
    are left alone: this is what metrics compare with. Raises `DataError` for half a surrogate pair,
    which no file can hold as text.
    """
    if not is_writable(text):
        raise DataError(f"The caption {excerpt(text)} holds half a surrogate pair. Write it anew.")
    text = " ".join(unicodedata.normalize("NFC", text).split())
    visible = any(character.isprintable() and character != " " for character in text)
    return text if visible else None


def is_writable(text: str) -> bool:
    """Return whether a file can hold a text: JSON may spell half a surrogate pair, no file can."""
    return _SURROGATE.search(text) is None


def excerpt(text: str, length: int = 60) -> str:
    """Return the beginning of `text`, quoted and with control characters escaped, for a message."""
    return repr(text[:length]) + ("…" if len(text) > length else "")


def _read_bytes(path: Path) -> bytes:
    """Return the whole file; raise `DataError` if it is no readable, non-empty, sensible file."""
    try:
        if not path.is_file():
            raise DataError(f"{path} is not a file. Check the name.")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(
                f"{path} has {size:,} bytes; the limit for a text file is {MAX_BYTES:,}. "
                f"Check that this is the right file."
            )
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check its rights.") from error
    if not data:
        raise DataError(f"{path} is empty (0 bytes). Copy or download it again.")
    return data


def _unpacked(path: Path, data: bytes) -> bytes:
    """Return what gzip packed, and any other data as it is; the limit holds for both."""
    if not data.startswith(_GZIP):
        return data
    try:
        with gzip.GzipFile(fileobj=BytesIO(data)) as file:
            unpacked = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be unpacked: {one_line(error)}. Copy or download it again."
        ) from error
    if len(unpacked) > MAX_BYTES:
        raise DataError(
            f"{path} has more than {MAX_BYTES:,} bytes when unpacked, the limit for a text file. "
            f"Check that this is the right file."
        )
    if not unpacked:
        raise DataError(f"{path} is empty when unpacked. Copy or download it again.")
    return unpacked


def _raise_not_text(path: Path, data: bytes, encoding: str, reason: str) -> NoReturn:
    """Raise `DataError` naming each line of `data` that is not `encoding` text or holds a NUL.

    Undecoded UTF-16 and UTF-32 cannot be cut into lines: `reason`, which names the offset, is all.
    """
    own, mark = "latin-1", ""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        own, mark = "utf-16", "It begins with a UTF-16 byte-order mark. "
    remedy = f"{mark}Save it as {encoding}, or with training data name its own (encoding={own!r})."
    problems = Problems(path)
    if not codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        _find_bad_lines(problems, data, encoding)
    problems.raise_if_any(remedy)
    raise DataError(f"{path} is not {encoding} text: {reason}. {remedy}")


def _find_bad_lines(problems: Problems, data: bytes, encoding: str) -> None:
    """Add to `problems` the first byte that is not text of every such line."""
    offset = 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        at, what = line.find(b"\0"), "NUL character"
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            at, what = error.start, f"0x{line[error.start]:02x} is not {encoding}"
        if at >= 0:
            problems.add(number, f"byte offset {offset + at:,}: {what}")
        offset += len(line)
