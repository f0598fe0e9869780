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
    hard: float = 1.0,
) -> Pairs:
    """Draw the pairs of a batch: up to three for each image, as ALBEF (Li et al. 2021) does.

    Each image goes with one of its own texts, with a text of others, and that own text with another
    image. A share of the others are drawn the more often the more similar they are, so that the
    matcher learns what the embeddings cannot tell; the rest are drawn evenly, so that it learns
    something at all while it cannot tell these either. None is true of the image. An image or text
    for which the batch holds nothing false gets no such pair. Draws from torch's global generator.

    Args:
        similarity: of the batch's images and texts, times the scale; None draws all alike.
        positive: which texts are true of an image: its own, and those that say the same.
        owner: the image that each text was given with.
        hard: the share that is drawn by similarity.
    """
    if similarity is None:
        similarity = torch.zeros(positive.shape, device=positive.device)
    places = torch.arange(len(positive), device=owner.device)
    images, texts = draw(similarity, places[:, None] == owner, 0.0)
    image_of_false, false_texts = draw(similarity, ~positive, hard)
    row_of_false, false_images = draw(similarity.T[texts], ~positive.T[texts], hard)
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
    scores: Float[Tensor, "Q N"], allowed: Bool[Tensor, "Q N"], hard: float
) -> tuple[Int[Tensor, "M"], Int[Tensor, "M"]]:
    """Draw one allowed candidate for each query that has any: evenly, or by its scores' softmax.

    `hard` is how often it is the latter. Returns the M queries, and what was drawn for them.
    """
    queries = allowed.any(1).nonzero()[:, 0]
    if not len(queries):
        return queries, queries
    allowed = allowed[queries]
    by_score = scores[queries].float().masked_fill(~allowed, -torch.inf).softmax(1)
    evenly = allowed / allowed.sum(1, keepdim=True)
    return queries, torch.multinomial(hard * by_score + (1 - hard) * evenly, 1)[:, 0]
