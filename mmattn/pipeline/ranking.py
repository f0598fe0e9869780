"""What several captions of an image are chosen by: their agreement, or how well they fit it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mmattn.data.caption_files.references import read_references
from mmattn.data.caption_files.selection import of_training
from mmattn.errors import ConfigError
from mmattn.metrics.agreement import agreement
from mmattn.metrics.clip_score import WEIGHT
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.metrics.ptb import tokenize
from mmattn.pipeline.clip_model import ClipModel, load_clip
from mmattn.pipeline.clip_scores import text_rows

WAYS = ("probability", "consensus", "clip")
Transform = Callable[[UInt8[Tensor, "3 h w"]], Float[Tensor, "3 height width"]]


@runtime_checkable
class Ranker(Protocol):
    """What ranks the captions of an image among each other."""

    @property
    def transform(self) -> Transform | None:
        """What it makes of a picture to see it; None where it looks at captions alone."""
        ...

    def __call__(
        self, texts: Sequence[Sequence[str]], seen: Sequence[Tensor], own: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Return the scores of N captions of each of B images, the best highest.

        Args:
            texts: the captions of each image.
            seen: what `transform` made of each image; nothing without one.
            own: the scores by which the method that wrote them ranks them (`Caption.score`).
        """
        ...


@dataclass(frozen=True)
class ConsensusRanker:
    """Minimum Bayes risk decoding with CIDEr-D: what the other captions agree with most.

    Attributes:
        frequencies: in how many images' captions n-grams are; all weigh the same if None.
        transform: nothing: it does not look at the image.
    """

    frequencies: DocumentFrequencies | None = None
    transform: None = None

    def __call__(
        self, texts: Sequence[Sequence[str]], seen: Sequence[Tensor], own: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Return the mean CIDEr-D of each caption with the image's others; see `agreement`."""
        words = [[tokenize(text) for text in image] for image in texts]
        scores = np.stack(agreement(words, self.frequencies))
        return torch.from_numpy(scores.astype(np.float32))


@dataclass(frozen=True)
class ClipRanker:
    """What fits the image best by CLIPScore.

    Attributes:
        model: what embeds images and captions.
        transform: of its pictures.
    """

    model: ClipModel
    transform: Transform

    def __call__(
        self, texts: Sequence[Sequence[str]], seen: Sequence[Tensor], own: Float[Tensor, "B N"]
    ) -> Float[Tensor, "B N"]:
        """Return 2.5 times the cosines: CLIPScore, but not cut off at 0, which would hide ranks."""
        images = self.model.image_vectors(torch.stack(list(seen)))
        flat = [text for image in texts for text in image]
        captions = text_rows(self.model, flat, len(flat)).unflatten(0, (len(texts), -1))
        return WEIGHT * (images[:, None] * captions).sum(-1)


def ranker_of(
    by: str | Ranker,
    *,
    consensus_captions: str | Path | None = None,
    clip_model: str | Path | ClipModel | None = None,
    device: torch.device | str = "cpu",
) -> Ranker | None:
    """Return what captions are ranked by; None for their probability.

    Args:
        by: one of `WAYS`, or a ranker.
        consensus_captions: a file of captions in which n-grams are counted for "consensus"; see
            `read_references`; what it says is of validation or test is left out.
        clip_model: what "clip" compares with; see `load_clip`.
        device: where a `clip_model` that is loaded computes.

    Raises:
        ConfigError: for another way, and for what belongs to another way, or is missing.
        DataError: for a file of captions that cannot be read.
        CheckpointError: for a model that cannot be.
    """
    check_way(by, consensus_captions, clip_model)
    if not isinstance(by, str):
        return by
    if by == "consensus":
        return ConsensusRanker(_frequencies(consensus_captions))
    if clip_model is None:
        return None
    if isinstance(clip_model, (str, Path)):
        clip_model = load_clip(clip_model, device=device)
    return ClipRanker(clip_model, clip_model.preprocessing.transform())


def check_way(
    by: str | Ranker,
    consensus_captions: str | Path | None,
    clip_model: str | Path | ClipModel | None,
) -> None:
    """Raise ConfigError for another way to rank, and for what is of another way, or missing."""
    if isinstance(by, str) and by not in WAYS:
        raise ConfigError(
            f"by={by!r}: choose {', '.join(WAYS)}, or give what Pipeline.neighbours returns"
        )
    if consensus_captions is not None and by != "consensus":
        raise ConfigError(f"consensus_captions with by={by!r}: it is of by='consensus'")
    if clip_model is not None and by != "clip":
        raise ConfigError(f"clip_model with by={by!r}: it is of by='clip'")
    if clip_model is None and by == "clip":
        raise ConfigError(
            "by='clip' compares images with captions: name the model that does as clip_model, "
            "a folder of open_clip's or a joint model"
        )


def _frequencies(file: str | Path | None) -> DocumentFrequencies | None:
    if file is None:
        return None
    path = Path(file).expanduser()
    known = of_training(read_references(path), None, path)
    return DocumentFrequencies.of([[tokenize(text) for text in e.captions] for e in known])
