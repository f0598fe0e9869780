"""Finding the texts of an image and the image of a text: recall among the first k, median rank."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.errors import DataError
from mmattn.metrics.precision import in_double


def retrieval_scores(
    similarity: Float[Tensor, "images texts"],
    image_of_text: Int[Tensor, "texts"],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
    """Return recall@k and the median rank both ways, from the similarity of each image and text.

    Args:
        similarity: higher means closer; of any origin, such as a matching head.
        image_of_text: the row of the image that each text belongs to; an image may have several.
        ks: how many of the first count.

    Returns:
        image_to_text_recall_k, the share of images of which one of their own texts is among the
        first k (the protocol of Flickr30k and COCO); text_to_image_recall_k, the share of texts
        whose image is; and image_to_text_median_rank, text_to_image_median_rank, from 1.

    Of equally similar ones those of others come first, so that a constant similarity finds nothing.
    An image without a text asks for none, but stays among those to choose from.

    Raises:
        DataError: there is no text, a text belongs to no row, or a similarity is NaN.
    """
    images, asking = _images(image_of_text, len(similarity))
    _refuse(similarity.isnan(), "similarities are NaN")
    return {
        **_named("image_to_text", ks, ranks(similarity[asking], _own(asking, image_of_text))),
        **_named("text_to_image", ks, ranks(similarity.T, _own(image_of_text, images))),
    }


def recall_at_k(
    image_embeddings: Float[Tensor, "images D"],
    text_embeddings: Float[Tensor, "texts D"],
    image_of_text: Int[Tensor, "texts"],
    ks: Sequence[int] = (1, 5, 10),
    block: int = 1024,
) -> dict[str, float]:
    """Return what `retrieval_scores` does, with dot products for similarities.

    Embeddings of length 1 make that the cosine. Only `block` rows of the matrix exist at a time, in
    double precision; similarities that differ by no more than its rounding count as equal.

    Raises:
        DataError: there is no text, a text belongs to no row, or an embedding is not finite.
    """
    images, asking = _images(image_of_text, len(image_embeddings))
    _refuse(~image_embeddings.isfinite(), "numbers in the embeddings of images are not finite")
    _refuse(~text_embeddings.isfinite(), "numbers in the embeddings of texts are not finite")
    image, text = in_double(image_embeddings), in_double(text_embeddings)
    of_images = _ranks_by_block(image[asking], text, asking, image_of_text, block)
    of_texts = _ranks_by_block(text, image, image_of_text, images, block)
    return _named("image_to_text", ks, of_images) | _named("text_to_image", ks, of_texts)


def ranks(
    similarity: Float[Tensor, "Q N"],
    own: Bool[Tensor, "Q N"],
    slack: Float[Tensor, "Q"] | None = None,
) -> Int[Tensor, "Q"]:
    """Return the rank, from 1, of the closest of its own that each of Q queries finds.

    Args:
        similarity: of the queries to N candidates.
        own: which candidates belong to a query, at least one.
        slack: by how much less similar another candidate may be and still come first.
    """
    best = similarity.masked_fill(~own, -torch.inf).amax(-1)
    bar = best if slack is None else best - slack
    return 1 + ((similarity >= bar[:, None]) & ~own).sum(-1)


def _ranks_by_block(
    queries: Float[Tensor, "Q D"],
    candidates: Float[Tensor, "N D"],
    image_of_query: Int[Tensor, "Q"],
    image_of_candidate: Int[Tensor, "N"],
    block: int,
) -> Int[Tensor, "Q"]:
    # A dot product of D terms is off by no more than D roundings of the lengths' product.
    rounding = queries.shape[1] * torch.finfo(queries.dtype).eps
    slack = rounding * queries.norm(dim=-1) * candidates.norm(dim=-1).max()
    parts = zip(queries.split(block), image_of_query.split(block), slack.split(block), strict=True)
    return torch.cat(
        [ranks(rows @ candidates.T, _own(image, image_of_candidate), s) for rows, image, s in parts]
    )


def _own(image_of_query: Int[Tensor, "Q"], image_of_candidate: Int[Tensor, "N"]) -> Tensor:
    return image_of_query[:, None] == image_of_candidate


def _images(
    image_of_text: Int[Tensor, "texts"], count: int
) -> tuple[Int[Tensor, "images"], Int[Tensor, "Q"]]:
    """Return the numbers of all images, and of those that have a text."""
    if not len(image_of_text):
        raise DataError("nothing to retrieve: there is no text")
    outside = image_of_text[(image_of_text < 0) | (image_of_text >= count)]
    if len(outside):
        raise DataError(
            f"{len(outside)} texts belong to images that are not there, such as image "
            f"{int(outside[0])}: there are {count}, numbered from 0"
        )
    return torch.arange(count, device=image_of_text.device), image_of_text.unique()


def _refuse(broken: Bool[Tensor, "..."], what: str) -> None:
    if count := int(broken.sum()):
        raise DataError(f"{count} {what}: no rank can be told")


def _named(way: str, ks: Sequence[int], ranks: Int[Tensor, "Q"]) -> dict[str, float]:
    recalls = {f"{way}_recall_{k}": (ranks <= k).double().mean().item() for k in ks}
    return recalls | {f"{way}_median_rank": ranks.double().quantile(0.5).item()}
