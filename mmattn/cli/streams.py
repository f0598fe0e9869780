"""Printing where the terminal, or a log, knows fewer letters than we do."""

import io
import sys


def print_anything() -> None:
    """Let a letter that stdout or stderr cannot encode be escaped, instead of ending a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
