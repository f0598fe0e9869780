"""Maps from weights P and their gradients ∇P in a score: relevance, LeGrad, attention x gradient.

Equation numbers of relevance are those of Chefer, Gur and Wolf 2021 (ICCV), "Generic
Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder Transformers". Nothing
here edits its arguments.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def attention_gradient(
    weights: Float[Tensor, "B H T S"], gradients: Float[Tensor, "B H T S"], *, signed: bool = False
) -> Float[Tensor, "B T S"]:
    """Return E_h((∇P ⊙ P)⁺) (equation 5), or with `signed` the mean without cutting at zero.

    What argues against the score is zero here, and negative where signed.
    """
    product = gradients * weights
    return (product if signed else product.clamp(min=0)).mean(1)


def self_relevance(
    layers: Iterable[Float[Tensor, "B T T"]], start: Float[Tensor, "B T T"]
) -> Float[Tensor, "B T T"]:
    """Return R of self-attention layers: R ← R + Ā·R for each (equation 6).

    `layers` are Ā of `attention_gradient`, the first layer first; `start` is the identity (equation
    1), of which row i is what token i is made of.
    """
    relevance = start
    for attended in layers:
        relevance = relevance + attended @ relevance
    return relevance


def normalised(relevance: Float[Tensor, "B T T"]) -> Float[Tensor, "B T T"]:
    """Return R̄ (equations 8 and 9): the rows of R - I divided by their sums, plus I.

    A token that attention brought nothing has a row of zeros in R - I; it stays one, where the
    authors' code divides 0 by 0.
    """
    identity = torch.eye(relevance.shape[-1], dtype=relevance.dtype, device=relevance.device)
    brought = relevance - identity
    total = brought.sum(-1, keepdim=True)
    return brought / total.where(total > 0, 1.0) + identity


def decoder_relevance(
    layers: Iterable[tuple[Float[Tensor, "B T T"], Float[Tensor, "B T S"]]],
    image: Float[Tensor, "B S S"],
) -> Float[Tensor, "B T S"]:
    """Return R^sq, the relevance of each image token q for each text token s of a decoder.

    `layers` are its (self-attention, cross-attention) Ā, `image` is the encoder's R^qq. A layer's
    self-attention does R^sq ← R^sq + Ā·R^sq (equation 7) and R^ss ← R^ss + Ā·R^ss (6), then its
    cross-attention R^sq ← R^sq + (R̄^ss)ᵀ·Ā·R̄^qq (10). Equation 11 is for models whose image attends
    back to the text. Raises ValueError without a layer.
    """
    memory, text, relevance = normalised(image), None, None
    for own, across in layers:
        if text is None or relevance is None:
            text = torch.eye(own.shape[-1], dtype=own.dtype, device=own.device).expand_as(own)
            relevance = torch.zeros_like(across)
        relevance = relevance + own @ relevance
        text = text + own @ text
        relevance = relevance + normalised(text).mT @ (across @ memory)
    if relevance is None:
        raise ValueError("the relevance of a decoder needs at least one layer")
    return relevance


def legrad(gradients: Iterable[Float[Tensor, "B H T S"]]) -> Float[Tensor, "B S"]:
    """Return LeGrad (Bousselham et al. 2024): E_l E_h Σ_t (∇P)⁺ over layers, heads and query rows.

    The paper takes the mean over query rows, which is the same but for a constant; here rows that
    the score does not depend on (later words) must not shrink the map. Its min-max scaling is left
    to who draws the map. Raises ValueError without a layer.
    """
    found = [gradient.clamp(min=0).mean(1).sum(1) for gradient in gradients]
    if not found:
        raise ValueError("LeGrad needs the gradients of at least one layer")
    return torch.stack(found).mean(0)
