"""What a tar file holds, read from its headers alone; nothing is ever unpacked.

Formats: ustar (POSIX.1-1988), pax (POSIX.1-2001), and what GNU tar adds for long names and large
numbers. A header is 512 bytes, contents are padded to that, and two headers of zeros end the file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmattn.data.captions import excerpt
from mmattn.data.images import name_fault
from mmattn.data.problems import Problems

BLOCK = 512
MAX_MEMBERS = 500_000  # of one file; a million pictures belong into more than one shard
MAX_EXTENSION = 1 << 20  # bytes of names and attributes before a member
MAX_NAME = 4096  # bytes

FILE, DIRECTORY = b"0\x007", b"5"
EMPTY = b"123456"  # whatever size the header of a link, a device or a folder tells
GNU_NAME, GNU_LINK, PAX, PAX_ALL = b"L", b"K", b"xX", b"g"
REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"D": "a directory of an incremental backup",
    b"M": "the continuation of a file of another archive",
    b"V": "the label of a volume",
}


@runtime_checkable
class Readable(Protocol):
    """A binary file that can be read anywhere."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place in the file."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A file within a tar file: where its contents begin, and how many bytes they have."""

    name: str
    offset: int
    size: int


class TarError(Exception):
    """What breaks a tar file at some place; whoever reads the file adds its name."""


def tar_members(file: Readable, size: int, problems: Problems) -> list[Member]:
    """Return the regular files within a tar file of `size` bytes, in their order.

    What is wrong goes to `problems`, with the name of the member or the offset of its header: a
    member that is no regular file or has an unsafe name, one twice, and what breaks the format,
    after which nothing is read. Directories are passed over.
    """
    found: dict[str, Member] = {}
    try:
        for header in _headers(file, size):
            fault = _fault(header)
            if fault is None and header.name in found:
                fault = f"is there twice, first at offset {found[header.name].offset - BLOCK:,}"
            if fault is not None:
                problems.add(f"offset {header.start:,}", f"{excerpt(header.name)} {fault}")
            elif header.kind in FILE:
                found[header.name] = Member(header.name, header.start + BLOCK, header.size)
    except TarError as error:
        problems.note(f"{problems.path}:{error}")
    return list(found.values())


@dataclass(slots=True)
class _Header:
    """A member's header; `start` is its offset, its contents begin after it."""

    start: int
    kind: bytes
    name: str
    size: int


def _fault(header: _Header) -> str | None:
    """Return what forbids to use a member, or None."""
    if header.kind == DIRECTORY:
        return None
    if header.kind not in FILE:
        return f"is {REFUSED.get(header.kind, f'of the unknown kind {header.kind!r}')}"
    return name_fault(header.name)


def _headers(file: Readable, size: int) -> Iterator[_Header]:
    """Yield the header of every member, with the names and sizes that extensions give them.

    Raises `TarError` for what breaks the format.
    """
    offset, count, extra = 0, 0, {}
    while (block := _read(file, offset, BLOCK, size)) != bytes(BLOCK):
        count += 1
        if count > MAX_MEMBERS:
            raise TarError(f"offset {offset:,}: more than {MAX_MEMBERS:,} members")
        header = _parse(block, offset)
        if header.kind in PAX:
            extra |= _pax(_extension(file, header, size), offset)
        elif header.kind == PAX_ALL:
            _check_pax_all(_pax(_extension(file, header, size), offset), offset)
        elif header.kind == GNU_NAME:
            extra["path"] = _extension(file, header, size).rstrip(b"\0")
        elif header.kind == GNU_LINK:
            _extension(file, header, size)
        else:
            _extend(header, extra)
            extra = {}
            yield header
        offset = _end(header, size)
    _check_end(file, offset, size)


def _read(file: Readable, offset: int, count: int, size: int) -> bytes:
    """Return `count` bytes. Raises `TarError` where the file ends before."""
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise TarError(f"offset {offset:,}: the file is cut short, it ends at {size:,} bytes")
    return data


def _parse(block: bytes, start: int) -> _Header:
    """Return what 512 bytes say. Raises `TarError` for a wrong checksum, number or name."""
    written = _number(block[148:156], start, "checksum")
    if sum(block) - sum(block[148:156]) + 8 * 0x20 != written:
        raise TarError(f"offset {start:,}: no tar header, or a damaged one: its checksum is wrong")
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    kind = block[156:157]
    # Before POSIX, a directory was told by its name.
    if kind in b"0\0" and name.endswith(b"/"):
        kind = DIRECTORY
    size = 0 if kind in EMPTY else _number(block[124:136], start, "size")
    return _Header(start, kind, _text(prefix + b"/" * bool(prefix) + name, start), size)


def _number(digits: bytes, start: int, what: str) -> int:
    """Return a number of a header: octal digits or, as GNU writes large ones, bytes after 0x80."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:], "big")
    octal = digits.strip(b" \0")
    if not all(digit in b"01234567" for digit in octal):
        raise TarError(
            f"offset {start:,}: no tar header, or a damaged one: its {what} is {digits!r}"
        )
    return int(octal, 8) if octal else 0


def _text(name: bytes, start: int) -> str:
    if len(name) > MAX_NAME:
        raise TarError(
            f"offset {start:,}: a name of {len(name):,} bytes; the limit is {MAX_NAME:,}"
        )
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise TarError(f"offset {start:,}: the name {name[:60]!r} is not UTF-8") from None


def _end(header: _Header, size: int) -> int:
    """Return where the next header begins. Raises `TarError` where the contents do not fit."""
    end = header.start + BLOCK + -(-header.size // BLOCK) * BLOCK
    if end > size:
        raise TarError(
            f"offset {header.start:,}: {excerpt(header.name)} has {header.size:,} bytes by its "
            f"header, and the file ends at {size:,}: it is cut short or damaged"
        )
    return end


def _extension(file: Readable, header: _Header, size: int) -> bytes:
    """Return the contents of a header that only tells of the next one."""
    if header.size > MAX_EXTENSION:
        raise TarError(
            f"offset {header.start:,}: {header.size:,} bytes of names and attributes; the limit is "
            f"{MAX_EXTENSION:,}"
        )
    return _read(file, header.start + BLOCK, header.size, size)


def _pax(data: bytes, start: int) -> dict[str, bytes]:
    r"""Return the records of a pax header, each written "LENGTH KEY=VALUE\n"."""
    found: dict[str, bytes] = {}
    at, end = 0, len(data.rstrip(b"\0"))
    while at < end:
        space = data.find(b" ", at, at + 8)
        digits = data[at:space] if space > at else b""
        record = data[space + 1 : at + int(digits)] if digits.isdigit() else b""
        key, equals, value = record.partition(b"=")
        if not (equals and value.endswith(b"\n") and at + int(digits) <= end):
            raise TarError(f"offset {start:,}: a damaged pax header: {data[at : at + 40]!r}")
        found[key.decode("utf-8", "replace")] = value[:-1]
        at += int(digits)
    return found


def _check_pax_all(found: dict[str, bytes], start: int) -> None:
    """Raise `TarError` for names and sizes that all members would have."""
    odd = [key for key in found if key in ("path", "size", "linkpath") or key.startswith("GNU.sp")]
    if odd:
        raise TarError(f"offset {start:,}: a pax header gives all members the same {odd[0]}")


def _extend(header: _Header, extra: dict[str, bytes]) -> None:
    """Give a header the name and size that extensions before it tell."""
    if any(key.startswith("GNU.sparse.") for key in extra):
        header.kind = b"S"
    if "path" in extra:
        header.name = _text(extra["path"], header.start)
    if "size" in extra and header.kind not in EMPTY:
        digits = extra["size"]
        if not (digits.isdigit() and len(digits) < 20):
            raise TarError(f"offset {header.start:,}: a damaged pax header: size={digits[:40]!r}")
        header.size = int(digits)


def _check_end(file: Readable, offset: int, size: int) -> None:
    """Raise `TarError` unless the second header of zeros is there, and nothing but zeros after."""
    if _read(file, offset + BLOCK, BLOCK, size) != bytes(BLOCK):
        raise TarError(f"offset {offset:,}: one block of zeros, where the end has two")
    offset += 2 * BLOCK
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            raise TarError(
                f"offset {offset:,}: something follows the end of the archive; archives that were "
                "put together with cat must be packed anew"
            )
        offset += len(chunk)
