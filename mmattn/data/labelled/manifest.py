"""Any labelled data set listed in a table: CSV, TSV or JSONL, its columns named by the user."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmattn.data.captions import excerpt
from mmattn.data.findings import nearest
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.classes import check_labels, make_classes
from mmattn.data.labelled.division import check_shares, divide, held_out_note
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.manifest_columns import head_columns, input_columns
from mmattn.data.labelled.manifest_rows import ManifestRows
from mmattn.data.labelled.split_files import SPLIT_NAMES, split_name, table_files
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.labelled.tables import Row, check_format, read_table
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import DataError

HOW_TO_GET = "Give the folder that holds the table as root; images are named relative to it."


class Manifest:
    """The `LabelledSource` that reads images, texts and labels listed in tables.

    A missing cell is one that is empty, null, or absent in JSON: a head without a label for this
    example, an example without image or without text. Rows without any label are left out.

    How labels are written, by a head's kind:
        single: a name.
        multi: names with "|" between (or `separator`), "|" alone for none of the classes; in JSON a
            list.
        soft: "yes:0.9|no:0.3"; in JSON an object of numbers.
        words: a label for every word, with spaces between; in JSON a list. The text is then a list
            of words in JSON, or cut at its spaces.

    Args:
        root: the folder of tables and images.
        columns: "image" (a column, or a list of them for several images), "text", "split" and
            "key" -> names of columns; all may lack but one of image and text.
        heads: head -> column, kind ("single"), separator, classes (None: those of the training
            rows), open and most_common (see `HeadSpec`).
        file: the only table. Its splits are in the column "split": train, val and test (or
            test_NAME, several test sets), and what people write for these.
        files: or split -> the table of that split.
        val_fraction: the share of the training rows held out where there are none for validation.
        test_fraction: the same for the test where nothing says what belongs to a split; 0: none.
        seed: of what is held out.
        encoding: of CSV, TSV and JSONL files.
        quotes: whether quotation marks hold cells together in CSV and TSV.
        leave_out_bad: leave out rows whose image is missing or damaged instead of refusing them.

    Raises:
        ConfigError: for a key or a value that is not understood.
    """

    def __init__(
        self,
        root: str | Path,
        columns: Mapping[str, Any],
        heads: Mapping[str, Any],
        file: str | None = None,
        files: Mapping[str, str] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        encoding: str = "utf-8",
        quotes: bool = True,
        leave_out_bad: bool = False,
    ):
        self.inputs = input_columns(columns)
        self.heads = head_columns(heads, has_text=self.inputs.text is not None)
        self.files = table_files(file, files, self.inputs.split)
        for name in self.files.values():
            check_format(name)
        self.shares = {"val": val_fraction, "test": test_fraction}
        check_shares({f"{split}_fraction": share for split, share in self.shares.items()})
        self.root, self.seed = absolute(root), seed
        self.encoding, self.quotes, self.leave_out_bad = encoding, quotes, leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read and check every row, and the header of every image.

        Raises:
            DataError: names file and line of everything that is wrong; labels and sizes of splits
                are looked at where all rows could be read.
        """
        check_layout(self.root, HOW_TO_GET, {f"files.{k}": file for k, file in self.files.items()})
        notes: list[str] = []
        gathered = Gathered()
        parts = self._read(gathered, notes)
        specs = {name: head.spec for name, head in self.heads.items()}
        if not gathered:
            with gathered.step():
                parts = self._with_held_out(parts, specs, notes)
                self._check_labels(parts, specs)
        store = FolderStore(self.root)
        return assemble(parts, specs, store, notes, gathered, leave_out_bad=self.leave_out_bad)

    def _read(self, gathered: Gathered, notes: list[str]) -> dict[str, list[Example]]:
        """Return split -> the examples of the rows that can be used, in the order of the files."""
        reader = ManifestRows(self.inputs, self.heads)
        parts: dict[str, list[Example]] = {}
        seen: dict[str, str] = {}
        for split, file in self.files.items():
            if self.inputs.split is None:
                parts.setdefault(split, [])
            with gathered.step():
                table = read_table(self.root, file, self.encoding, quotes=self.quotes)
                rows = reader.examples(table, gathered, notes)
                rows = _with_own_keys(table.path, rows, seen, gathered)
                splits: Sequence[str | None] = [split] * len(rows)
                if self.inputs.split is not None:
                    splits = self._splits(table.path, rows, gathered)
                for name, (_, example) in zip(splits, rows, strict=True):
                    if name is not None:
                        parts.setdefault(name, []).append(example)
        return parts

    def _splits(
        self, path: Path, rows: Sequence[tuple[Row, Example]], gathered: Gathered
    ) -> list[str | None]:
        """Return what the column of splits says of every row, None where that is no split."""
        problems = Problems(path)
        found = []
        for row, _ in rows:
            cell = row.cells.get(self.inputs.split or "")
            name = split_name(cell)
            if name is None:
                told = excerpt(cell) if isinstance(cell, str) else repr(cell)
                hint = nearest(str(cell).lower(), SPLIT_NAMES)
                problems.add(row.line, f"{self.inputs.split}: {told} is no split{hint}")
            found.append(name)
        with gathered.step():
            problems.raise_if_any(
                "Write train, val, test, or test_NAME for one of several test sets."
            )
        return found

    def _with_held_out(
        self,
        parts: dict[str, list[Example]],
        specs: Mapping[str, HeadSpec],
        notes: list[str],
    ) -> dict[str, list[Example]]:
        """Add validation where there is none, and a test set where nothing tells splits apart."""
        if not parts.get("train"):
            read = ", ".join(f"{len(rows)} for {split}" for split, rows in parts.items()) or "none"
            raise DataError(f"{self.root}: no rows for training ({read})")
        wanted = {} if "val" in parts else {"val": self.shares["val"]}
        if self.inputs.split is None and list(self.files) == ["train"]:
            wanted["test"] = self.shares["test"]
        if not wanted:
            return parts
        single = [name for name, spec in specs.items() if spec.kind == "single"]
        divided = divide(parts["train"], wanted, self.seed, single[0] if single else None)
        notes.append(held_out_note(divided, self.seed))
        return parts | divided

    def _check_labels(
        self, parts: Mapping[str, Sequence[Example]], specs: Mapping[str, HeadSpec]
    ) -> None:
        """Raise `DataError` for a class without a training row, and for labels of no class.

        What the most frequent answers are is found where the rest of the answers is dropped.
        """
        found = {name: spec for name, spec in specs.items() if spec.most_common is None}
        classes = {name: make_classes(name, spec, parts["train"]) for name, spec in found.items()}
        for split, rows in parts.items():
            check_labels(specs, classes, split, rows)


def _with_own_keys(
    path: Path, rows: Sequence[tuple[Row, Example]], seen: dict[str, str], gathered: Gathered
) -> list[tuple[Row, Example]]:
    """Return the rows whose keys no row before has; `seen` maps keys of earlier files to places."""
    problems, kept = Problems(path), []
    for row, example in rows:
        if example.key in seen:
            problems.add(
                row.line, f"the key {excerpt(example.key)} again, first {seen[example.key]}"
            )
        else:
            seen[example.key] = example.place
            kept.append((row, example))
    with gathered.step():
        problems.raise_if_any("Give every row a key of its own.")
    return kept
