"""Where shards lie: a folder here, or anything that fsspec reads (s3://, gs://, https://, …)."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from mmattn.data.captions import MAX_BYTES
from mmattn.data.images import inside, name_fault
from mmattn.data.unreadable import failed, unreadable
from mmattn.data.urls import without_credentials
from mmattn.errors import ConfigError, DataError, ReadError, UserError, one_line

T = TypeVar("T")
STARS = re.compile(r"[*?[]")
ATTEMPTS = 3  # of a request, with 0.5 s and 1 s between
# What is answered again at the next try; the numbers are those of HTTP.
REFUSALS = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
    NotImplementedError,
)
REFUSED = (401, 403, 404, 410)


@runtime_checkable
class Storage(Protocol):
    """Files by their names below a root. Every failure is a `DataError` that names the file, and a
    `ReadError` where another try may succeed.

    Names may come from data: those that leave the root are refused. What a process has open, it has
    opened itself, so that one may be handed to other processes. `root` is what messages call it.
    """

    root: str

    def names(self, pattern: str) -> list[str]:
        """Return the names that match a pattern (`train/*.tar`), sorted.

        Raises `ConfigError` for stars in the names of folders where only one can be listed.
        """
        ...

    def read(self, name: str) -> bytes:
        """Return a whole file of at most 1 GiB."""
        ...

    def read_range(self, name: str, offset: int, count: int) -> bytes:
        """Return `count` bytes of a file from `offset` on."""
        ...

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        ...

    def open(self, name: str) -> AbstractContextManager[Any]:
        """Lend an open binary file; what goes wrong with it in the block is told as elsewhere."""
        ...


def storage(root: str | Path, open_files: int = 16) -> Storage:
    """Return the storage that a folder or a URL means.

    `open_files` bounds how many files of a folder each process keeps open at a time.

    Raises:
        ConfigError: for a URL that nothing here reads or that has a query, and for WebDataset's
            `pipe:`, which would run a command.
    """
    text = str(root)
    if text.startswith("pipe:"):
        raise ConfigError(f"{text}: commands are not run; give a folder, or a URL such as s3://…")
    if open_files < 1:
        raise ConfigError(f"open_files={open_files}: give 1 or more")
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return LocalFolder(Path(text), open_files)
    if "?" in text:
        raise ConfigError(
            f"{without_credentials(text)}: names of shards are put after the root, so it has no "
            "query: leave it out, and give what opens the place as fsspec takes it, by environment "
            "variables (AWS_…, FSSPEC_PROTOCOL_OPTION) or in ~/.config/fsspec"
        )
    return RemoteFolder(text)


class LocalFolder:
    """The `Storage` of a folder on this machine."""

    def __init__(self, root: Path, open_files: int):
        self.folder = root.expanduser().absolute()
        self.root, self.open_files = str(self.folder), open_files
        self._keep_open()

    def _keep_open(self) -> None:
        self._opened = lru_cache(maxsize=self.open_files)(_open_anew)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "root": self.root, "open_files": self.open_files}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._keep_open()

    def names(self, pattern: str) -> list[str]:
        """Return the names that match a pattern."""
        found = self.folder.glob(pattern) if name_fault(pattern) is None else ()
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        check_size(self.size(name), f"{self.root}/{name}")
        return self._told(name, lambda path: path.read_bytes())

    def read_range(self, name: str, offset: int, count: int) -> bytes:
        """Return some bytes of a file that stays open."""
        # The number of the process is part of the key: a worker opens files of its own.
        process = os.getpid()
        data = self._told(name, lambda path: self._opened(process, path).read_at(offset, count))
        return checked(data, offset, count, f"{self.root}/{name}")

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return self._told(name, lambda path: path.stat().st_size)

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """Lend an open binary file."""
        with self._told(name, lambda path: path.open("rb")) as file:
            try:
                yield file
            except OSError as error:
                raise unreadable(f"{self.root}/{name}", error) from None

    def _told(self, name: str, read: Callable[[Path], T]) -> T:
        path = inside(self.folder, name)
        try:
            return read(path)
        except OSError as error:
            raise unreadable(str(path), error) from None


class _OpenFile:
    """A file that is closed when the last one who reads it lets go; threads may share it."""

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDONLY)

    def read_at(self, offset: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, offset)

    def __del__(self):
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def _open_anew(process: int, path: Path) -> _OpenFile:
    return _OpenFile(path)


class RemoteFolder:
    """The `Storage` of a URL. A request that fails is made again, twice.

    No message says the user and the password in a URL.
    """

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self.root = without_credentials(self._url)
        filesystem(self._url, os.getpid())  # a wrong URL is better known now

    def __repr__(self) -> str:
        return f"RemoteFolder({self.root!r})"

    def names(self, pattern: str) -> list[str]:
        """Return the names that match a pattern. Raises `DataError` where nothing can be listed."""
        folder = pattern.rpartition("/")[0]
        if STARS.search(folder):
            raise ConfigError(
                f"{self.root}: {pattern}: at a URL, stars stand behind the last slash only: name "
                "the folders, as in {a,b}/*.tar"
            )
        listed = self._asked(folder, lambda fs, path: fs.ls(path, detail=False))
        names = [f"{folder}/{str(path).rstrip('/').rpartition('/')[2]}" for path in listed]
        plain = sorted(name.removeprefix("/") for name in names)
        return [name for name in plain if fnmatchcase(name, pattern)]

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        check_size(self.size(name), f"{self.root}/{name}")
        return self._asked(name, lambda fs, path: fs.cat_file(path))

    def read_range(self, name: str, offset: int, count: int) -> bytes:
        """Return some bytes of a file: one request."""
        end = offset + count
        data = self._asked(name, lambda fs, path: fs.cat_file(path, start=offset, end=end))
        return checked(data, offset, count, f"{self.root}/{name}")

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        size = self._asked(name, lambda fs, path: fs.size(path))
        if size is None:
            raise DataError(f"{self.root}/{name}: the server does not tell its size")
        return int(size)

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """Lend an open binary file."""
        with self._asked(name, lambda fs, path: fs.open(path, "rb")) as file:
            try:
                yield file
            except UserError:
                raise
            except Exception as error:
                raise _failure(f"{self.root}/{name}", error) from None

    def _asked(self, name: str, ask: Callable[[Any, str], T]) -> T:
        """Return what a request gives."""
        where = f"{self.root}/{name}" if name else self.root
        fault = name_fault(name) if name else None
        if fault is not None:
            raise DataError(f"{self.root}: the name {name!r} {fault}")
        fs, path = filesystem(self._url, os.getpid())
        for attempt in range(ATTEMPTS):
            try:
                return ask(fs, f"{path.rstrip('/')}/{name}".rstrip("/"))
            # Every protocol has errors of its own, and many are over after a moment.
            except Exception as error:
                failure = _failure(where, error)
                if attempt == ATTEMPTS - 1 or not isinstance(failure, ReadError):
                    raise failure from None
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


@lru_cache(maxsize=16)
def filesystem(root: str, process: int) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, one for each process, and the path in it."""
    from fsspec.core import url_to_fs  # here, for most data lie in a folder

    try:
        return url_to_fs(root)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{without_credentials(root)}: {_reason(error)}") from None


def _failure(where: str, error: Exception) -> DataError:
    """Return the error to raise where a protocol raised one; a `ReadError` if it may pass."""
    # At a web server, fsspec calls every failure to learn a size a file that is not there.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    if isinstance(cause, Exception) and not isinstance(cause, LookupError):
        error = cause
    if isinstance(error, REFUSALS) or getattr(error, "status", None) in REFUSED:
        return DataError(f"{where} cannot be read: {_reason(error)}")
    return failed(where, _reason(error))


def _reason(error: Exception) -> str:
    """Return what a protocol says, which may be the whole URL."""
    return without_credentials(one_line(error))


def check_size(size: int, where: str) -> None:
    """Raise `DataError` for more than a text file may have."""
    if size > MAX_BYTES:
        raise DataError(f"{where} has {size:,} bytes; the limit is {MAX_BYTES:,}")


def checked(data: bytes, offset: int, count: int, where: str) -> bytes:
    """Return what was read. Raises `DataError` unless it is as much as was asked for."""
    if len(data) != count:
        raise DataError(
            f"{where} gave {len(data):,} bytes where {count:,} from offset {offset:,} were asked "
            "for: it was cut short or changed after its index was written, or its server does not "
            "give parts of files"
        )
    return data
