"""The matching loss: which pairs the matcher is asked about, and what it should say."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.joint import NO, YES


class Pairs(NamedTuple):
    """M pairs of an image and a text, by their places in a batch, and whether they belong."""

    images: Int[Tensor, "M"]
    texts: Int[Tensor, "M"]
    target: Int[Tensor, "M"]


def matching_pairs(
    similarity: Float[Tensor, "B R"] | None,
    positive: Bool[Tensor, "B R"],
    owner: Int[Tensor, "R"],
) -> Pairs:
    """Draw the pairs of a batch: up to three for each image, as ALBEF (Li et al. 2021) does.

    Each image goes with one of its own texts, with a text of others, and that own text with another
    image. The others are drawn the more often the more similar they are, so that the matcher learns
    what the embeddings cannot tell; none of them is true of the image. An image or text for which
    the batch holds nothing false gets no such pair. Draws from torch's global generator.

    Args:
        similarity: of the batch's images and texts, times the scale; None draws all alike.
        positive: which texts are true of an image: its own, and those that say the same.
        owner: the image that each text was given with.
    """
    if similarity is None:
        similarity = torch.zeros(positive.shape, device=positive.device)
    places = torch.arange(len(positive), device=owner.device)
    images, texts = draw(torch.zeros_like(similarity), places[:, None] == owner)
    image_of_false, false_texts = draw(similarity, ~positive)
    row_of_false, false_images = draw(similarity.T[texts], ~positive.T[texts])
    parts = (
        (images, texts, YES),
        (image_of_false, false_texts, NO),
        (false_images, texts[row_of_false], NO),
    )
    return Pairs(
        torch.cat([image for image, _, _ in parts]),
        torch.cat([text for _, text, _ in parts]),
        torch.cat([torch.full_like(image, answer) for image, _, answer in parts]),
    )


@torch.no_grad()
def draw(
    scores: Float[Tensor, "Q N"], allowed: Bool[Tensor, "Q N"]
) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
    """Draw one allowed candidate for each query that has any, by the softmax of its scores.

    Returns the M queries, and what was drawn for them.
    """
    queries = allowed.any(1).nonzero()[:, 0]
    masked = scores.detach().float().masked_fill(~allowed, -torch.inf)[queries]
    if not len(queries):
        return queries, queries
    return queries, torch.multinomial(masked.softmax(1), 1)[:, 0]
