"""What the commands without Hydra share: how they end where the user made a mistake."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmattn.errors import UserError


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """End the program with exit code 2 and one line where the input is wrong."""
    try:
        yield
    except UserError as error:
        if os.environ.get("MMATTN_TRACEBACK") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
