"""Karpathy's JSON of COCO, Flickr8k and Flickr30k: captions, their tokens, and the splits.

Karpathy, Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015.
"""

from pathlib import Path
from typing import Any

from mmattn.data.captioned import Captioned, assemble, cleaned
from mmattn.data.dataset import Splits
from mmattn.data.findings import nearest, some
from mmattn.data.labelled.json_values import fields_fault, read_json
from mmattn.data.labelled.layout import absolute, check_layout
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import ConfigError, DataError

SPLITS = ("train", "restval", "val", "test")
IMAGE_FIELDS = {"filename": (str,), "split": (str,), "sentences": (list,)}
SENTENCE_FIELDS = {"raw": {"raw": (str,)}, "tokens": {"tokens": (list,)}}
HOW_TO_GET = (
    "https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip holds "
    "dataset_coco.json, dataset_flickr8k.json and dataset_flickr30k.json; the images come from the "
    "data sets themselves (of COCO train2014.zip and val2014.zip, from "
    "https://cocodataset.org/#download)."
)


class Karpathy:
    """The `CaptionSource` that reads `dataset_coco.json` and its like.

    Args:
        root: the folder of the JSON file.
        file: its name.
        image_root: the folder of images: of COCO that with train2014/ and val2014/; `root` if None.
        text: "raw": sentences as people wrote them; "tokens": words in lower case without
            punctuation, joined with spaces, as most papers train on them.
        restval: train on COCO's "restval" images too, as usual; otherwise they are left out.
        lower_case: write captions small.
        check_headers: read the header of every image, which takes some 15 s for COCO; otherwise
            only see that the file is there. `mmattn data check` decodes them all.

    Raises:
        ConfigError: for another `text`.
    """

    def __init__(
        self,
        root: str | Path,
        file: str,
        image_root: str | Path | None = None,
        text: str = "raw",
        restval: bool = True,
        lower_case: bool = True,
        check_headers: bool = False,
    ):
        if text not in SENTENCE_FIELDS:
            raise ConfigError(f"text is {text!r}: give raw or tokens")
        self.root, self.file = absolute(root), file
        self.image_root = self.root if image_root is None else absolute(image_root)
        self.text, self.restval = text, restval
        self.lower_case, self.check_headers = lower_case, check_headers

    def splits(self) -> Splits:
        """Read the file, and see that every image is there.

        Raises:
            DataError: for a file that is not as described, an entry that is wrong, an image that
                is listed twice, in two splits, or missing.
        """
        check_layout(self.root, HOW_TO_GET, {"file": self.file})
        check_layout(self.image_root, HOW_TO_GET, {}, key="image_root")
        gathered, notes = Gathered(), []
        parts = self._read(gathered, notes)
        return assemble(parts, self.image_root, gathered, notes, check_headers=self.check_headers)

    def _read(self, gathered: Gathered, notes: list[str]) -> dict[str, list[Captioned]]:
        """Return split -> images, in the order of the file."""
        path = self.root / self.file
        document = read_json(path)
        fault = fields_fault(document, {"images": (list,)})
        if fault is not None:
            raise DataError(f"{path}: {fault}. {HOW_TO_GET}")
        problems, empty = Problems(path), []
        parts: dict[str, list[Captioned]] = {"train": [], "val": [], "test": []}
        for i, entry in enumerate(document["images"]):
            place = f"images[{i}]"
            fault = _fault(entry)
            if fault is not None:
                problems.add(place, fault)
                continue
            captions = self._captions(entry["sentences"], place, problems, empty)
            image = Captioned(_name(entry), captions, f"{self.file}:{place}")
            if entry["split"] != "restval":
                parts[entry["split"]].append(image)
            elif self.restval:
                parts["train"].append(image)
        if empty:
            notes.append(f"{self.file}: empty captions, left out: {some(empty)}")
        with gathered.step():
            problems.raise_if_any(f"Take the file again. {HOW_TO_GET}")
        return {split: images for split, images in parts.items() if images or split != "test"}

    def _captions(
        self, sentences: list[Any], place: str, problems: Problems, empty: list[str]
    ) -> tuple[str, ...]:
        """Return the captions of an image; `empty` gets the places of those that are."""
        found = []
        for i, sentence in enumerate(sentences):
            here = f"{place}.sentences[{i}]"
            fault = fields_fault(sentence, SENTENCE_FIELDS[self.text])
            if fault is None and self.text == "tokens":
                odd = [token for token in sentence["tokens"] if not isinstance(token, str)]
                fault = f"'tokens' holds {odd[0]!r}, which is no text" if odd else None
            if fault is None:
                try:
                    texts = cleaned([self._joined(sentence)], lower_case=self.lower_case)
                    found += texts
                    empty += [here] * (not texts)
                except DataError as error:
                    fault = str(error)
            if fault is not None:
                problems.add(here, fault)
        return tuple(found)

    def _joined(self, sentence: dict[str, Any]) -> str:
        return sentence["raw"] if self.text == "raw" else " ".join(sentence["tokens"])


def _fault(entry: Any) -> str | None:
    """Return what is wrong with an entry of "images", or None."""
    fault = fields_fault(entry, IMAGE_FIELDS)
    if fault is None and not isinstance(entry.get("filepath", ""), str):
        fault = "'filepath' is no text"
    if fault is None and entry["split"] not in SPLITS:
        near = nearest(entry["split"], SPLITS)
        fault = f"the split {entry['split']!r} is none of {', '.join(SPLITS)}{near}"
    return fault


def _name(entry: dict[str, Any]) -> str:
    """Return an image's path: Flickr's have no folder."""
    folder = entry.get("filepath", "")
    return f"{folder}/{entry['filename']}" if folder else entry["filename"]
