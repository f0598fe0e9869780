"""Attention made uniform: what a captioner loses when it cannot choose where to look.

Weights may look like an explanation and not matter to the answer (Jain and Wallace 2019). Whether
they matter can be tried: give every place the same weight (Wiegreffe and Pinter 2019). They train
the uniform model anew, which says what the task needs; here a trained model is changed, which says
what *this* model uses.
"""

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmattn.attention import Attention
from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.maps.methods import cross_layers, evaluating

ROWS = 1024  # tokens whose V scores are held at once


class TokenScores(NamedTuple):
    """What a model gives to the R real tokens of a batch's captions, caption by caption.

    `log_probs` are in nats; `hits` say where the token is the model's first choice.
    """

    log_probs: Float[Tensor, "R"]
    hits: Bool[Tensor, "R"]


def uniform_attention(model: Captioner, layers: Sequence[int] | None = None) -> Captioner:
    """Return the captioner with uniform cross-attention: 1/(P + S) on every token of the image.

    Args:
        model: stays as it is.
        layers: decoder layers, negative ones counted from the last; all if None.

    Exact, on every kernel: a query of zeros scores every key alike. All other weights are the
    model's own and not copies of them, so this costs next to no memory; it is to be looked at, not
    to be trained. Raises ValueError for a layer that the decoder lacks.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copy = deepcopy(model, shared)
    for layer in cross_layers(model, layers):
        attention = copy.text.get_submodule(f"blocks.{layer}.cross_attention")
        assert isinstance(attention, Attention)
        _give_zeros(attention.to_q)
        _give_zeros(attention.q_norm)
    return copy


@torch.no_grad()
def token_scores(model: Captioner, image: ImageTokens, batch: CaptionBatch) -> TokenScores:
    """Score the reference tokens of a batch, each given the image and those before it."""
    with evaluating(model):
        hidden = model.decode(image, batch.tokens)[batch.valid]
        parts = zip(hidden.split(ROWS), batch.labels[batch.valid].split(ROWS), strict=True)
        found = [_scored(model.logits(rows).float(), labels) for rows, labels in parts]
    log_probs, hits = (torch.cat(each) for each in zip(*found, strict=True))
    return TokenScores(log_probs, hits)


def _scored(logits: Tensor, labels: Tensor) -> TokenScores:
    log_probs = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    return TokenScores(log_probs, logits.argmax(-1) == labels)


def _give_zeros(module: nn.Module) -> None:
    """Give a linear map or a normalisation new parameters with which its output is always zero."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.zeros_like(parameter), parameter.requires_grad))
