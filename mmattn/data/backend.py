"""The `tokenizers` library, and the one place that knows how it fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Tokenizer

from mmattn.errors import DataError, UserError, one_line

PANIC = "pyo3_runtime"  # the module of what a crash of its Rust code raises


@contextmanager
def backend_errors(what: str, kind: type[UserError] = DataError) -> Iterator[None]:
    """Raise an error of this kind, `what` with the reason, for whatever the library raises inside.

    That is bare Exception; and where merges make no token of the vocabulary, its Rust code panics,
    which is no Exception in Python. Other such things (Ctrl-C, the end of the program) pass.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != PANIC:
            raise
        raise kind(f"{what} ({one_line(error)})") from None


def read_backend(path: Path, kind: type[UserError] = DataError) -> Tokenizer:
    """Read a `tokenizer.json`. Raises this kind of error where it is missing or not a tokenizer."""
    if not path.is_file():
        raise kind(f"{path}: no such file; a tokenizer is a tokenizer.json")
    with backend_errors(f"{path}: not a tokenizer.json", kind):
        return Tokenizer.from_file(str(path))
