"""Captions that another captioner wrote, to train on: what `mmattn caption --out` leaves."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from torch import Tensor

from mmattn.data.captions import clean_caption, excerpt, read_lines
from mmattn.data.dataset import CaptionDataset, Splits, by_split
from mmattn.data.findings import nearest
from mmattn.data.problems import Problems
from mmattn.errors import DataError


class Written(NamedTuple):
    """A line of the file: its number, the image that it names, and the caption."""

    line: int
    image: str
    caption: str


@dataclass(frozen=True)
class WithCaptions:
    """A set of captioned images of which some have other captions, by their index."""

    images: CaptionDataset
    texts: Mapping[int, tuple[str, ...]]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getattr__(self, name: str) -> Any:
        """Return what else the set of images has: where its files lie, its regions."""
        if name == "images" or name.startswith("__"):  # asked for while a copy is being made
            raise AttributeError(name)
        return getattr(self.images, name)

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self.images.key(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the image's captions, the others where it has others."""
        return self.texts.get(index) or self.images.captions(index)

    def image(self, index: int) -> Tensor:
        """Return the image. Raises `DataError` if it cannot be read."""
        return self.images.image(index)


@dataclass(frozen=True)
class ExtraCaptions:
    """Captions of training images from a file, in addition to their own or in their place.

    Learning from what a teacher writes, found by beam search, is sequence-level distillation (Kim
    and Rush 2016). The captions of validation and test images stay what they are, and so does what
    the tokenizer is trained on: it is the same with and without the file.

    Attributes:
        path: a JSONL file, each line an object with "image" and "caption", as `mmattn caption
            --out` writes them; lines with an "error" are left out. An image is known by its name in
            the data set, or by a path that ends with it.
        replace: whether an image that the file is about loses its own captions.
    """

    path: str | Path
    replace: bool = False

    def added_to(self, splits: Splits) -> Splits:
        """Return the splits with these captions of training images.

        Raises:
            DataError: for a file that cannot be read, and for all lines that are none or name an
                image that is in no split.
        """
        path = Path(self.path).expanduser()
        problems, train = Problems(path), splits.train
        places = {train.key(i): i for i in range(len(train))}
        others = {each.key(i) for each in by_split(splits).values() for i in range(len(each))}
        others -= places.keys()
        texts: dict[int, list[str]] = {}
        elsewhere = 0
        for one in written(path, problems):
            key = next((name for name in endings(one.image) if name in places), None)
            if key is not None:
                texts.setdefault(places[key], []).append(one.caption)
            elif any(name in others for name in endings(one.image)):
                elsewhere += 1
            else:
                hint = nearest(one.image, [*places][:10_000])
                problems.add(one.line, f"no image of the data set is called {one.image!r}{hint}")
        problems.raise_if_any(
            "Give data.extra_captions.path what `mmattn caption --out` wrote of the training "
            "images of this data set."
        )
        if not texts:
            raise DataError(f"{path} has no caption of a training image: is it of another split?")
        found = {i: self._captions(train.captions(i), new) for i, new in texts.items()}
        note = (
            f"{path}: {sum(map(len, texts.values())):,} captions of {len(texts):,} of "
            f"{len(train):,} training images {'replace' if self.replace else 'join'} their own; "
            f"{elsewhere:,} of validation and test images were left out"
        )
        return replace(splits, train=WithCaptions(train, found), notes=(*splits.notes, note))

    def _captions(self, own: tuple[str, ...], new: list[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(() if self.replace else own), *new]))


def written(path: Path, problems: Problems) -> list[Written]:
    """Return the captions of a file; note in `problems` the lines that are none.

    Raises:
        DataError: for a file that cannot be read.
    """
    found = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(number, f"no JSON ({error})")
            continue
        about = value if isinstance(value, dict) else {}
        image, text = about.get("image"), about.get("caption")
        if isinstance(image, str) and "error" in about:
            continue
        if not (isinstance(image, str) and isinstance(text, str)):
            problems.add(number, f'no object with an "image" and a "caption": {excerpt(line)}')
            continue
        try:
            caption = clean_caption(text)
        except DataError as error:
            problems.add(number, str(error))
            continue
        if caption is not None:  # a captioner may write nothing
            found.append(Written(number, image, caption))
    return found


def endings(name: str) -> list[str]:
    """Return a name and what follows each of its slashes: a/b/c, b/c, c."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return [name, *("/".join(parts[start:]) for start in range(1, len(parts)))]
