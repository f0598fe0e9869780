"""Hateful Memes: pictures with a text on them that are hateful together, or not.

Kiela, Firooz, Mohan, Goswami, Singh, Ringshia, Testuggine, "The Hateful Memes Challenge: Detecting
Hate Speech in Multimodal Memes", NeurIPS 2020.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.captions import clean_caption
from mmattn.data.findings import some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import fields_fault, read_jsonl
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError, DataError

HEAD = "hateful"
CLASSES = ("not hateful", "hateful")  # the labels 0 and 1
# The first release had one set for validation and one for tests, which the second calls "seen".
VALIDATION: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"dev_seen": ("dev_seen.jsonl", "dev.jsonl"), "dev_unseen": ("dev_unseen.jsonl",)}
)
TESTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"seen": ("test_seen.jsonl", "test.jsonl"), "unseen": ("test_unseen.jsonl",)}
)
FIELDS = {"id": (int, str), "img": (str,), "text": (str,)}
HOW_TO_GET = (
    "Meta gave the Hateful Memes for research under its own licence, at "
    "https://hatefulmemeschallenge.com: train.jsonl, dev_seen.jsonl, dev_unseen.jsonl, "
    "test_seen.jsonl, test_unseen.jsonl and the folder img. Give the folder with them as root."
)


class HatefulMemes:
    """The `LabelledSource` that reads the Hateful Memes as Meta distributes them.

    The test sets are "seen" and "unseen", as far as they are there with labels: those of the first
    release had none, and are left out with a note.

    Args:
        root: the folder with the JSONL files and img/.
        val: "dev_seen" (dev.jsonl in the first release) or "dev_unseen". The two share memes, so
            only one is used.
        leave_out_bad: leave out memes whose picture is missing or damaged.

    Raises:
        ConfigError: for another validation set.
    """

    def __init__(self, root: str | Path, val: str = "dev_seen", leave_out_bad: bool = False):
        if val not in VALIDATION:
            raise ConfigError(f"val={val!r}: give one of {', '.join(VALIDATION)}")
        self.root, self.val, self.leave_out_bad = absolute(root), val, leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read the lists, and the header of every picture.

        Raises:
            DataError: for a malformed line, a meme in two splits, and a picture
                that cannot be used.
        """
        files = self._files()
        check_layout(
            self.root,
            HOW_TO_GET,
            {"training": files["train"], "validation": files["val"]},
            {"pictures": "img"},
        )
        notes: list[str] = []
        seen: dict[str, Example] = {}
        parts = {}
        for split, file in files.items():
            rows = self._read(file, notes, is_test=split not in ("train", "val"))
            if rows or split in ("train", "val"):
                parts[split] = rows
            self._check_apart(file, rows, seen)
            if split in ("train", "val"):
                seen |= {example.key: example for example in rows}
        heads = {HEAD: HeadSpec("single", CLASSES)}
        store = FolderStore(self.root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _files(self) -> dict[str, str]:
        """Return split -> file; test sets that are not there are absent."""
        files = {"train": "train.jsonl", "val": self._first(VALIDATION[self.val])}
        tests = {f"test/{name}": self._first(names) for name, names in TESTS.items()}
        return files | {s: file for s, file in tests.items() if (self.root / file).is_file()}

    def _first(self, files: tuple[str, ...]) -> str:
        """Return the first of the files that is there, or the first."""
        return next((file for file in files if (self.root / file).is_file()), files[0])

    def _read(self, file: str, notes: list[str], *, is_test: bool) -> list[Example]:
        """Return the memes of a file; those of a test set that have no label are left out."""
        problems = Problems(self.root / file)
        found: dict[str, Example] = {}
        unlabelled, textless = [], []
        for line, record in read_jsonl(self.root / file):
            place = f"{file}:{line}"
            fault = _fault(record, needs_label=not is_test)
            if fault is None and str(record["id"]) in found:
                fault = f"the id {record['id']} again, first {found[str(record['id'])].place}"
            if fault:
                problems.add(line, fault)
                continue
            if record.get("label") is None:
                unlabelled.append(f"line {line}")
                continue
            example = _example(record, place)
            found[example.key] = example
            if example.text is None:
                textless.append(example.key)
        problems.raise_if_any('Each line must read {"id": …, "img": …, "label": 0, "text": …}.')
        if unlabelled:
            notes.append(f"{file}: memes without a label, left out: {some(unlabelled)}")
        if textless:
            notes.append(f"{file}: memes without a text, kept as pictures: {some(textless)}")
        return list(found.values())

    def _check_apart(self, file: str, rows: list[Example], seen: Mapping[str, Example]) -> None:
        """Raise `DataError` for memes that training, or validation, has too."""
        problems = Problems(self.root / file)
        for example in rows:
            if example.key in seen:
                line = int(example.place.rpartition(":")[2])
                problems.add(line, f"the id {example.key} is also at {seen[example.key].place}")
        problems.raise_if_any("A meme belongs to one split: delete it from the other file.")


def _fault(record: dict[str, Any], *, needs_label: bool) -> str | None:
    """Return what is wrong with a line, or None."""
    fault = fields_fault(record, FIELDS)
    label = record.get("label")
    if fault or (label is None and not needs_label):
        return fault
    if label is None:
        return "no field 'label'"
    if isinstance(label, bool) or label not in (0, 1):
        return f"the label {label!r}, where 0 (not hateful) or 1 (hateful) was expected"
    return None


def _example(record: dict[str, Any], place: str) -> Example:
    try:
        text = clean_caption(record["text"])
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    label = CLASSES[int(record["label"])]
    return Example(str(record["id"]), {HEAD: label}, (record["img"],), text, place)
