"""How the commands without Hydra end."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from mmattn.errors import UserError

# As a shell reports a program that SIGINT or SIGPIPE ended.
INTERRUPTED, NO_READER = 130, 141
FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EEXIST: "move it away, or give another path",
    errno.ENOTDIR: "give a path in a folder",
    errno.EISDIR: "give a file, or move the folder away",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path on another disk",
    **dict.fromkeys(FULL, "free some, or give a path on another disk"),
}


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """End the program as its user expects where the input, a file or the reader of stdout fails.

    A mistake in the input, or a file that cannot be read or written, is one line and exit code 2;
    Ctrl-C one line and 130. Where stdout is closed, as by `| head`, it ends without a word.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(NO_READER) from None
    except UserError as error:
        _end(str(error), error, error.exit_code)
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise  # no file that the user could mend
        _end(file_trouble(error), error, 2)
    except KeyboardInterrupt as error:
        _end("interrupted", error, INTERRUPTED)


def file_trouble(error: OSError) -> str:
    """Return the path, the reason and a remedy in one line."""
    path = error.filename2 or error.filename
    where = "" if path is None else f"{path}: "
    reason = error.strerror or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0, "give another path")
    return f"{where}{reason[:1].lower()}{reason[1:]}; {remedy}"


def _end(line: str, error: BaseException, code: int) -> NoReturn:
    """Print one line and end the program, or raise the error where its place is asked for."""
    if os.environ.get("MMATTN_TRACEBACK") == "1":
        raise error
    with suppress(OSError):
        print(line if code == INTERRUPTED else f"error: {line}", file=sys.stderr)
    raise SystemExit(code) from None


def _discard_output() -> None:
    """Let Python write what is left of stdout to nowhere, so that it does not complain at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
