"""From the captioned images that a reader found to its splits: the checks all readers share."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mmattn.data.captions import clean_caption, excerpt
from mmattn.data.dataset import Splits
from mmattn.data.findings import some
from mmattn.data.flickr import Photos
from mmattn.data.images import image_fault, inside, name_fault
from mmattn.data.labelled.division import divide, held_out_note
from mmattn.data.labelled.example import Example
from mmattn.data.problems import Gathered, Problems
from mmattn.errors import DataError

Image = TypeVar("Image")


@dataclass(frozen=True, slots=True)
class Captioned:
    """An image as the file of a data set lists it.

    Attributes:
        name: its path below the folder of images.
        captions: cleaned, none of them empty; there may be none.
        place: the file and the line or entry that lists it, for messages.
    """

    name: str
    captions: tuple[str, ...]
    place: str


Parts = Mapping[str, Sequence[Captioned]]  # "train", "val", "test", "test/NAME" -> images


def cleaned(texts: Iterable[str], *, lower_case: bool) -> tuple[str, ...]:
    """Return the captions in which something is visible. Raises `DataError` as `clean_caption`."""
    found = (clean_caption(text.lower() if lower_case else text) for text in texts)
    return tuple(text for text in found if text is not None)


def hold_out(
    parts: Mapping[str, Sequence[Image]],
    shares: Mapping[str, float],
    seed: int,
    notes: list[str],
    name: Callable[[Image], str],
) -> dict[str, Sequence[Image]]:
    """Return the parts with those of `shares` that are missing held out of training.

    Which images that are depends on their names and `seed` alone.

    Raises:
        ConfigError: where validation would get no share.
        DataError: where a share leaves its part without an image.
    """
    wanted = {split: share for split, share in shares.items() if split not in parts}
    if not wanted:
        return dict(parts)
    images = {name(image): image for image in parts["train"]}
    divided = divide([Example(each, {}, (each,)) for each in images], wanted, seed)
    notes.append(held_out_note(divided, seed))
    held = {split: [images[e.key] for e in examples] for split, examples in divided.items()}
    return dict(parts) | held


def image_name(image: Captioned) -> str:
    """Return an image's name."""
    return image.name


def assemble(
    parts: Parts,
    root: Path,
    gathered: Gathered,
    notes: Sequence[str] = (),
    *,
    check_headers: bool,
) -> Splits:
    """Check names and files of all images, and make the splits.

    Args:
        parts: what was read.
        root: the folder of images.
        gathered: what was found wrong before.
        notes: what the reader has to tell.
        check_headers: read the header of every image, about 0.1 ms a file on a warm disk;
            otherwise only see that the file is there.

    Raises:
        DataError: with all that is wrong, `gathered` included: names that leave the folder, an
            image in two splits, files that are missing or no images, a split without an image.
    """
    bad: set[str] = set()
    with gathered.step():
        named = {split: [(i.name, i.place) for i in images] for split, images in parts.items()}
        check_one_split(named, root)
    with gathered.step():
        _check_files(parts, root, bad, check_headers=check_headers)
    told, sets = [*notes], {}
    for split, images in {"train": (), "val": (), **parts}.items():
        wordless = [image.name for image in images if not image.captions]
        if wordless:
            told.append(f"Split {split}: images without a caption, left out: {some(wordless)}")
        kept = [image for image in images if image.captions and image.name not in bad]
        if not kept and not gathered:
            raise DataError(
                f"Split {split} has no image with a caption: {len(images):,} are listed. Check "
                "which file, and which folder of images, belongs to it."
            )
        sets[split] = _photos(root, kept)
    tests = {s.removeprefix("test").removeprefix("/"): sets[s] for s in sets if s[:4] == "test"}
    if not tests:
        told.append("There is no test set: nothing is tested after training")
    splits = Splits(sets["train"], sets["val"], tests, tuple(told))
    gathered.raise_if_any(splits)
    return splits


def _photos(root: Path, images: Sequence[Captioned]) -> Photos:
    names, captions = tuple(i.name for i in images), tuple(i.captions for i in images)
    return Photos(root, names, captions)


def check_one_split(parts: Mapping[str, Iterable[tuple[str, str]]], root: Path | str) -> None:
    """Raise `DataError` for images that two splits have, or one has twice; tests may share them.

    `parts` is split -> (name, place) of each image; `root` is what the message begins with.
    """
    first: dict[str, tuple[str, str]] = {}
    problems = Problems(root)
    for split, images in parts.items():
        kind = split.partition("/")[0]
        own: set[str] = set()
        for name, place in images:
            before, earlier = first.setdefault(name, (kind, place))
            what = f"{place}: {excerpt(name)}"
            if name in own:
                problems.note(f"{what} again, first {earlier}")
            elif before != kind:
                problems.note(f"{what} is in split {kind}, and in {before} ({earlier})")
            own.add(name)
    problems.raise_if_any(
        "An image belongs to one split, and is listed once with all its captions."
    )


def _check_files(parts: Parts, root: Path, bad: set[str], *, check_headers: bool) -> None:
    """Raise `DataError` for images that are not there or cannot be used; `bad` gets their names."""
    files = _Files(root)
    problems, seen = Problems(root), set()
    for image in (image for images in parts.values() for image in images):
        if image.name in seen or not image.captions:
            continue
        seen.add(image.name)
        fault = files.fault(image.name)
        if fault is None and check_headers:
            fault = image_fault(root / image.name)
        if fault is not None:
            bad.add(image.name)
            problems.note(f"{image.place}: {fault}")
    problems.raise_if_any(
        f"Images are looked for in {root}. Unpack them again, correct the names, or delete the "
        "entries."
    )


class _Files:
    """Which files a folder of images holds; each folder in it is listed once, and not every file
    asked for, which takes ten times as long."""

    def __init__(self, root: Path):
        self.root = root
        self._folders: dict[str, dict[str, str | None]] = {}

    def fault(self, name: str) -> str | None:
        """Return what keeps a name from being that of a file in the folder, or None."""
        fault = name_fault(name)
        if fault is not None:
            return f"the file name {excerpt(name)} {fault}"
        folder, _, file = name.rpartition("/")
        if folder not in self._folders:
            try:
                self._folders[folder] = self._listed(folder)
            except DataError as error:
                return str(error)
        return self._folders[folder].get(file, f"{excerpt(name)} is no file in {self.root}")

    def _listed(self, folder: str) -> dict[str, str | None]:
        """Return file -> what is wrong with it, if anything is: a link may lead out of `root`."""
        path = inside(self.root, folder) if folder else self.root
        try:
            with os.scandir(path) as entries:
                return {
                    entry.name: _link_fault(self.root, f"{folder}/{entry.name}")
                    if entry.is_symlink()
                    else None
                    for entry in entries
                    if entry.is_symlink() or entry.is_file()
                }
        except OSError:  # there is no such folder, so no file of it
            return {}


def _link_fault(root: Path, name: str) -> str | None:
    try:
        path = inside(root, name.removeprefix("/"))
    except DataError as error:
        return str(error)
    return None if path.is_file() else f"{excerpt(name)} is a link to nothing"
