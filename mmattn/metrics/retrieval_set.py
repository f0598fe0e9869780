"""Retrieval over a whole set of images and texts that come batch by batch, on any rank."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.retrieval import recall_at_k


class Embedded(NamedTuple):
    """All images and texts of a set, each once.

    image_keys: numbers of the images, ascending; image_of_text: the row of each text's image;
    same: equal numbers for equal texts; tokens, valid: the texts themselves.
    """

    image_keys: Int[Tensor, "images"]
    images: Float[Tensor, "images E"]
    texts: Float[Tensor, "texts E"]
    image_of_text: Int[Tensor, "texts"]
    same: Int[Tensor, "texts"]
    tokens: Int[Tensor, "texts T"]
    valid: Int[Tensor, "texts T"]

    def recalls(self) -> dict[str, float]:
        """Return what `recall_at_k` does, and `mean_recall` of its six shares.

        Texts that say the same as one of an image's own count as its own.
        """
        found = recall_at_k(self.images, self.texts, self.image_of_text, same=self.same)
        return found | {"mean_recall": mean_recall(found)}


class RetrievalSet(nn.Module):
    """Keeps the embeddings of a set's images and texts until `reset`, each once.

    Args:
        width: of the embeddings.
        longest: the longest text in tokens.
    """

    def __init__(self, width: int, longest: int):
        super().__init__()
        embedding, number = torch.empty(0, width), torch.empty(0, dtype=torch.long)
        tokens = torch.empty(0, longest, dtype=torch.long)
        self.images = Rows({"embedding": embedding})
        self.texts = Rows(
            {
                **{"embedding": embedding, "image": number, "same": number},
                **{"tokens": tokens, "valid": tokens.bool()},
            }
        )

    def update(
        self, keys: Int[Tensor, "B"], images: Float[Tensor, "B E"], texts: dict[str, Tensor]
    ) -> None:
        """Add B images by their keys, and R texts.

        Args:
            keys: numbers of the images, unique in the set.
            images: embeddings.
            texts: "keys" of the texts, unique in the set, "embedding" [R, E], "image" (the key of
                the image that each belongs to), "same" (equal for equal texts), "tokens" [R, T] and
                "valid" [R, T].
        """
        self.images.update(keys, embedding=images)
        tokens = {name: self._widened(texts[name]) for name in ("tokens", "valid")}
        self.texts.update(**{**texts, **tokens})

    def embedded(self) -> Embedded:
        """Return the whole set. Every process must call it, and gets the same.

        Raises:
            DataError: no process has seen an image, or an embedding is not finite.
        """
        images, texts = self.images.examples(), self.texts.examples()
        return Embedded(
            image_keys=images["keys"],
            images=images["embedding"],
            texts=texts["embedding"],
            image_of_text=torch.searchsorted(images["keys"], texts["image"]),
            same=texts["same"],
            tokens=texts["tokens"],
            valid=texts["valid"],
        )

    def reset(self) -> None:
        """Forget everything."""
        self.images.reset()
        self.texts.reset()

    def _widened(self, rows: Tensor) -> Tensor:
        missing = self.texts.width("tokens") - rows.shape[1]
        return nn.functional.pad(rows, (0, missing))


class Rows(LabelMetric):
    """Rows of some columns by their keys, of all processes and each once."""

    def update(self, keys: Int[Tensor, "M"], **columns: Tensor) -> None:
        """Add M rows."""
        finite = columns["embedding"].isfinite().all(1)
        self._add(keys, torch.ones_like(finite), finite, **columns)

    def scores(self, rows: dict[str, Tensor]) -> dict[str, float]:
        """Return how many rows there are: they are kept for `examples`."""
        return {"rows": float(len(rows["keys"]))}

    def width(self, column: str) -> int:
        """Return the size of a row in a column."""
        return self._empty[column].shape[1]


def mean_recall(figures: dict[str, float]) -> float:
    """Return the mean of the recalls among retrieval figures: one number for both ways."""
    recalls = [value for name, value in figures.items() if "_recall_" in name]
    return sum(recalls) / len(recalls)
