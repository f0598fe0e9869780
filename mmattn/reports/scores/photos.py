"""Which file of a folder is the photo of an image."""

from collections.abc import Sequence
from pathlib import Path

from mmattn.data.caption_files.matching import Pair, listed
from mmattn.data.caption_files.photos import check_owners, photo_named
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
    there = [path for path in found if path is not None]
    check_owners(there, [pair.reference for pair in pairs])
    return there


def names_of(pair: Pair) -> list[str]:
    """Return what the photo is called: in the references, then in the predictions."""
    return [entry.name for entry in pair if entry.name]
