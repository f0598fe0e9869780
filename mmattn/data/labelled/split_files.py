"""Which file belongs to which split, and how people write the names of splits."""

import re
from collections.abc import Mapping
from typing import Any

from mmattn.data.findings import nearest
from mmattn.errors import ConfigError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
_TEST_SET = re.compile(r"test[/_-](.+)")


def split_name(cell: Any) -> str | None:
    """Return "train", "val", "test" or "test/NAME" for what people write, None for all else."""
    if not isinstance(cell, str):
        return None
    name = cell.strip()
    several = _TEST_SET.fullmatch(name)
    return f"test/{several[1]}" if several else SPLIT_NAMES.get(name.lower())


def files_by_split(files: Mapping[str, Any], key: str = "files") -> dict[str, Any]:
    """Return split -> file of a mapping that the configuration calls `key`.

    Raises:
        ConfigError: for a split that is none or comes twice, and where there is none to train on.
    """
    named: dict[str, Any] = {}
    for written, name in files.items():
        split = split_name(written)
        if split is None:
            raise ConfigError(f"{key}.{written} is no split{nearest(written, SPLIT_NAMES)}")
        if split in named:
            raise ConfigError(f"{key} has {split} twice: {named[split]} and {name}")
        named[split] = name
    if "train" not in named:
        raise ConfigError(f"{key} has {', '.join(named) or 'nothing'}, and no train")
    return named


def table_files(
    file: str | None, files: Mapping[str, str] | None, split_column: str | None
) -> dict[str, str]:
    """Return split -> table; a single table stands as that of training.

    Raises:
        ConfigError: unless either `file` or `files` is given, and a column of splits with `file`
            alone; and as `files_by_split`.
    """
    if (file is None) == (files is None):
        raise ConfigError("give either file (one table) or files (one for each split)")
    if files is not None and split_column is not None:
        raise ConfigError("files says what belongs to a split, and columns.split too: give one")
    return files_by_split(files if files is not None else {"train": file})
