"""COCO's captions in the official JSON, and any data set that is written like them.

Chen, Fang, Lin, Vedantam, Gupta, Dollár, Zitnick, "Microsoft COCO Captions: Data Collection and
Evaluation Server", arXiv:1504.00325, 2015.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmattn.data.captioned import Captioned, assemble, cleaned, hold_out, image_name
from mmattn.data.captions import excerpt
from mmattn.data.dataset import Splits
from mmattn.data.findings import some
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.json_values import fields_fault, read_json
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.labelled.split_files import files_by_split
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import ConfigError, DataError

IMAGE_FIELDS = {"id": (int,), "file_name": (str,)}
CAPTION_FIELDS = {"id": (int,), "image_id": (int,), "caption": (str,)}
HOW_TO_GET = (
    "https://cocodataset.org/#download has the images (train2017.zip, val2017.zip) and the "
    "captions (annotations_trainval2017.zip); unpack all three into one folder and give it as root."
)
RELEASE = (
    "Unpack the archive again, or correct the entries; images and annotations must be of one "
    "release."
)


@dataclass(slots=True)
class _Image:
    """An entry of "images", and the captions that the annotations give it."""

    name: str
    place: str
    texts: list[str] = field(default_factory=list)


class CocoCaptions:
    """The `CaptionSource` that reads files like `captions_train2017.json`.

    COCO's captions of its test images are not public. So its validation images are the test set
    here, and validation is held out of the training images, unless `files` says otherwise.

    Args:
        root: the folder of everything.
        files: split ("train", "val", "test", "test_NAME") -> its JSON file in `root`.
        images: split -> the folder, below `root`, that its file names are relative to.
        val_fraction: the share of the training images held out where `files` has no "val".
        seed: of what is held out.
        lower_case: write captions small.
        check_headers: read the header of every image, which takes some 15 s for COCO; otherwise
            only see that the file is there. `mmattn data check` decodes them all.

    Raises:
        ConfigError: for a split that is none, or one without a folder of images.
    """

    def __init__(
        self,
        root: str | Path,
        files: Mapping[str, str],
        images: Mapping[str, str],
        val_fraction: float = 0.02,
        seed: int = 0,
        lower_case: bool = True,
        check_headers: bool = False,
    ):
        check_shares({"val_fraction": val_fraction})
        self.files, self.images = files_by_split(files), files_by_split(images, "images")
        if set(self.files) != set(self.images):
            raise ConfigError(
                f"files has the splits {', '.join(self.files)}, and images "
                f"{', '.join(self.images)}: name a folder of images for each file"
            )
        self.root, self.val_fraction, self.seed = absolute(root), val_fraction, seed
        self.lower_case, self.check_headers = lower_case, check_headers

    def splits(self) -> Splits:
        """Read all files, and see that every image is there.

        Raises:
            DataError: for a file that is not as described, an entry that is wrong, a caption of an
                image that is not listed, an image that is listed twice, in two splits, or missing.
        """
        files = {f"files.{split}": file for split, file in self.files.items()}
        folders = {f"images.{split}": folder for split, folder in self.images.items()}
        check_layout(self.root, HOW_TO_GET, files, folders)
        gathered, notes = Gathered(), []
        parts: dict[str, Any] = {}
        for split, file in self.files.items():
            with gathered.step():
                parts[split] = self._read(split, file, gathered, notes)
        if "train" not in parts:
            gathered.raise_if_any()
        with gathered.step():
            parts = hold_out(parts, {"val": self.val_fraction}, self.seed, notes, image_name)
        return assemble(parts, self.root, gathered, notes, check_headers=self.check_headers)

    def _read(self, split: str, file: str, gathered: Gathered, notes: list[str]) -> list[Captioned]:
        """Return the images of a file in its order, each with its captions."""
        path = self.root / file
        document = read_json(path)
        fault = fields_fault(document, {"images": (list,), "annotations": (list,)})
        if fault is not None:
            raise DataError(f"{path}: {fault}. Captions in COCO's JSON have both. {HOW_TO_GET}")
        problems = Problems(path)
        images = _images(document["images"], file, self.images[split], problems)
        empty = self._add_captions(document["annotations"], images, problems)
        if empty:
            notes.append(f"{file}: empty captions, left out: {some(empty)}")
        with gathered.step():
            problems.raise_if_any(RELEASE)
        return [Captioned(i.name, tuple(i.texts), i.place) for i in images.values()]

    def _add_captions(
        self, entries: list[Any], images: Mapping[int, _Image], problems: Problems
    ) -> list[str]:
        """Give every image its captions; return the places of empty ones."""
        empty, seen = [], {}
        for i, entry in enumerate(entries):
            fault = fields_fault(entry, CAPTION_FIELDS)
            if fault is None and entry["id"] in seen:
                fault = f"the id {entry['id']} again, first annotations[{seen[entry['id']]}]"
            if fault is None and entry["image_id"] not in images:
                fault = f"there is no image with the id {entry['image_id']}"
            if fault is None:
                seen[entry["id"]] = i
                try:
                    texts = cleaned([entry["caption"]], lower_case=self.lower_case)
                    images[entry["image_id"]].texts.extend(texts)
                    empty += [f"annotations[{i}]"] * (not texts)
                except DataError as error:
                    fault = str(error)
            if fault is not None:
                problems.add(f"annotations[{i}]", fault)
        return empty


def _images(entries: list[Any], file: str, folder: str, problems: Problems) -> dict[int, _Image]:
    """Return id -> image."""
    found: dict[int, _Image] = {}
    names: dict[str, str] = {}
    for i, entry in enumerate(entries):
        place = f"images[{i}]"
        fault = fields_fault(entry, IMAGE_FIELDS)
        if fault is None and entry["id"] in found:
            first = found[entry["id"]].place.rpartition(":")[2]
            fault = f"the id {entry['id']} again, first {first}"
        if fault is None and names.setdefault(entry["file_name"], place) != place:
            name = entry["file_name"]
            fault = f"the file_name {excerpt(name)} again, first {names[name]}"
        if fault is None:
            found[entry["id"]] = _Image(f"{folder}/{entry['file_name']}", f"{file}:{place}")
        else:
            problems.add(place, fault)
    return found
