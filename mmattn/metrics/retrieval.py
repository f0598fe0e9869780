"""Finding the texts of an image and the image of a text: recall among the first k, median rank."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.errors import DataError
from mmattn.metrics.precision import in_double


def retrieval_scores(
    similarity: Float[Tensor, "images texts"],
    image_of_text: Int[Tensor, "texts"],
    ks: Sequence[int] = (1, 5, 10),
    same: Int[Tensor, "texts"] | None = None,
) -> dict[str, float]:
    """Return recall@k and the median rank both ways, from the similarity of each image and text.

    Args:
        similarity: higher means closer; of any origin, such as a matching head.
        image_of_text: the row of the image that each text belongs to; an image may have several.
        ks: how many of the first count.
        same: equal numbers for equal texts, if there may be such: then an image has each text that
            says what one of its own does, and a text each image that has one like it.

    Returns:
        image_to_text_recall_k, the share of images of which one of their own texts is among the
        first k (the protocol of Flickr30k and COCO); text_to_image_recall_k, the share of texts
        whose image is; and image_to_text_median_rank, text_to_image_median_rank, from 1.

    Of equally similar ones those of others come first, so that a constant similarity finds nothing.
    An image without a text asks for none, but stays among those to choose from.

    Raises:
        DataError: there is no text, a text belongs to no row, or a similarity is NaN.
    """
    belonging = Belonging.of(image_of_text, len(similarity), same)
    _refuse(similarity.isnan(), "similarities are NaN")
    asking, texts = belonging.asking, belonging.texts
    of_images = ranks(similarity[asking], belonging.texts_of(asking))
    of_texts = ranks(similarity.T, belonging.images_of(texts))
    return figures("image_to_text", ks, of_images) | figures("text_to_image", ks, of_texts)


def recall_at_k(
    image_embeddings: Float[Tensor, "images D"],
    text_embeddings: Float[Tensor, "texts D"],
    image_of_text: Int[Tensor, "texts"],
    ks: Sequence[int] = (1, 5, 10),
    block: int = 1024,
    same: Int[Tensor, "texts"] | None = None,
) -> dict[str, float]:
    """Return what `retrieval_scores` does, with dot products for similarities.

    Embeddings of length 1 make that the cosine. Only `block` rows of the matrix exist at a time, in
    double precision; similarities that differ by no more than its rounding count as equal.

    Raises:
        DataError: there is no text, a text belongs to no row, or an embedding is not finite.
    """
    belonging = Belonging.of(image_of_text, len(image_embeddings), same)
    _refuse(~image_embeddings.isfinite(), "numbers in the embeddings of images are not finite")
    _refuse(~text_embeddings.isfinite(), "numbers in the embeddings of texts are not finite")
    image, text = in_double(image_embeddings), in_double(text_embeddings)
    of_images = _ranks_by_block(image, text, belonging.asking, belonging.texts_of, block)
    of_texts = _ranks_by_block(text, image, belonging.texts, belonging.images_of, block)
    return figures("image_to_text", ks, of_images) | figures("text_to_image", ks, of_texts)


class Belonging(NamedTuple):
    """Which texts belong to which images.

    image_of_text: the image of each text; images: how many there are; same: texts that say the same
    have the same number here, from 0 without a gap.
    """

    image_of_text: Int[Tensor, "texts"]
    images: int
    same: Int[Tensor, "texts"]

    @classmethod
    def of(
        cls, image_of_text: Int[Tensor, "texts"], images: int, same: Int[Tensor, "texts"] | None
    ) -> "Belonging":
        """Return it with any numbers for `same`; None means that all texts differ.

        Raises:
            DataError: there is no text, or a text belongs to no image.
        """
        _check_owners(image_of_text, images)
        if same is None:
            same = torch.arange(len(image_of_text), device=image_of_text.device)
        return cls(image_of_text, images, same.unique(return_inverse=True)[1])

    @property
    def asking(self) -> Int[Tensor, "Q"]:
        """The images that have a text."""
        return self.image_of_text.unique()

    @property
    def texts(self) -> Int[Tensor, "texts"]:
        """All texts."""
        return torch.arange(len(self.image_of_text), device=self.image_of_text.device)

    def texts_of(self, images: Int[Tensor, "Q"]) -> Bool[Tensor, "Q texts"]:
        """Return which texts each of some images has."""
        given = images[:, None] == self.image_of_text
        return _any_of(given, self.same, int(self.same.max()) + 1)[:, self.same]

    def images_of(self, texts: Int[Tensor, "Q"]) -> Bool[Tensor, "Q images"]:
        """Return which images each of some texts has."""
        equal = self.same[texts][:, None] == self.same
        return _any_of(equal, self.image_of_text, self.images)


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
    queries: Float[Tensor, "A D"],
    candidates: Float[Tensor, "N D"],
    asking: Int[Tensor, "Q"],
    own: Callable[[Int[Tensor, "q"]], Bool[Tensor, "q N"]],
    block: int,
) -> Int[Tensor, "Q"]:
    # A dot product of D terms is off by no more than D roundings of the lengths' product.
    rounding = queries.shape[1] * torch.finfo(queries.dtype).eps
    slack = rounding * queries.norm(dim=-1) * candidates.norm(dim=-1).max()
    return torch.cat(
        [ranks(queries[q] @ candidates.T, own(q), slack[q]) for q in asking.split(block)]
    )


def _any_of(
    chosen: Bool[Tensor, "Q texts"], group: Int[Tensor, "texts"], groups: int
) -> Bool[Tensor, "Q groups"]:
    """Return for each group whether any text of it was chosen."""
    counts = torch.zeros(len(chosen), groups, device=chosen.device)
    return counts.index_add_(1, group, chosen.float()) > 0


def _check_owners(image_of_text: Int[Tensor, "texts"], count: int) -> None:
    if not len(image_of_text):
        raise DataError("nothing to retrieve: there is no text")
    outside = image_of_text[(image_of_text < 0) | (image_of_text >= count)]
    if len(outside):
        raise DataError(
            f"{len(outside)} texts belong to images that are not there, such as image "
            f"{int(outside[0])}: there are {count}, numbered from 0"
        )


def _refuse(broken: Bool[Tensor, "..."], what: str) -> None:
    if count := int(broken.sum()):
        raise DataError(f"{count} {what}: no rank can be told")


def figures(way: str, ks: Sequence[int], ranks: Int[Tensor, "Q"]) -> dict[str, float]:
    """Return <way>_recall_k and <way>_median_rank of the ranks of Q queries."""
    recalls = {f"{way}_recall_{k}": (ranks <= k).double().mean().item() for k in ks}
    return recalls | {f"{way}_median_rank": ranks.double().quantile(0.5).item()}
