"""Measuring what a uniform attention costs: in each decoder layer alone, and in all of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from mmattn.captioner import Captioner
from mmattn.maps.quality.ablation import TokenScores, token_scores, uniform_attention
from mmattn.reports.words import NamedRegions


@dataclass(frozen=True)
class MeasuredTokens:
    """What was measured on R reference tokens: `log_probs` (nats) and `hits` are [R, 1 + changes].

    The first column is of the model as it is, the others of its `changes`: uniform attention in one
    layer, or in all of them for None. `images` [R] says of which images of the set the tokens are.
    """

    changes: tuple[int | None, ...]
    images: np.ndarray
    log_probs: np.ndarray
    hits: np.ndarray


def measure_uniform(model: Captioner, parts: Iterable[NamedRegions]) -> MeasuredTokens:
    """Score the first captions of images by the model, and by it with uniform attention.

    The images are encoded once. A model of one layer has one change, that of all its layers.
    """
    changes = changes_of(model)
    models = [model]
    models += [uniform_attention(model, None if i is None else [i]) for i in changes]
    images, scored = [], []
    for part in parts:
        images.append(np.repeat(part.indices, part.batch.valid.sum((1, 2)).cpu()))
        with torch.no_grad():
            image = model.encode_batch(part.batch)
        scored.append(_columns([token_scores(each, image, part.batch) for each in models]))
    log_probs, hits = (np.concatenate(each) for each in zip(*scored, strict=True))
    return MeasuredTokens(changes, np.concatenate(images), log_probs, hits)


def changes_of(model: Captioner) -> tuple[int | None, ...]:
    """Return the layers that are changed one by one, then None for all of them."""
    depth = len(model.text.cross_layers)
    return (*(range(depth) if depth > 1 else ()), None)


def _columns(scores: list[TokenScores]) -> tuple[np.ndarray, np.ndarray]:
    log_probs, hits = (torch.stack(each, 1).cpu().double() for each in zip(*scores, strict=True))
    return log_probs.numpy(), hits.numpy()
