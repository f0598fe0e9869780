"""NLVR2: is a sentence true of a pair of photos?

Suhr, Zhou, Zhang, Zhang, Bai, Artzi, "A Corpus for Reasoning about Natural Language Grounded in
Photographs", ACL 2019.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.captions import clean_caption, excerpt
from mmattn.data.findings import listing, nearest, some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import fields_fault, read_jsonl
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import Problems
from mmattn.errors import ConfigError, DataError

HEAD = "label"
CLASSES = ("False", "True")
FILES: Mapping[str, str] = MappingProxyType({"train": "train.json", "val": "dev.json"})
TESTS = ("test1", "test2")
FIELDS = {"identifier": (str,), "sentence": (str,), "label": (str,)}
HOW_TO_GET = (
    "https://github.com/lil-lab/nlvr has train.json, dev.json and test1.json in nlvr2/data, and "
    "says by which form its authors give the photos, for research, in the folders train, dev and "
    "test1. Give the folder with all six as root; name the folder of photos that lie elsewhere "
    "with image_root."
)

_IDENTIFIER = re.compile(r"([a-z0-9]+)-[0-9]+-[0-9]+-[0-9]+")


class NLVR2:
    """The `LabelledSource` that reads NLVR2 as its authors distribute it.

    An example has two images, the left and the right photo of a pair. A photo may lie anywhere in
    the folder of its split: those of training come in numbered folders, as in train/37/.

    Args:
        root: the folder with the JSON files, an object a line.
        image_root: the folder with train/, dev/ and the folders of the tests; `root` if None.
        tests: the test sets, "test1" (public) or "test2" (once kept back, now public too) or both;
            results are called after them.
        leave_out_bad: leave out examples of which a photo is missing or damaged.

    Raises:
        ConfigError: for another test set.
    """

    def __init__(
        self,
        root: str | Path,
        image_root: str | Path | None = None,
        tests: Sequence[str] = ("test1",),
        leave_out_bad: bool = False,
    ):
        strange = [name for name in tests if name not in TESTS]
        if strange:
            raise ConfigError(f"tests: {strange[0]!r}: give some of {', '.join(TESTS)}")
        self.root = absolute(root)
        self.image_root = self.root if image_root is None else absolute(image_root)
        self.files = {**FILES, **{f"test/{name}": f"{name}.json" for name in tests}}
        self.leave_out_bad = leave_out_bad

    def splits(self) -> LabelledSplits:
        """Read the examples, and the header of every photo.

        Raises:
            DataError: for a line that is not as described, an unknown label, two photos of one
                name, and a photo that cannot be used.
        """
        check_layout(self.root, HOW_TO_GET, {f"{split} examples": f for split, f in self._named()})
        folders = {f"{split} photos": file.removesuffix(".json") for split, file in self._named()}
        check_layout(self.image_root, HOW_TO_GET, {}, folders, key="image_root")
        notes: list[str] = []
        parts = {split: self._read(file, notes) for split, file in self.files.items()}
        heads = {HEAD: HeadSpec("single", CLASSES)}
        store = FolderStore(self.image_root)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _named(self) -> list[tuple[str, str]]:
        return [(split.removeprefix("test/"), file) for split, file in self.files.items()]

    def _read(self, file: str, notes: list[str]) -> list[Example]:
        """Return the examples of a file."""
        folder = file.removesuffix(".json")
        photos = self._photos(folder)
        problems = Problems(self.root / file)
        found: dict[str, Example] = {}
        wordless = []
        for line, record in read_jsonl(self.root / file):
            fault = _fault(record, folder)
            if fault is None and record["identifier"] in found:
                first = found[record["identifier"]].place
                fault = f"the identifier {record['identifier']} again, first {first}"
            if fault:
                problems.add(line, fault)
            elif (text := clean_caption(record["sentence"])) is None:
                wordless.append(record["identifier"])
            else:
                names = [f"{_pair(record['identifier'])}-img{side}.png" for side in (0, 1)]
                images = tuple(photos.get(name, f"{folder}/{name}") for name in names)
                place = f"{file}:{line}"
                label = {HEAD: record["label"]}
                found[record["identifier"]] = Example(
                    record["identifier"], label, images, text, place
                )
        problems.raise_if_any(
            'Each line must read {"identifier": "SPLIT-SET-PAIR-SENTENCE", "sentence": …, '
            '"label": "True"}.'
        )
        if wordless:
            notes.append(f"{file}: empty sentences, left out: {some(wordless)}")
        return list(found.values())

    def _photos(self, folder: str) -> dict[str, str]:
        """Return the name of each PNG file in a folder -> its path below the folder of photos."""
        found: dict[str, str] = {}
        twice = []
        for where, inner, files in os.walk(self.image_root / folder, onerror=_raise):
            inner.sort()
            below = Path(where).relative_to(self.image_root).as_posix()
            for name in sorted(file for file in files if file.endswith(".png")):
                path = f"{below}/{name}"
                if found.setdefault(name, path) != path:
                    twice.append(f"{found[name]} and {path}")
        if twice:
            raise DataError(
                f"{self.image_root} has {len(twice):,} photos of the same name:\n{listing(twice)}\n"
                "Keep one of each."
            )
        return found


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}. Check its rights.")


def _fault(record: dict[str, Any], folder: str) -> str | None:
    """Return what is wrong with a line, or None."""
    fault = fields_fault(record, FIELDS)
    if fault:
        return fault
    match = _IDENTIFIER.fullmatch(record["identifier"])
    if not match:
        return f"the identifier {excerpt(record['identifier'])}, where {folder}-0-0-0 has the form"
    if match[1] != folder:
        return f"the identifier {record['identifier']} is of {match[1]}, not of {folder}"
    if record["label"] not in CLASSES:
        return f"unknown label {excerpt(record['label'])}{nearest(record['label'], CLASSES)}"
    try:
        clean_caption(record["sentence"])
    except DataError as error:
        return str(error)
    return None


def _pair(identifier: str) -> str:
    """Return the name of a pair of photos: the identifier without the number of the sentence."""
    return identifier.rpartition("-")[0]
