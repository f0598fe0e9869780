"""What it means that a file cannot be read: its name or its rights are wrong, or storage failed."""

import errno

from mmattn.errors import DataError, ReadError, one_line

# What is the same at the next try.
LASTING = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM),
        *(errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ),
        errno.EINVAL,  # of a seek to where a damaged file points
    }
)


def passes(error: BaseException) -> bool:
    """Return whether the system failed to read, which it may not do at the next try.

    A decoder's own `OSError`, which says that a file is damaged, has no number.
    """
    return isinstance(error, OSError) and error.errno is not None and error.errno not in LASTING


def failed(name: str, reason: str) -> ReadError:
    """Return the error to raise where storage failed."""
    return ReadError(
        f"{name} cannot be read: {reason}. The disk, the network or a limit of the machine is in "
        "the way, not the data: mend that, and go on"
    )


def unreadable(name: str, error: OSError | ValueError) -> DataError:
    """Return the error to raise where reading a file, which messages call `name`, raised `error`.

    It is a `ReadError` for what may pass.
    """
    reason = getattr(error, "strerror", None) or one_line(error)
    if passes(error):
        return failed(name, reason)
    return DataError(f"{name} cannot be read: {reason}. Check its name and rights.")
