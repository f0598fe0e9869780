"""What a check found: one line, and what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mmattn.errors import one_line

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of a report.

    Args:
        level: `ok`; `note`, which runs bear; `problem`, which stops some of them.
        name: what was looked at.
        text: what was seen.
        remedy: what to do, "" where nothing needs doing.
    """

    level: Level
    name: str
    text: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def found_by(name: str, check: Check) -> list[Finding]:
    """Return what a check finds; one that cannot even look is a problem of its own."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:  # of drivers, of file systems, of broken packages
        reason = f"cannot be looked at ({type(error).__name__}: {one_line(error)})"
        found.append(Finding("problem", name, reason, "install or set up again what this names"))
    return found
