"""From the rows of one manifest file to examples, with everything that is wrong in one error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mmattn.data.captions import excerpt
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.cells import (
    DEFAULT_SEPARATOR,
    CellError,
    is_missing,
    read_images,
    read_label,
    read_text,
    read_words,
)
from mmattn.data.labelled.example import Example, Label
from mmattn.data.labelled.manifest_columns import HeadColumn, InputColumns
from mmattn.data.labelled.tables import Row, Table
from mmattn.data.problems import Gathered, Problems

T = TypeVar("T")
LIST_MARKS = "|;,"  # what people put between the labels of a cell


@dataclass(frozen=True)
class ManifestRows:
    """Reads the rows of tables by the columns that the configuration names."""

    inputs: InputColumns
    heads: Mapping[str, HeadColumn]

    def examples(
        self, table: Table, gathered: Gathered, notes: list[str]
    ) -> list[tuple[Row, Example]]:
        """Return the rows that have a label, with their examples; a note names the others.

        Rows that cannot be read are left out; `gathered` names all with something wrong in them.

        Raises:
            DataError: names the columns that the table lacks.
        """
        problems = Problems(table.path)
        self._check_columns(table, problems)
        heads = {name: _with_separator(head, table) for name, head in self.heads.items()}
        found = [
            (row, example)
            for row in table.rows
            if (example := self._example(table, row, heads, problems))
        ]
        self._check_several(found, problems)
        with gathered.step():
            remedy = "Correct these rows, or the columns and heads of the configuration."
            problems.raise_if_any(remedy)
        unlabelled = [f"line {row.line}" for row, example in found if not example.labels]
        if unlabelled:
            notes.append(f"{table.name}: rows without any label, left out: {some(unlabelled)}")
        return [(row, example) for row, example in found if example.labels]

    def _check_columns(self, table: Table, problems: Problems) -> None:
        """Raise `DataError` for columns that the table lacks: all their cells would be missing."""
        wanted = {
            "columns.key": self.inputs.key,
            "columns.text": self.inputs.text,
            "columns.split": self.inputs.split,
            **{f"columns.image ({name})": name for name in self.inputs.images},
            **{f"heads.{name}.column": head.column for name, head in self.heads.items()},
        }
        for key, column in wanted.items():
            if column is not None and column not in table.columns:
                what = f"no column {excerpt(column)}{nearest(column, table.columns)}"
                problems.add(1, f"{what}, which {key} names")
        shown = ", ".join(table.columns)
        problems.raise_if_any(f"The columns are: {shown}.")

    def _example(
        self, table: Table, row: Row, heads: Mapping[str, HeadColumn], problems: Problems
    ) -> Example | None:
        """Return the example of a row, None if something is wrong in it."""
        before = problems.count
        images = self._images(row, problems)
        text = self._text(row, problems)
        labels = {
            name: label
            for name, head in heads.items()
            if (label := _cell(row, head.column, lambda c, h=head: read_label(c, h), problems))
            is not None
        }
        if problems.count == before:
            self._check_row(row, images, text, labels, problems)
        if problems.count > before:
            return None
        place = f"{table.name}:{row.line}"
        key = self._key(row, place, problems)
        return Example(key, labels, images, text, place) if key else None

    def _key(self, row: Row, place: str, problems: Problems) -> str | None:
        """Return the name of an example; the place where it was read, if no column has one."""
        if self.inputs.key is None:
            return place
        cell = row.cells.get(self.inputs.key)
        if is_missing(cell) or isinstance(cell, (list, dict)):
            problems.add(row.line, f"no key in the column {excerpt(self.inputs.key)}")
            return None
        return str(cell).strip()

    def _images(self, row: Row, problems: Problems) -> tuple[str, ...]:
        found = [_cell(row, name, read_images, problems) or () for name in self.inputs.images]
        if any(found) and not all(found):
            pairs = zip(self.inputs.images, found, strict=True)
            lacking = ", ".join(column for column, images in pairs if not images)
            problems.add(row.line, f"one image of several: nothing in {lacking}")
        return tuple(name for images in found for name in images)

    @property
    def _has_words(self) -> bool:
        return any(head.spec.kind == "words" for head in self.heads.values())

    def _text(self, row: Row, problems: Problems) -> str | tuple[str, ...] | None:
        if self.inputs.text is None:
            return None
        return _cell(row, self.inputs.text, read_words if self._has_words else read_text, problems)

    def _check_row(
        self,
        row: Row,
        images: tuple[str, ...],
        text: str | tuple[str, ...] | None,
        labels: Mapping[str, Label],
        problems: Problems,
    ) -> None:
        """Add to `problems` what is wrong between the cells of a row."""
        if not images and text is None:
            problems.add(row.line, "neither an image nor a text")
        for name, head in self.heads.items():
            if head.spec.kind != "words" or name not in labels:
                continue
            words, tags = len(text or ()), len(labels[name])
            if words != tags:
                problems.add(
                    row.line,
                    f"{words} words in {excerpt(self.inputs.text or '')} and {tags} labels in "
                    f"{excerpt(head.column)}",
                )

    def _check_several(self, found: list[tuple[Row, Example]], problems: Problems) -> None:
        """Add to `problems` the single labels that are several: "a|b", where "a" and "b" are too.

        One that `classes` names is meant so.
        """
        for name, head in self.heads.items():
            if head.spec.kind != "single":
                continue
            labels = {str(e.labels[name]) for _, e in found if name in e.labels}
            known = labels | set(head.spec.classes or ())
            several = {
                label
                for label in labels - set(head.spec.classes or ())
                if any(_is_list(label, mark, known) for mark in LIST_MARKS)
            }
            for row, example in found:
                if example.labels.get(name) in several:
                    problems.add(
                        row.line,
                        f"{head.column}: several labels, {excerpt(str(example.labels[name]))}, for "
                        f"the single-label head {name!r}: set kind=multi, or list this class in "
                        f"heads.{name}.classes",
                    )


def _with_separator(head: HeadColumn, table: Table) -> HeadColumn:
    """Give a head the separator of labels that text cells have unless another one is named."""
    return replace(head, separator=head.separator or DEFAULT_SEPARATOR) if table.is_text else head


def _is_list(label: str, mark: str, known: set[str]) -> bool:
    parts = [part.strip() for part in label.split(mark)]
    return len(parts) > 1 and all(part in known for part in parts)


def _cell(row: Row, column: str, read: Callable[[Any], T], problems: Problems) -> T | None:
    """Return what `read` makes of a cell; what is wrong with it goes to `problems`."""
    try:
        return read(row.cells.get(column))
    except CellError as error:
        problems.add(row.line, f"{column}: {error}")
        return None
