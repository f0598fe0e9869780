"""How probable a caption's words are, given other pictures than the caption's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class CaptionScorer:
    """Log-probabilities of the tokens of one caption, each given the picture and those before it.

    `tokens` and `labels` are one row of a `CaptionBatch`. At most `chunk` pictures go through the
    model at once.
    """

    model: Captioner
    tokens: Int[Tensor, "T"]
    labels: Int[Tensor, "T"]
    chunk: int = 128

    @classmethod
    def of(cls, model: Captioner, batch: CaptionBatch, index: int) -> "CaptionScorer":
        """Return the scorer of the first caption of an image of the batch.

        Raises ConfigError for a batch of cached features: only pixels can be perturbed.
        """
        if batch.cached:
            raise ConfigError(
                "perturbing a picture needs its pixels, and this batch holds cached features: "
                "measure without the feature cache, or without perturbations"
            )
        return cls(model, batch.tokens[index, 0], batch.labels[index, 0])

    @torch.no_grad()
    def log_probs(
        self, images: Float[Tensor, "M C height width"], places: Sequence[int]
    ) -> Float[Tensor, "M places"]:
        """Return the log-probability of the tokens at `places`, for each of M pictures."""
        chosen = torch.tensor(list(places), device=self.labels.device)
        until = max(places) + 1  # what comes later changes nothing
        targets = self.labels[chosen]
        found = []
        for part in images.split(self.chunk):
            rows = self.tokens[:until].expand(len(part), 1, until)
            hidden = self.model.decode(self.model.encode(part), rows)[:, 0, chosen]
            log_probs = self.model.logits(hidden).float().log_softmax(-1)
            found.append(log_probs.gather(-1, targets.expand(len(part), -1)[..., None])[..., 0])
        return torch.cat(found)

    def log_prob(
        self, images: Float[Tensor, "M C height width"], places: Sequence[int]
    ) -> Float[Tensor, "M"]:
        """Return the log-probability of all the tokens at `places` together: of a word."""
        return self.log_probs(images, places).sum(-1)

    def probability(
        self, images: Float[Tensor, "M C height width"], places: Sequence[int]
    ) -> Float[Tensor, "M"]:
        """Return the probability of all the tokens at `places` together: of a word."""
        return self.log_prob(images, places).exp()
