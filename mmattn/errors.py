"""The errors that are the user's to mend: each says what, where and the remedy; the CLI exits 2."""

from collections.abc import Sequence


class UserError(ValueError):
    """Something in the user's input is wrong. The message is all the user needs to see."""

    exit_code = 2  # of a command that this ends


class ConfigError(UserError):
    """A configuration key or value is wrong."""


class DataError(UserError):
    """A data file, folder, image or caption is wrong.

    `problems` names each of several things that are wrong, also those for which the message has no
    room; it is empty where the message is about one thing. `unlisted` is how many more there are.
    """

    def __init__(self, message: str, problems: Sequence[str] = (), unlisted: int = 0):
        super().__init__(message)
        self.problems, self.unlisted = tuple(problems), unlisted


class ReadError(DataError):
    """A disk, a network or the machine failed while something was read; another try may succeed.

    That says nothing against the data, so no other sample stands in for one that was lost to it.
    The CLI exits with EX_IOERR, 74.
    """

    exit_code = 74


class CheckpointError(UserError):
    """A checkpoint does not fit the model, the tokenizer or this version of the library."""


class DiskError(UserError):
    """The disk has refused too often for training to be safe. The CLI exits with EX_IOERR, 74."""

    exit_code = 74


class TrainingError(UserError):
    """Training cannot go on with these settings, or with this data."""


def one_line(error: BaseException) -> str:
    """Return another library's message in one line, the error's kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
