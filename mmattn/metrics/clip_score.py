"""CLIPScore and RefCLIPScore, from the embeddings of images and texts.

Hessel, Holtzman, Forbes, Le Bras and Choi 2021, "CLIPScore: a reference-free evaluation metric for
image captioning", section 3. Whose embeddings they are matters: scores of different models are not
to be compared.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

WEIGHT = 2.5  # stretches the cosines that occur, 0 to 0.4, to a range of 0 to 1
PROMPT = "A photo depicts"  # what the authors write before every text


def cosines(a: Float[Tensor, "*N E"], b: Float[Tensor, "*N E"]) -> Float[Tensor, "*N"]:
    """Return the cosines of pairs of embeddings of any length."""
    return (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)


def clip_score(images: Float[Tensor, "N E"], captions: Float[Tensor, "N E"]) -> Float[Tensor, "N"]:
    """Return CLIPScore, 2.5 · max(cos(image, caption), 0), of N pairs."""
    return WEIGHT * cosines(images, captions).clamp(min=0)


def ref_clip_score(
    scores: Float[Tensor, "N"],
    captions: Float[Tensor, "N E"],
    references: Float[Tensor, "R E"],
    caption_of: Int[Tensor, "R"],
) -> Float[Tensor, "N"]:
    """Return RefCLIPScore: the harmonic mean of CLIPScore and of the best reference's cosine.

    Args:
        scores: CLIPScore of N captions.
        captions: their embeddings.
        references: embeddings of all references.
        caption_of: which caption each of them is a reference of; one without any scores 0.
    """
    likeness = cosines(captions[caption_of], references).clamp(min=0)
    best = torch.zeros_like(scores).scatter_reduce(0, caption_of, likeness, "amax")
    total = scores + best
    return torch.where(total > 0, 2 * scores * best / total.clamp(min=1e-12), 0.0)
