"""The values of another library's JSON file, each checked where it is taken."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mmattn.errors import CheckpointError
from mmattn.json_file import read_json

Choice = TypeVar("Choice")
NEEDED: Any = object()  # in the place of a default: there is none


@dataclass(frozen=True)
class Settings:
    """An object of a JSON file; null counts as missing.

    values: what the file says. where: the file, and the place in it, for messages.

    Every method that takes a value raises CheckpointError where the value is of another kind, or
    missing with no default given.
    """

    values: Mapping[str, Any]
    where: str

    def has(self, key: str) -> bool:
        """Return whether there is a value."""
        return self.values.get(key) is not None

    def given(self) -> dict[str, Any]:
        """Return all values that there are."""
        return {key: value for key, value in self.values.items() if value is not None}

    def raw(self, key: str, default: Any = NEEDED) -> Any:
        """Return a value of any kind."""
        value = self.values.get(key)
        if value is not None:
            return value
        if default is NEEDED:
            raise CheckpointError(f"{self.where}: has no {key!r}")
        return default

    def whole(self, key: str, default: Any = NEEDED, *, least: int = 1) -> int:
        """Return a whole number that is not below `least`."""
        value = self.raw(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, f"a whole number, {least} or more")
        return value

    def pair(self, key: str, default: Any = NEEDED) -> tuple[int, int]:
        """Return (height, width), of a list of the two or of one whole number for both."""
        value = self.raw(key, default)
        if not isinstance(value, list):
            side = self.whole(key, default)
            return side, side
        if len(value) != 2:
            raise self.wrong(key, "a whole number, or a height and a width")
        sides = Settings({"height": value[0], "width": value[1]}, f"{self.where}: {key}")
        return sides.whole("height"), sides.whole("width")

    def number(self, key: str, default: Any = NEEDED) -> float:
        """Return a finite number."""
        value = self.raw(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number")
        if not math.isfinite(value):
            raise self.wrong(key, "a finite number")
        return float(value)

    def channels(self, key: str, default: Any = NEEDED) -> tuple[float, ...]:
        """Return a number for each of red, green and blue, of three or of one for all."""
        value = self.raw(key, default)
        values = list(value) if isinstance(value, list | tuple) else [value] * 3
        if len(values) != 3:
            raise self.wrong(key, "three numbers: pictures are read as RGB")
        return tuple(Settings({key: one}, self.where).number(key) for one in values)

    def flag(self, key: str, default: Any = NEEDED) -> bool:
        """Return true or false."""
        value = self.raw(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, table: Mapping[Any, Choice], default: Any = NEEDED) -> Choice:
        """Return what `table` has for the value, or for the default."""
        value = self.raw(key, default)
        if isinstance(value, list | dict) or value not in table:
            raise self.wrong(key, "one of " + ", ".join(map(str, table)))
        return table[value]

    def section(self, key: str, default: Any = NEEDED) -> "Settings":
        """Return an object inside this one."""
        value = self.raw(key, default)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object of names and values")
        return Settings(value, f"{self.where}: {key}")

    def wrong(self, key: str, wanted: str) -> CheckpointError:
        """Return the error that says which value is wrong and what was wanted."""
        shown = repr(self.values.get(key))
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return CheckpointError(f"{self.where}: {key!r} is {shown}; it must be {wanted}")


def read_settings(path: Path) -> Settings:
    """Return what a JSON file holds. Raises CheckpointError where it is missing or damaged."""
    return Settings(read_json(path), str(path))
