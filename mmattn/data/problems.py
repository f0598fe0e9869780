"""What is wrong with a data set of several files, told at once and not one file after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmattn.errors import DataError


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
