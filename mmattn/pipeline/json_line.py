"""One line of JSON."""

import json
from collections.abc import Mapping
from typing import Any


def json_line(value: Mapping[str, Any]) -> bytes:
    """Return an object as one line of UTF-8, with its line break.

    Text is written as it is, but where it holds what is no text: Python so calls files whose names
    are no UTF-8. Then it is escaped.
    """
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value) + "\n").encode()
