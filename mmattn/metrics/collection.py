"""Caption scores over many batches and processes, as a torchmetrics metric."""

from collections.abc import Callable
from typing import Any

import torch
import torchmetrics

from mmattn.errors import DataError
from mmattn.metrics import exact_match, score_captions
from mmattn.metrics.meteor import meteor

# Only hashable parts: torchmetrics hashes a metric's state, and Lightning hashes its modules.
Caption = tuple[str, tuple[str, ...], str]


class CaptionScores(torchmetrics.Metric):
    """BLEU, ROUGE-L, CIDEr-D and exact match of all captions that any process has seen.

    Each image counts once, however often it was given: a distributed sampler repeats some to fill
    the last batch. Where its predictions differ, as they may when its batches did, the first in
    alphabetical order counts. So neither the number of processes nor the order changes the result.

    Args:
        meteor: compute METEOR too, where its program and Java are installed.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    captions: list[Caption]

    def __init__(self, meteor: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.meteor = meteor
        self.add_state("captions", default=[], dist_reduce_fx=None)

    def update(self, keys: list[str], references: list[list[str]], predictions: list[str]) -> None:
        """Add images, each with a name, its references and its predicted caption.

        Raises:
            DataError: the three lists differ in length.
        """
        if not len(keys) == len(references) == len(predictions):
            raise DataError(
                f"{len(keys)} keys, {len(references)} lists of references and {len(predictions)} "
                "predictions: give one of each per image"
            )
        texts = (tuple(each) for each in references)
        self.captions.extend(zip(keys, texts, predictions, strict=True))

    def compute(self) -> dict[str, float]:
        """The scores of `score_captions`, "exact_match" and perhaps "METEOR", over all images.

        Raises:
            DataError: no process has seen an image, an image has no reference, or the references of
                one image differ between two updates.
        """
        captions = merge(self.captions)
        references = [list(references) for _, references, _ in captions]
        predictions = [prediction for _, _, prediction in captions]
        scores = score_captions(references, predictions)
        scores["exact_match"] = exact_match(references, predictions)
        measured = meteor(references, predictions) if self.meteor else None
        return scores if measured is None else scores | {"METEOR": measured}

    def merged(self) -> list[Caption]:
        """Return one caption for each image that any process has seen, sorted by its key.

        Every process must call it, and gets the same. Raises `DataError` as `compute` does where
        references differ.
        """
        with self.sync_context():
            return merge(self.captions)

    def _sync_dist(
        self, dist_sync_fn: Callable | None = None, process_group: Any | None = None
    ) -> None:
        # Overridden because torchmetrics gathers tensors only.
        group = process_group or self.process_group
        parts: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(parts, self.captions, group=group)
        self.captions = [caption for part in parts for caption in part]

    def _apply(self, fn: Callable, exclude_state: Any = "") -> torch.nn.Module:
        # Overridden because strings do not move to a device.
        return super()._apply(fn, exclude_state=[*exclude_state, "captions"])


def merge(captions: list[Caption]) -> list[Caption]:
    """One caption for each key, sorted by key."""
    merged: dict[str, Caption] = {}
    for key, references, prediction in captions:
        _, known, other = merged.setdefault(key, (key, references, prediction))
        if known != references:
            raise DataError(
                f"image {key!r} was given with two different lists of references, {known} and "
                f"{references}: keys must be unique in the data set"
            )
        merged[key] = (key, references, min(prediction, other))
    return [merged[key] for key in sorted(merged)]
