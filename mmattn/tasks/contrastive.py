"""The contrastive loss: images and their texts close together, all others of the batch apart."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmattn.data.order import stable_hash
from mmattn.tasks.gather import gather_rows

KINDS = ("softmax", "sigmoid")
NOTHING = -1  # in the place of a caption's number; no caption has it


def caption_numbers(captions: Sequence[Sequence[str]]) -> Int[Tensor, "B K"]:
    """Return a number for each caption of B images, equal where captions are; padded to K.

    The numbers are those of every other process, and of every other run.
    """
    rows = [[stable_hash(text) for text in texts] for texts in captions]
    longest = max((len(row) for row in rows), default=0)
    padded = [row + [NOTHING] * (longest - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.long).view(len(rows), longest)


def belong(known: Int[Tensor, "B K"], texts: Int[Tensor, "R"]) -> Bool[Tensor, "B R"]:
    """Return which texts say what one of an image's own captions says, by `caption_numbers`."""
    found = torch.zeros(len(known), len(texts), dtype=torch.bool, device=known.device)
    for column in known.T:  # few, and so no [B, K, R] is ever made
        found |= column[:, None] == texts
    return found


def contrastive_loss(
    image: Float[Tensor, "B E"],
    text: Float[Tensor, "R E"],
    known: Int[Tensor, "B K"],
    texts: Int[Tensor, "R"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""] | None = None,
    kind: str = "softmax",
) -> Float[Tensor, ""]:
    """Return this rank's part of the loss over the images and texts of all ranks.

    The mean of the parts over the ranks is the loss of all, and its gradient is that of the loss:
    distributed training averages gradients.

    "softmax" is the mean of both directions' cross-entropies (InfoNCE, as in CLIP); where an image
    has several texts in the batch, or a text several images, the target is spread over them
    equally. "sigmoid" asks of every pair by itself whether it belongs together (SigLIP, Zhai et al.
    2023), summed over the images and averaged over the texts.

    Args:
        image: embeddings of length 1 of this rank's images.
        text: the same of its texts.
        known: `caption_numbers` of all captions that each image is known to have.
        texts: `caption_numbers` of the texts.
        scale: what similarities are multiplied by.
        bias: what is then added, for "sigmoid".
        kind: "softmax" or "sigmoid".
    """
    image, text = image.float(), text.float()
    all_text, ranks = gather_rows(text)
    all_texts = gather_rows(texts[:, None]).rows[:, 0]
    # In full precision: at a scale of 100, bfloat16 would round a score by a quarter.
    with torch.autocast(image.device.type, enabled=False):
        of_images = scale * image @ all_text.T
        if kind == "sigmoid":
            scores = of_images if bias is None else of_images + bias
            losses = pair_losses(scores, belong(known, all_texts))
            return losses.sum() * ranks / len(all_text)
        all_image = gather_rows(image).rows
        all_known = gather_rows(known, NOTHING).rows
        of_texts = scale * text @ all_image.T
        images = spread_cross_entropy(of_images, belong(known, all_texts))
        back = spread_cross_entropy(of_texts, belong(all_known, texts).T)
    return (images.sum() / len(all_image) + back.sum() / len(all_text)) * ranks / 2


def spread_cross_entropy(
    scores: Float[Tensor, "Q N"], positive: Bool[Tensor, "Q N"]
) -> Float[Tensor, "Q"]:
    """Return each query's cross-entropy to its positives, equally probable; 0 without any."""
    target = positive.to(scores.dtype)
    target = target / target.sum(1, keepdim=True).clamp(min=1)
    return F.cross_entropy(scores, target, reduction="none")


def pair_losses(
    scores: Float[Tensor, "B R"], positive: Bool[Tensor, "B R"]
) -> Float[Tensor, "B R"]:
    """Return each pair's binary cross-entropy."""
    return F.binary_cross_entropy_with_logits(scores, positive.to(scores.dtype), reduction="none")
