"""What is wrong with a data set, told at once: all lines of a file, and all files of a set."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmattn.errors import DataError


class Problems:
    """What is wrong with one text file, gathered line by line and told in one `DataError`.

    The message shows the first ten, the error's `problems` are the first 10,000, so that a file of
    another kind costs no memory; all are counted, and `unlisted` says how many are left.
    """

    shown, kept = 10, 10_000

    def __init__(self, path: Path | str):
        self.path = path
        self.count = 0
        self._first: list[str] = []

    def add(self, line: int | str, what: str) -> None:
        """Note that a line, counted from 1, or an entry such as "questions[17]" is wrong."""
        self.note(f"{self.path}:{line}: {what}")

    def note(self, problem: str) -> None:
        """Note a problem that names its place itself."""
        self.count += 1
        if self.count <= self.kept:
            self._first.append(problem)

    def raise_if_any(self, remedy: str) -> None:
        """Raise `DataError` with the count, the first problems and the remedy, if there are any."""
        if not self.count:
            return
        head = f"{self.path} has {self.count:,} problem{'s' if self.count > 1 else ''}:"
        more = self.count - self.shown
        tail = [f"  and {more:,} more"] if more > 0 else []
        lines = [f"  {line}" for line in self._first[: self.shown]]
        unlisted = self.count - len(self._first)
        raise DataError("\n".join([head, *lines, *tail, remedy]), self._first, unlisted)


class PartlyReadError(DataError):
    """Something in a data set is wrong, and the rest of it could be read: `splits`."""

    def __init__(
        self,
        message: str,
        problems: tuple[str, ...] = (),
        splits: Any = None,
        unlisted: int = 0,
    ):
        super().__init__(message, problems, unlisted)
        self.splits = splits


class Gathered:
    """The errors of steps that can go on without each other, raised as one."""

    def __init__(self):
        self._errors: list[DataError] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Keep the `DataError` that a step raises for later."""
        try:
            yield
        except DataError as error:
            self._errors.append(error)

    def __bool__(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._errors)

    def raise_if_any(self, splits: Any = None) -> None:
        """Raise one `PartlyReadError` with all that was kept; `splits` are what could be read."""
        if self._errors:
            message = "\n".join(map(str, self._errors))
            unlisted = sum(error.unlisted for error in self._errors)
            problems = problems_of(*self._errors)
            raise PartlyReadError(message, problems, splits, unlisted) from self._errors[0]


def problems_of(*errors: DataError) -> tuple[str, ...]:
    """Return each thing that is wrong: those that an error lists, or its message."""
    return tuple(line for error in errors for line in error.problems or (str(error),))
