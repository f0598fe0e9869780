"""CLIPScore and RefCLIPScore of captions of image files."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mmattn.data.images import MAX_PIXELS
from mmattn.errors import DataError
from mmattn.metrics.clip_score import clip_score, ref_clip_score
from mmattn.metrics.corpus import check_references
from mmattn.pipeline.clip_model import ClipModel, prompted
from mmattn.pipeline.collected import check_sizes, collected, counted
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.pipeline.preparation import Preparation


class ClipScores(NamedTuple):
    """The scores of N captions.

    clip: CLIPScore [N], 0 to 2.5. ref_clip: RefCLIPScore [N]; None without references.
    """

    clip: np.ndarray
    ref_clip: np.ndarray | None


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
        progress: show a progress bar; if None, on a terminal, where there are several batches.
        max_pixels: what the header of an image file may promise.

    Raises:
        DataError: for the first picture that cannot be read, numbers of images, captions and
            references that differ, and an image without a reference.
    """
    check_sizes(batch_size, threads)
    found, total = counted(images, max_pixels)
    preparation = Preparation(model.preprocessing, keep=False)

    def embedded(batch: Sequence[Ready]) -> torch.Tensor:
        return model.image_vectors(torch.stack([one.prepared.pixels for one in batch]))

    sizes = {"batch_size": batch_size, "threads": threads}
    results = computed(found, preparation, embedded, **sizes)
    seen = collected(results, total, progress=progress, few=batch_size, doing="scoring")
    if len(seen) != len(captions):
        raise DataError(f"{len(seen)} images and {len(captions)} captions: give one of each image")
    if not seen:
        return ClipScores(np.zeros(0), None if references is None else np.zeros(0))
    said = text_rows(model, captions, batch_size)
    scores = clip_score(torch.stack(seen), said)
    if references is None:
        return ClipScores(scores.numpy(), None)
    return ClipScores(scores.numpy(), _with_references(model, scores, said, references, batch_size))


def _with_references(
    model: ClipModel,
    scores: torch.Tensor,
    said: torch.Tensor,
    references: Sequence[Sequence[str]],
    batch_size: int,
) -> np.ndarray:
    """Return RefCLIPScore of captions with these embeddings."""
    check_references(references)
    if len(references) != len(scores):
        raise DataError(
            f"{len(references)} images have references and {len(scores)} captions: give some "
            "references for each image"
        )
    known = text_rows(model, [text for image in references for text in image], batch_size)
    counts = torch.tensor([len(image) for image in references])
    caption_of = torch.arange(len(references)).repeat_interleave(counts)
    return ref_clip_score(scores, said, known, caption_of).numpy()


def text_rows(model: ClipModel, texts: Sequence[str], batch_size: int) -> torch.Tensor:
    """Return the embeddings of texts behind the model's prompt, each different one made once."""
    different = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    rows = prompted(model, list(different))
    parts = [
        model.text_vectors(rows[start : start + batch_size])
        for start in range(0, len(rows), batch_size)
    ]
    return torch.cat(parts)[[different[text] for text in texts]]
