"""Any captioned data set listed in a table: CSV, TSV or JSONL, its columns named by the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmattn.data.captioned import Captioned, assemble, cleaned, hold_out, image_name
from mmattn.data.captions import excerpt
from mmattn.data.dataset import Splits
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.cells import CellError, read_images
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.json_values import type_name
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.split_files import SPLIT_NAMES, split_name, table_files
from mmattn.data.labelled.tables import Row, Table, check_format, read_table
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import ConfigError, DataError

COLUMNS = ("image", "caption", "split")
HOW_TO_GET = "Give the folder that holds the table as root."


@dataclass(slots=True)
class _Image:
    """What the rows of an image say of it."""

    split: str
    place: str
    captions: list[str] = field(default_factory=list)


class CaptionTable:
    """The `CaptionSource` that reads images and captions listed in tables.

    An image with several captions has several rows, several columns of captions, or, in JSONL, a
    list of them in one.

    Args:
        root: the folder of the tables.
        columns: "image" (a column), "caption" (a column, or a list of them) and "split" (a column,
            or None) -> names of columns.
        file: the only table. Its splits are in the column "split": train, val and test (or
            test_NAME, several test sets), and what people write for these.
        files: or split -> the table of that split.
        image_root: the folder that names of images are relative to; `root` if None.
        val_fraction: the share of the training images held out where there are none for
            validation.
        test_fraction: the same for the test where nothing says what belongs to a split; 0: none.
        seed: of what is held out.
        lower_case: write captions small.
        encoding: of the tables.
        quotes: whether quotation marks hold cells together in CSV and TSV.
        check_headers: read the header of every image; otherwise only see that the file is there.

    Raises:
        ConfigError: for a key or a value that is not understood.
    """

    def __init__(
        self,
        root: str | Path,
        columns: Mapping[str, Any],
        file: str | None = None,
        files: Mapping[str, str] | None = None,
        image_root: str | Path | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        lower_case: bool = True,
        encoding: str = "utf-8",
        quotes: bool = True,
        check_headers: bool = True,
    ):
        self.image, self.captions, self.split = _columns(columns)
        self.files = table_files(file, files, self.split)
        for name in self.files.values():
            check_format(name)
        self.shares = {"val": val_fraction, "test": test_fraction}
        check_shares({f"{split}_fraction": share for split, share in self.shares.items()})
        self.root, self.seed, self.lower_case = absolute(root), seed, lower_case
        self.image_root = self.root if image_root is None else absolute(image_root)
        self.encoding, self.quotes, self.check_headers = encoding, quotes, check_headers

    def splits(self) -> Splits:
        """Read all tables and check every row and every image.

        Raises:
            DataError: names file and line of everything that is wrong.
        """
        check_layout(self.root, HOW_TO_GET, {f"files.{k}": file for k, file in self.files.items()})
        gathered, notes = Gathered(), []
        parts: dict[str, Sequence[Captioned]] = {}
        for split, file in self.files.items():
            with gathered.step():
                for name, images in self._read(split, file, gathered, notes).items():
                    parts[name] = [*parts.get(name, ()), *images]
        if "train" not in parts:
            gathered.raise_if_any()
            raise DataError(f"{self.root}: no rows for training ({', '.join(parts) or 'none'})")
        shares = {"val": self.shares["val"]}
        if self.split is None and list(self.files) == ["train"] and self.shares["test"]:
            shares = self.shares
        with gathered.step():
            parts = hold_out(parts, shares, self.seed, notes, image_name)
        return assemble(parts, self.image_root, gathered, notes, check_headers=self.check_headers)

    def _read(
        self, split: str, file: str, gathered: Gathered, notes: list[str]
    ) -> dict[str, list[Captioned]]:
        """Return split -> the images of a table, in the order of their first rows."""
        table = read_table(self.root, file, self.encoding, quotes=self.quotes)
        problems, empty = Problems(table.path), []
        self._check_columns(table, problems)
        images: dict[str, _Image] = {}
        for row in table.rows:
            fault = self._add(row, table.name, split, images, empty)
            if fault is not None:
                problems.add(row.line, fault)
        if empty:
            notes.append(f"{table.name}: empty captions, left out: {some(empty)}")
        with gathered.step():
            problems.raise_if_any("Correct these rows, or the columns of the configuration.")
        parts: dict[str, list[Captioned]] = {} if self.split else {split: []}
        for name, image in images.items():
            captioned = Captioned(name, tuple(image.captions), image.place)
            parts.setdefault(image.split, []).append(captioned)
        return parts

    def _check_columns(self, table: Table, problems: Problems) -> None:
        """Raise `DataError` for columns that the table lacks."""
        wanted = {"image": [self.image], "caption": self.captions, "split": [self.split]}
        for key, columns in wanted.items():
            for column in columns:
                if column is not None and column not in table.columns:
                    what = f"no column {excerpt(column)}{nearest(column, table.columns)}"
                    problems.add(1, f"{what}, which columns.{key} names")
        problems.raise_if_any(f"There are: {', '.join(table.columns)}.")

    def _add(
        self, row: Row, file: str, split: str, images: dict[str, _Image], empty: list[str]
    ) -> str | None:
        """Add what a row says to its image; return what is wrong with it, or None."""
        try:
            name = _one_image(row.cells.get(self.image))
            texts = [text for column in self.captions for text in _texts(row, column)]
            found = cleaned(texts, lower_case=self.lower_case)
        except (CellError, DataError) as error:
            return str(error)
        if self.split is not None:
            cell = row.cells.get(self.split)
            own = split_name(cell)
            if own is None:
                told = excerpt(cell) if isinstance(cell, str) else repr(cell)
                return f"{self.split}: {told} is no split{nearest(str(cell).lower(), SPLIT_NAMES)}"
            split = own
        image = images.setdefault(name, _Image(split, f"{file}:{row.line}"))
        if image.split != split:
            told = f"{excerpt(name)} is in split {split}, and in {image.split} ({image.place})"
            return f"{told}: an image belongs to one split"
        image.captions.extend(found)
        empty += [f"line {row.line}"] * (len(found) < max(len(texts), 1))
        return None


def _columns(columns: Mapping[str, Any]) -> tuple[str, tuple[str, ...], str | None]:
    """Return the columns of image, captions and split. Raises `ConfigError`."""
    for key in columns:
        if key not in COLUMNS:
            hint = nearest(str(key), COLUMNS)
            raise ConfigError(f"columns has no key {key!r}{hint}: {', '.join(COLUMNS)}")
    image, caption, split = (columns.get(key) for key in COLUMNS)
    captions = (caption,) if isinstance(caption, str) else tuple(caption or ())
    for key, value in (("image", image), *(("caption", each) for each in captions or (None,))):
        if not (isinstance(value, str) and value):
            raise ConfigError(f"columns.{key} is {value!r}: give the name of a column")
    if split is not None and not (isinstance(split, str) and split):
        raise ConfigError(f"columns.split is {split!r}: give the name of a column, or null")
    return str(image), captions, split


def _one_image(cell: Any) -> str:
    """Return the name in a cell. Raises `CellError` unless there is one."""
    names = read_images(cell)
    if len(names) != 1:
        raise CellError(f"{len(names)} images, where one was expected")
    return names[0]


def _texts(row: Row, column: str) -> list[str]:
    """Return the captions in a cell: a text, or in JSON a list of them. Raises `CellError`."""
    cell = row.cells.get(column)
    texts = cell if isinstance(cell, list) else [] if cell is None else [cell]
    for text in texts:
        if not isinstance(text, str):
            raise CellError(f"{column}: {type_name(text)}, where a caption was expected")
    return texts
