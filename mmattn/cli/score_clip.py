"""The CLIP model of `mmattn score --clip`, and what it has seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmattn.cli.device import device_of
from mmattn.data.caption_files.matching import Pair
from mmattn.pipeline.clip_model import load_clip
from mmattn.pipeline.clip_scores import EmbeddedImages, embedded_images
from mmattn.reports.scores.photos import photos_of


class ClipFit:
    """CLIPScore and RefCLIPScore of any model's captions of the same images.

    Photos and references are embedded once, when it is made.

    Args:
        model: what `load_clip` takes.
        device: where it computes, or "auto".
        pairs: the images.
        folder: of their photos.

    Raises:
        UserError: for photos that are missing or cannot be read, and for what is no such model.
    """

    def __init__(self, model: str, device: str, pairs: Sequence[Pair], folder: Path):
        photos = photos_of(pairs, folder)  # before a model is read, which takes longer
        references = [pair.reference.captions for pair in pairs]
        loaded = load_clip(model, device=device_of(device))
        self.seen: EmbeddedImages = embedded_images(loaded, photos, references)

    def __call__(self, captions: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return metric -> score of each image."""
        found = self.seen.scores(captions)
        assert found.ref_clip is not None
        return {"CLIPScore": found.clip, "RefCLIPScore": found.ref_clip}
