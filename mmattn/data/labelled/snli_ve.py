"""SNLI-VE: does a photo entail a sentence, contradict it, or neither?

Xie, Lai, Doran, Kadav, "Visual Entailment: A Novel Task for Fine-Grained Image Understanding",
arXiv:1901.06706, 2019; photos of Flickr30k, sentences of SNLI.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.captions import clean_caption, excerpt
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.assemble import assemble
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.json_values import fields_fault, read_jsonl
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import Problems
from mmattn.errors import DataError

HEAD = "relation"
CLASSES = ("entailment", "neutral", "contradiction")
NO_CONSENSUS = "-"  # SNLI's label where no three of five annotators agree
FILES: Mapping[str, str] = MappingProxyType(
    {"train": "snli_ve_train.jsonl", "val": "snli_ve_dev.jsonl", "test": "snli_ve_test.jsonl"}
)
FIELDS = {"pairID": (str,), "sentence2": (str,), "gold_label": (str,)}
# Releases spell the field in these ways, and its value with or without ".jpg".
PHOTO_FIELDS = ("Flickr30K_ID", "Flickr30kID", "Flikr30kID")
# The second is the folder in the archive of Flickr30k's authors.
IMAGE_FOLDERS = ("flickr30k_images", "flickr30k-images")
HOW_TO_GET = (
    "https://github.com/necla-ml/SNLI-VE links snli_ve_train.jsonl, snli_ve_dev.jsonl and "
    "snli_ve_test.jsonl; the photos are those of Flickr30k, for which its authors have a form on "
    "https://shannon.cs.illinois.edu/DenotationGraph/. Give the folder with the three files and "
    "flickr30k_images/ as root; name the folder of photos that lie elsewhere with image_root."
)


class SNLIVE:
    """The `LabelledSource` that reads SNLI-VE as its authors distribute it.

    The photo is the premise, and the text is the hypothesis alone; the caption that SNLI's
    annotators had before them instead of the photo is not used, as in the paper. Pairs on which
    the annotators did not agree are left out.

    Args:
        root: the folder with the JSONL files.
        image_root: the folder of the photos; if None, the one of `IMAGE_FOLDERS` that is in root.
        leave_out_bad: leave out pairs whose photo is missing or damaged.
    """

    def __init__(
        self,
        root: str | Path,
        image_root: str | Path | None = None,
        leave_out_bad: bool = False,
    ):
        self.root, self.leave_out_bad = absolute(root), leave_out_bad
        self.image_root = None if image_root is None else absolute(image_root)

    def splits(self) -> LabelledSplits:
        """Read the pairs, and the header of every photo.

        Raises:
            DataError: for a line that is not as described, an unknown label, and a photo that
                cannot be used.
        """
        check_layout(self.root, HOW_TO_GET, {f"{split} pairs": f for split, f in FILES.items()})
        folder = self._image_folder()
        notes: list[str] = []
        parts = {split: self._read(file, notes) for split, file in FILES.items()}
        heads = {HEAD: HeadSpec("single", CLASSES)}
        store = FolderStore(folder)
        return assemble(parts, heads, store, notes, leave_out_bad=self.leave_out_bad)

    def _image_folder(self) -> Path:
        if self.image_root is not None:
            check_layout(self.image_root, HOW_TO_GET, {}, key="image_root")
            return self.image_root
        found = [self.root / name for name in IMAGE_FOLDERS if (self.root / name).is_dir()]
        if not found:
            raise DataError(f"{self.root} has no folder {' or '.join(IMAGE_FOLDERS)}. {HOW_TO_GET}")
        if len(found) > 1:
            raise DataError(
                f"{self.root} has {' and '.join(IMAGE_FOLDERS)}: choose one, as in "
                f"image_root={found[0]}."
            )
        return found[0]

    def _read(self, file: str, notes: list[str]) -> list[Example]:
        """Return the pairs of a file."""
        problems = Problems(self.root / file)
        found: dict[str, Example] = {}
        disputed, wordless = [], []
        for line, record in read_jsonl(self.root / file):
            fault = _fault(record)
            if fault is None and record["pairID"] in found:
                fault = (
                    f"the pairID {record['pairID']} again, first {found[record['pairID']].place}"
                )
            if fault:
                problems.add(line, fault)
            elif record["gold_label"] == NO_CONSENSUS:
                disputed.append(record["pairID"])
            elif (text := clean_caption(record["sentence2"])) is None:
                wordless.append(record["pairID"])
            else:
                found[record["pairID"]] = Example(
                    record["pairID"],
                    {HEAD: record["gold_label"]},
                    (_photo(record),),
                    text,
                    f"{file}:{line}",
                )
        problems.raise_if_any(
            'Each line must read {"pairID": …, "Flickr30K_ID": …, "sentence2": …, "gold_label": …}.'
        )
        for what, pairs in {
            "annotators did not agree": disputed,
            "no hypothesis": wordless,
        }.items():
            if pairs:
                notes.append(f"{file}: {what}, left out: {some(pairs)}")
        return list(found.values())


def _fault(record: dict[str, Any]) -> str | None:
    """Return what is wrong with a line, or None."""
    names = [name for name in PHOTO_FIELDS if name in record]
    fault = fields_fault(record, FIELDS | dict.fromkeys(names, (str,)))
    if fault:
        return fault
    if not names:
        return f"no photo: none of the fields {', '.join(PHOTO_FIELDS)}"
    if not record[names[0]].removesuffix(".jpg"):
        return f"no photo: {names[0]} is {record[names[0]]!r}"
    label = record["gold_label"]
    if label not in (*CLASSES, NO_CONSENSUS):
        return f"unknown label {excerpt(label)}{nearest(label, CLASSES)}"
    try:
        clean_caption(record["sentence2"])
    except DataError as error:
        return str(error)
    return None


def _photo(record: dict[str, Any]) -> str:
    """Return the name of a pair's photo."""
    name = next(record[name] for name in PHOTO_FIELDS if name in record)
    return f"{name.removesuffix('.jpg')}.jpg"
