"""Which file of a folder is the photo of an image."""

from collections.abc import Sequence
from pathlib import Path

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import Pair, listed, shown
from mmattn.data.caption_files.photos import photo_named
from mmattn.errors import DataError


def photos_of(pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """Return the photo of each image. Nothing outside of the folder is found.

    Raises:
        DataError: for images that neither file names, that the folder lacks, and for two of which
            one file may be the photo: how many, and the first ones.
    """
    unnamed = [pair.reference for pair in pairs if not names_of(pair)]
    if unnamed:
        raise DataError(
            f"images that are numbers in both files, so that their photos are unknown: "
            f"{listed(unnamed)}: give references that name files, such as COCO's captions JSON"
        )
    found = [photo_named(names_of(pair), folder) for pair in pairs]
    lost = [pair.prediction for pair, path in zip(pairs, found, strict=True) if path is None]
    if lost:
        raise DataError(
            f"predictions whose photo is not in {folder}: {listed(lost)}: check the folder"
        )
    owners: dict[Path, Entry] = {}
    for pair, path in zip(pairs, found, strict=True):
        assert path is not None
        other = owners.setdefault(path, pair.reference)
        if other is not pair.reference:
            raise DataError(
                f"{path} may be the photo of {shown(other)} and of {shown(pair.reference)}: give "
                "the folder that their names begin in"
            )
    return list(owners)


def names_of(pair: Pair) -> list[str]:
    """Return what the photo is called: in the references, then in the predictions."""
    return [entry.name for entry in pair if entry.name]
