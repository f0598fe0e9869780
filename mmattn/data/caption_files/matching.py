"""Which prediction is of which image: by its number or name, else by the name of its file."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from mmattn.data.caption_files.entry import Entry, shown_key
from mmattn.data.findings import some
from mmattn.errors import DataError


class Pair(NamedTuple):
    """An image, and what is predicted of it."""

    reference: Entry
    prediction: Entry


class Matched(NamedTuple):
    """Images with both, in the order of the references, and what is left over on either side.

    Attributes:
        pairs: the images to score.
        unpredicted: images with references alone.
        unknown: predictions of other images.
        by_name: how many pairs are of one image because the names of their files are the same.
    """

    pairs: list[Pair]
    unpredicted: list[Entry]
    unknown: list[Entry]
    by_name: int


def match(references: Sequence[Entry], predictions: Sequence[Entry]) -> Matched:
    """Find the image of each prediction: the same key, else the same name, else the same file name.

    Raises:
        DataError: where two predictions are of one image, or a file name is that of two images.
    """
    same_key = {entry.key: entry for entry in references}
    same_name = {entry.name: entry for entry in references if entry.name is not None}
    same_file = defaultdict(list)
    for entry in references:
        if entry.name is not None:
            same_file[PurePath(entry.name).name].append(entry)
    found: dict[int, Entry] = {}  # by the identity of a reference
    unknown, by_name = [], 0
    for prediction in predictions:
        reference = same_key.get(prediction.key) or same_name.get(prediction.name or "")
        if reference is None and prediction.name is not None:
            reference = _only(same_file.get(PurePath(prediction.name).name, []), prediction)
            by_name += reference is not None
        if reference is None:
            unknown.append(prediction)
            continue
        other = found.setdefault(id(reference), prediction)
        if other is not prediction:
            raise DataError(
                f"the predictions {shown(other)} ({other.place}) and {shown(prediction)} "
                f"({prediction.place}) are both of the image {shown(reference)}: give one an image"
            )
    pairs = [Pair(each, found[id(each)]) for each in references if id(each) in found]
    unpredicted = [each for each in references if id(each) not in found]
    return Matched(pairs, unpredicted, unknown, by_name)


def _only(candidates: Sequence[Entry], prediction: Entry) -> Entry | None:
    """Return the only image whose file is called so, None where there is none."""
    if len(candidates) > 1:
        raise DataError(
            f"the prediction {shown(prediction)} ({prediction.place}) may be of "
            f"{some([shown(each) for each in candidates])} images: name it as the references do"
        )
    return candidates[0] if candidates else None


def differences(matched: Matched) -> Iterator[str]:
    """Yield in words what images have that are left over on either side."""
    if matched.unpredicted:
        yield f"references and no prediction: {listed(matched.unpredicted)}"
    if matched.unknown:
        yield f"a prediction and no references: {listed(matched.unknown)}"


def listed(entries: Sequence[Entry]) -> str:
    """Return how many images these are, and the first names."""
    return some([shown(entry) for entry in entries])


def shown(entry: Entry) -> str:
    """Return an image's key for a message."""
    return shown_key(entry.key)
