"""The JSON files beside our shards: indexes, and the list of shards."""

import json
from collections.abc import Mapping
from typing import Any

from mmattn.data.labelled.json_values import fields_fault
from mmattn.errors import DataError


def read_own(
    data: bytes, name: str, fields: Mapping[str, tuple[type, ...]], version: int, remedy: str
) -> dict[str, Any]:
    """Return the object in a file that messages call `name`.

    Args:
        data: what the file holds.
        name: of the file.
        fields: field -> the types that its value may have.
        version: of the format, which the field "format" must name.
        remedy: ends the message.

    Raises:
        DataError: for no JSON, a field that lacks or is of another type, and another format.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: no JSON ({error}). {remedy}") from None
    fault = fields_fault(value, {"format": (int,), **fields})
    if fault is None and value["format"] != version:
        fault = f"format {value['format']}, and this version of mmattn reads {version}"
    if fault is not None:
        raise DataError(f"{name}: {fault}. {remedy}")
    return value
