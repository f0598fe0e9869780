"""Rows of a table, whether CSV, TSV or JSONL: column to cell, and the line where each begins."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.data.captions import excerpt, read_lines
from mmattn.data.labelled.json_values import read_jsonl
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """A row of a table: where it begins, counted from 1, and its cells by column.

    Cells of CSV and TSV are texts, those of JSONL any JSON value; an absent one is not there.
    """

    line: int
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table: its names of columns, its rows, and whether all its cells are texts.

    `name` is its path below the folder of the data set.
    """

    path: Path
    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    is_text: bool


def check_format(file: str) -> None:
    """Raise `ConfigError` for a file whose ending tells no format that can be read."""
    if Path(file).suffix.lower() not in (*DELIMITERS, *JSON_LINES):
        raise ConfigError(
            f"{file}: the ending tells the format, and it must be one of "
            f"{', '.join((*DELIMITERS, *JSON_LINES))}"
        )


def read_table(root: Path, name: str, encoding: str = "utf-8", *, quotes: bool = True) -> Table:
    """Read the table `name` in `root`; its format is told by the ending of its name.

    CSV and TSV need a header. With `quotes`, a cell that begins with a quotation mark must end with
    one, may go over several lines, and doubles those within; without, they are text like any other.

    Raises:
        DataError: names every line that is not what the format asks for, a header without a name or
            with one twice, and rows of another number of cells than the header.
    """
    path = root / name
    if path.suffix.lower() in JSON_LINES:
        rows = tuple(Row(line, cells) for line, cells in read_jsonl(path, encoding))
        columns = dict.fromkeys(name for row in rows for name in row.cells)
        return Table(path, name, tuple(columns), rows, is_text=False)
    problems = Problems(path)
    lines = _split_cells(path, encoding, quotes, problems)
    header = next(lines, (1, []))
    columns = _columns(header, problems)
    rows = []
    for line, cells in lines:
        if len(cells) == len(columns):
            rows.append(Row(line, dict(zip(columns, cells, strict=True))))
        else:
            problems.add(line, f"{len(cells)} cells, and the header has {len(columns)}")
    problems.raise_if_any(
        "A cell that holds the delimiter, a line break or a quotation mark must stand in quotation "
        "marks, with those inside it doubled."
    )
    return Table(path, name, columns, tuple(rows), is_text=True)


def _split_cells(
    path: Path, encoding: str, quotes: bool, problems: Problems
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of the rows that are not blank; what breaks the format ends the reading.

    After an unclosed quotation mark nobody knows where a cell ends.
    """
    lines = (f"{line}\n" for line in read_lines(path, encoding))
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    delimiter = DELIMITERS[path.suffix.lower()]
    reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    start = 1
    try:
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        problems.add(start, f"not in the format: {error}; nothing after it was read")


def _columns(header: tuple[int, list[str]], problems: Problems) -> tuple[str, ...]:
    """Return the names in the header; add to `problems` what is wrong with it."""
    line, names = header
    names = [name.strip() for name in names]
    if not any(names):
        problems.add(line, "there is no header, that is a first line with the names of the columns")
    elif not all(names):
        problems.add(line, f"the name of column {names.index('') + 1} is empty")
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            problems.add(line, f"{count} columns are called {excerpt(name)}")
    return tuple(names)
