"""JSON and JSONL files read strictly, and the types of their fields checked by name."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mmattn.data.captions import excerpt, read_lines
from mmattn.data.findings import nearest
from mmattn.data.problems import Problems
from mmattn.errors import DataError

NAMES: Mapping[type, str] = {
    str: "a text",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class NoNumberError(ValueError):
    """A value that Python's parser takes for a number and JSON does not have."""


def read_json(path: Path, encoding: str = "utf-8") -> Any:
    """Return what a JSON file holds. Raises `DataError` naming the line where it is no JSON."""
    return parse_json(path, read_lines(path, encoding))


def parse_json(path: Path, lines: Sequence[str]) -> Any:
    """Return what the lines of a JSON file hold. Raises `DataError` as `read_json` does."""
    text = "\n".join(lines)
    try:
        return _parse(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: {_no_json(error)}. Copy or download the file again."
        ) from None
    except NoNumberError as error:
        raise DataError(f"{path}:{_line_of_no_number(text)}: {error}. Correct the file.") from None
    except ValueError as error:
        raise DataError(f"{path}: {error}. Correct the file.") from None


def read_jsonl(path: Path, encoding: str = "utf-8") -> list[tuple[int, dict[str, Any]]]:
    """Return (line, object) for every line that is not blank.

    Raises:
        DataError: names every line that is not one JSON object.
    """
    problems = Problems(path)
    found = []
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if not line.strip():
            continue
        try:
            value = _parse(line)
        except json.JSONDecodeError as error:
            problems.add(number, f"{_no_json(error)}: {excerpt(line)}")
        except ValueError as error:
            problems.add(number, str(error))
        else:
            if isinstance(value, dict):
                found.append((number, value))
            else:
                problems.add(number, f"{type_name(value)}, where an object was expected")
    problems.raise_if_any("Each line must be one JSON object, with names and values in braces.")
    return found


def fields_fault(value: Any, wanted: Mapping[str, tuple[type, ...]]) -> str | None:
    """Return what is wrong with an object that must have fields of these types, or None.

    True and false are no integers here, and an integer is a number.
    """
    if not isinstance(value, dict):
        return f"{type_name(value)}, where an object was expected"
    for name, types in wanted.items():
        if name not in value:
            return f"no field {name!r}{nearest(name, value)}"
        if not is_any(value[name], types):
            expected = " or ".join(NAMES[kind] for kind in types)
            return f"{name!r} is {type_name(value[name])}, where {expected} was expected"
    return None


def is_any(value: Any, types: tuple[type, ...]) -> bool:
    """Return whether a JSON value is of one of the types."""
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) or (isinstance(value, int) and float in types)


def type_name(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return NAMES[type(value)]


def _parse(text: str) -> Any:
    """Return a JSON value. Raises `ValueError` for what is no JSON, or reads as two things."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("brackets nested too deep") from None
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        if "int_max_str_digits" in str(error):  # Python's advice is of no use to whoever has a file
            raise ValueError("a number has thousands of digits") from None
        raise


def _no_json(error: json.JSONDecodeError) -> str:
    """Return what is wrong with a text, and at which column of its line."""
    return f"no JSON: {error.msg.removesuffix(' at')} at column {error.colno}"


def _line_of_no_number(text: str) -> int:
    """Return the line of the first NaN or Infinity, which Python reads, but not within a text."""
    words = re.finditer(r'"(?:[^"\\]|\\.)*"|NaN|Infinity', text)
    first = next(word for word in words if not word[0].startswith('"'))
    return text.count("\n", 0, first.start()) + 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {excerpt(twice)} twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise NoNumberError(f"{name} is no JSON number")
