"""Attention rollout: weights followed through the layers (Abnar and Zuidema 2020, section 3)."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.recorder import attention_weights
from mmattn.taps import AttentionCall, Listener

Fusion = Literal["mean", "max", "min"]


class FusedWeights(Listener):
    """Keeps the weights of chosen sites with their heads fused to one: an H-th of the memory.

    `fused[site]` is [B, T, S], in the order in which the sites ran.
    """

    def __init__(self, sites: Iterable[str], fusion: Fusion = "mean"):
        super().__init__(sites)
        self.fusion: Fusion = fusion
        self.fused: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, site: str, call: AttentionCall) -> None:
        """Keep one call. Raises ValueError where the site runs a second time."""
        if site in self.fused:
            raise ValueError(f"{site} ran twice: rollout needs one pass over whole texts")
        weights = attention_weights(call.q, call.k, call.mask, call.scale)
        self.fused[site] = fuse_heads(weights, self.fusion)


def fuse_heads(weights: Float[Tensor, "B H T S"], fusion: Fusion) -> Float[Tensor, "B T S"]:
    """Return the mean, the largest or the smallest weight over the heads."""
    if fusion not in get_args(Fusion):
        raise ValueError(f"fusion is one of {', '.join(get_args(Fusion))}, not {fusion!r}")
    if fusion == "mean":
        return weights.mean(1)
    return weights.amax(1) if fusion == "max" else weights.amin(1)


def with_residual(weights: Float[Tensor, "B T T"]) -> Float[Tensor, "B T T"]:
    """Return P/2 + I/2, each row divided by its sum: half of a token stays on its own path.

    Where P's rows sum to 1 the division does nothing. It is needed after a fusion by "max" or
    "min", and leaves a row that may attend to nothing on its own path whole.
    """
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    mixed = 0.5 * weights + 0.5 * identity
    return mixed / mixed.sum(-1, keepdim=True)


def rollout(layers: Sequence[Float[Tensor, "B T T"]]) -> Float[Tensor, "B T T"]:
    """Return how much of each input token is in each output token; every row sums to 1.

    `layers` are the weights with fused heads, the first layer first (equation 1 of the paper:
    Ã(l) = A(l)·Ã(l - 1)). Raises ValueError without a layer.
    """
    if not layers:
        raise ValueError("rollout needs at least one layer; without one it is the identity")
    rolled = with_residual(layers[0])
    for weights in layers[1:]:
        rolled = with_residual(weights) @ rolled
    return rolled


def rows_to_one(weights: Float[Tensor, "*B S"]) -> Float[Tensor, "*B S"]:
    """Return the rows divided by their sums; a row of zeros stays one."""
    total = weights.sum(-1, keepdim=True)
    return weights / total.where(total > 0, 1.0)


def decoder_rollout(
    layers: Iterable[tuple[Float[Tensor, "R T T"], Float[Tensor, "R T S"]]],
) -> tuple[Float[Tensor, "R T T"], Float[Tensor, "R T S"]]:
    """Return how much of each text token and of each image token is in each output token.

    `layers` are a decoder's (self-attention, cross-attention) weights with fused heads. The paper
    has encoders alone; this is its rule on text and image tokens together. A layer is first the
    block matrix [[P_self, 0], [0, I]] and then [[0, P_cross], [0, I]], each with the residual path
    of the text tokens. So a row's text part and image part sum to 1 together, and an image token
    counts that an *earlier* word looked at, as far as later words attend to that word.

    To go on into the encoder, hand in its rollout behind the weights: `P_cross @ rollout(…)`.
    Raises ValueError without a layer.
    """
    text, image = None, None
    for own, across in layers:
        mixed, total = with_residual(own), 1 + across.sum(-1, keepdim=True)
        text = mixed if text is None else mixed @ text
        image = across if image is None else mixed @ image + across
        text, image = text / total, image / total
    if text is None or image is None:
        raise ValueError("the rollout of a decoder needs at least one layer")
    return text, image
