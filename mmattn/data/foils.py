"""Foils: for every true caption one of another image, to be told from it."""

from collections.abc import Sequence

from mmattn.data.dataset import CaptionDataset
from mmattn.data.order import stable_hash

Foils = dict[str, tuple[str | None, ...]]


def draw_foils(dataset: CaptionDataset, seed: int) -> Foils:
    """Return a foil for each caption of each image, by the image's key.

    It is a caption of another image, and equal to none of the image's own; None where there is no
    such caption. It depends on the data and the seed alone, so that every process has the same.
    """
    captions = {dataset.key(i): dataset.captions(i) for i in range(len(dataset))}
    everything = [text for texts in captions.values() for text in texts]
    return {
        key: tuple(
            foil(everything, own, stable_hash(seed, key, n, "foil")) for n in range(len(own))
        )
        for key, own in captions.items()
    }


def foil(texts: Sequence[str], own: Sequence[str], start: int) -> str | None:
    """Return the first of the texts from `start` on, round the end, that is none of one's own."""
    count = len(texts)
    found = (texts[(start + step) % count] for step in range(count))
    return next((text for text in found if text not in own), None)
