"""CLIPScore and RefCLIPScore of captions of image files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.data.images import MAX_PIXELS
from mmattn.errors import DataError
from mmattn.metrics.clip_score import clip_score, ref_clip_score
from mmattn.metrics.corpus import check_references
from mmattn.pipeline.clip_model import ClipModel, prompted
from mmattn.pipeline.collected import check_sizes, collected, counted
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.progress import shown


class ClipScores(NamedTuple):
    """The scores of N captions.

    clip: CLIPScore [N], 0 to 2.5. ref_clip: RefCLIPScore [N]; None without references.
    """

    clip: np.ndarray
    ref_clip: np.ndarray | None


class References(NamedTuple):
    """The embeddings of what people say of images, and of which image each is."""

    rows: Float[Tensor, "R E"]
    image_of: Int[Tensor, "R"]


@dataclass(frozen=True)
class EmbeddedImages:
    """N images, and their references, that are embedded once: captions of any model are scored.

    Attributes:
        model: what embedded them.
        images: their embeddings.
        references: those of the references; None for CLIPScore alone.
        batch_size: texts computed at once.
        progress: see `clip_scores`.
    """

    model: ClipModel
    images: Float[Tensor, "N E"]
    references: References | None
    batch_size: int = 32
    progress: bool | None = None

    def scores(self, captions: Sequence[str]) -> ClipScores:
        """Score a caption of each image, in their order.

        Raises:
            DataError: for another number of captions than of images.
        """
        if len(self.images) != len(captions):
            raise DataError(
                f"{len(self.images)} images and {len(captions)} captions: give one of each image"
            )
        said = text_rows(self.model, captions, self.batch_size, progress=self.progress)
        scores = clip_score(self.images, said)
        if self.references is None:
            return ClipScores(scores.numpy(), None)
        return ClipScores(scores.numpy(), ref_clip_score(scores, said, *self.references).numpy())


def clip_scores(
    model: ClipModel,
    images: Any,
    captions: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    *,
    batch_size: int = 32,
    threads: int = 2,
    progress: bool | None = None,
    max_pixels: int = MAX_PIXELS,
) -> ClipScores:
    """Score captions by how well they fit their images, and their references.

    Args:
        model: what embeds them (`load_clip`); scores of other models are other numbers.
        images: N paths, arrays, tensors … (see `pictures`).
        captions: one of each image, in the same order.
        references: some for each image; None for CLIPScore alone.
        batch_size: pictures and texts computed at once.
        threads: how many read pictures while the model is busy.
        progress: show progress bars; if None, on a terminal, where there are several batches.
        max_pixels: what the header of an image file may promise.

    Raises:
        DataError: for the first picture that cannot be read, numbers of images, captions and
            references that differ, and an image without a reference.
    """
    sizes = {"batch_size": batch_size, "threads": threads}
    found = embedded_images(
        model, images, references, **sizes, progress=progress, max_pixels=max_pixels
    )
    return found.scores(captions)


def embedded_images(
    model: ClipModel,
    images: Any,
    references: Sequence[Sequence[str]] | None = None,
    *,
    batch_size: int = 32,
    threads: int = 2,
    progress: bool | None = None,
    max_pixels: int = MAX_PIXELS,
) -> EmbeddedImages:
    """Embed images and their references; arguments and errors are those of `clip_scores`."""
    check_sizes(batch_size, threads)
    if references is not None:
        check_references(references)
    found, total = counted(images, max_pixels)
    preparation = Preparation(model.preprocessing, keep=False)

    def embedded(batch: Sequence[Ready]) -> Tensor:
        return model.image_vectors(torch.stack([one.prepared.pixels for one in batch]))

    sizes = {"batch_size": batch_size, "threads": threads}
    results = computed(found, preparation, embedded, **sizes)
    seen = collected(results, total, progress=progress, few=batch_size, doing="reading images")
    if references is not None and len(references) != len(seen):
        raise DataError(
            f"{len(seen)} images and references of {len(references)}: give some of each image"
        )
    rows = torch.stack(seen) if seen else torch.zeros(0, 1)
    known = None if references is None else _embedded(model, references, batch_size, progress)
    return EmbeddedImages(model, rows, known, batch_size, progress)


def _embedded(
    model: ClipModel,
    references: Sequence[Sequence[str]],
    batch_size: int,
    progress: bool | None,
) -> References:
    texts = [text for image in references for text in image]
    counts = torch.tensor([len(image) for image in references], dtype=torch.long)
    image_of = torch.arange(len(references)).repeat_interleave(counts)
    return References(text_rows(model, texts, batch_size, progress=progress), image_of)


def text_rows(
    model: ClipModel, texts: Sequence[str], batch_size: int, *, progress: bool | None = False
) -> Float[Tensor, "R E"]:
    """Return the embeddings of texts behind the model's prompt, each different one made once.

    See `clip_scores` for the arguments.
    """
    if not texts:
        return torch.zeros(0, 1)
    different = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    rows = prompted(model, list(different))
    starts = range(0, len(rows), batch_size)
    parts = [
        model.text_vectors(rows[start : start + batch_size])
        for start in shown(starts, len(starts), progress=progress, doing="reading texts")
    ]
    return torch.cat(parts)[[different[text] for text in texts]]
