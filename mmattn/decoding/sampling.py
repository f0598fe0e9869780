"""Sampling: tokens are drawn, from all of the vocabulary or from its more probable part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.decoding.decoded import Decoded, Limits, Ranking
from mmattn.decoding.ensemble import Encoded, Heard, Model, first_of
from mmattn.decoding.rows import write_rows
from mmattn.decoding.rules import NEVER, Rule
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """Draws every token from the model's distribution, sharpened and cut.

    In this order: logits are divided by `temperature`; all but the `top_k` most probable tokens are
    left out; then all but the fewest that hold `top_p` of the probability (nucleus sampling,
    Holtzman et al. 2020); then those less probable than `min_p` times the most probable one (Nguyen
    et al. 2025). What is drawn depends on the seed and on the image's place, not on which images
    share its batch.

    Args:
        temperature: above 0; 1 leaves the distribution as it is.
        top_k: how many tokens to leave, all if None.
        top_p: the probability to leave, in (0, 1].
        min_p: the least share of the largest probability, in [0, 1].
        samples: how many captions of each image are drawn.
        returned: how many of them are returned, the most probable first (best of n), or those that
            the call's `ranking` ranks highest; all as they were drawn if None.
        seed: of all that is drawn.

    Raises:
        ConfigError: for numbers out of their range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    samples: int = 1
    returned: int | None = None
    seed: int = 0

    def __post_init__(self):
        ranges = {
            "temperature above 0": self.temperature > 0,
            "top_k of at least 1": self.top_k is None or self.top_k >= 1,
            "top_p in (0, 1]": 0 < self.top_p <= 1,
            "min_p in [0, 1]": 0 <= self.min_p <= 1,
            "samples of at least 1": self.samples >= 1,
            "returned from 1 to samples": 1 <= (self.returned or self.samples) <= self.samples,
        }
        wrong = [name for name, right in ranges.items() if not right]
        if wrong:
            raise ConfigError(f"{self}: give {wrong[0]}")

    def __call__(
        self,
        model: Model,
        image: Encoded,
        limits: Limits,
        rules: Sequence[Rule] = (),
        listener: Heard = None,
        ranking: Ranking | None = None,
        places: Sequence[int] | None = None,
    ) -> Decoded:
        """Write captions of encoded images; see `BeamSearch` for what is asked.

        `places` are the images' places among all that are captioned in several batches.
        """
        tokens = first_of(image).tokens
        places = range(len(tokens)) if places is None else places
        drawn = self.uniforms(places, limits.max_length).to(tokens.device)

        def choose(scores: Tensor, images: Tensor, step: int) -> Tensor:
            return drawn_tokens(self.cut(scores / self.temperature), drawn[images, :, step])

        return write_rows(
            model,
            image,
            self.samples,
            choose,
            limits,
            rules=rules,
            listener=listener,
            best=self.returned,
            ranking=ranking,
        )

    def uniforms(self, places: Sequence[int], steps: int) -> Float[Tensor, "B N T"]:
        """Return the numbers in [0, 1) that choose the tokens."""
        drawn = [
            np.random.default_rng([self.seed, place]).random((self.samples, steps), np.float32)
            for place in places
        ]
        return torch.from_numpy(np.stack(drawn))

    def cut(self, scores: Float[Tensor, "*R V"]) -> Float[Tensor, "*R V"]:
        """Return the scores with the less probable tokens left out."""
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            least = scores.topk(self.top_k, dim=-1).values[..., -1:]
            scores = scores.masked_fill(scores < least, NEVER)
        if self.top_p < 1:
            ranked, order = scores.sort(dim=-1, descending=True)
            probabilities = ranked.softmax(-1)
            before = probabilities.cumsum(-1) - probabilities
            out = torch.zeros_like(before, dtype=torch.bool)
            scores = scores.masked_fill(out.scatter(-1, order, before >= self.top_p), NEVER)
        if self.min_p > 0:
            probabilities = scores.softmax(-1)
            least = self.min_p * probabilities.amax(-1, keepdim=True)
            scores = scores.masked_fill(probabilities < least, NEVER)
        return scores


def drawn_tokens(scores: Float[Tensor, "*R V"], uniforms: Float[Tensor, "*R"]) -> Int[Tensor, "*R"]:
    """Return the token at which the cumulated probability of the scores passes `uniforms`."""
    total = scores.softmax(-1).cumsum(-1)
    wanted = uniforms[..., None] * total[..., -1:]
    found = torch.searchsorted(total, wanted, right=True)[..., 0]
    last = (scores > NEVER).long() * torch.arange(scores.shape[-1], device=scores.device)
    return found.minimum(last.amax(-1))  # rounding may not pass the last token that is left
