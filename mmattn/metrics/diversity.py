"""How much a captioner repeats itself: distinct n-grams, self-CIDEr, captions said again."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from mmattn.metrics.cider import inverse_document_frequency
from mmattn.metrics.ngrams import NgramCounts, Tokens, count_ngrams


def distinct(captions: Sequence[Tokens], n: int) -> float:
    """The number of different n-grams of all captions over the number of their words.

    Li, Galley, Brockett, Gao and Dolan 2016, "A diversity-promoting objective function for neural
    conversation models", section 5: distinct-1 and distinct-2, "scaled by total number of generated
    tokens". It falls with the number of captions: compare corpora of one size. NaN without a word.
    """
    words = sum(map(len, captions))
    grams = {tuple(each[i : i + n]) for each in captions for i in range(len(each) - n + 1)}
    return len(grams) / words if words else float("nan")


def vocabulary(captions: Sequence[Tokens]) -> int:
    """The number of different words."""
    return len({word for caption in captions for word in caption})


def said_again(captions: Sequence[Tokens]) -> float:
    """The share of captions that are also said of another image, one caption an image."""
    counts = Counter(map(tuple, captions))
    return sum(count for count in counts.values() if count > 1) / len(captions)


def novel(captions: Sequence[Tokens], training: Collection[tuple[str, ...]]) -> np.ndarray:
    """Whether each caption is none of the training captions, as tokens: bool [captions]."""
    return np.array([tuple(caption) not in training for caption in captions], dtype=bool)


def self_cider(
    references: Sequence[Sequence[Tokens]], predictions: Sequence[Sequence[Tokens]], order: int = 4
) -> np.ndarray:
    """How different the several captions of each image are [images], from 0 to 1.

    Wang and Chan 2019, "Describing like humans: on diversity in image captioning", section 3: with
    K the CIDEr (no length penalty, no clipping) between all m captions of an image, over 10, and
    λ its eigenvalues, the diversity is -log_m(√λ_max / Σ √λ), as in the authors' program. It is 0
    for captions that are all the same, and 1 where no two share a word and none has fewer than
    `order`. Document frequencies are those of the references. NaN for an image with fewer than two
    captions, 0 where all are empty.

    Args:
        references: for every image, the tokens of each of its references.
        predictions: for every image, the tokens of each of its predicted captions.
        order: the longest n-gram.
    """
    captions = [caption for image in references for caption in image]
    image_of = np.repeat(np.arange(len(references)), [len(image) for image in references])
    own = [caption for image in predictions for caption in image]
    first = np.cumsum([0, *(len(image) for image in predictions)])
    kernels = [np.zeros((len(image), len(image))) for image in predictions]
    for rows in count_ngrams([*captions, *own], order):
        _add_cosines(kernels, rows, image_of, first)
    return np.array([_spread(kernel / order) for kernel in kernels])


def _add_cosines(
    kernels: list[np.ndarray], rows: NgramCounts, image_of: np.ndarray, first: np.ndarray
) -> None:
    """Add to each image's kernel the tf-idf cosines of its captions for one n.

    Captions in `rows` are all references, whose images are `image_of`, then the predictions, those
    of image i from `first[i]` on.
    """
    split = np.searchsorted(rows.caption, len(image_of))
    keys = image_of[rows.caption[:split]] * rows.kinds + rows.ngram[:split]
    weight = rows.count * inverse_document_frequency(keys, rows.kinds, len(kernels))[rows.ngram]
    bounds = np.searchsorted(rows.caption, first + len(image_of))
    for image, kernel in enumerate(kernels):
        part = slice(bounds[image], bounds[image + 1])
        if len(kernel) < 2 or part.start == part.stop:
            continue
        kinds, column = np.unique(rows.ngram[part], return_inverse=True)
        vectors = np.zeros((len(kernel), len(kinds)))
        vectors[rows.caption[part] - len(image_of) - first[image], column] = weight[part]
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
        kernel += vectors @ vectors.T


def _spread(kernel: np.ndarray) -> float:
    """-log_m of the largest singular value's share in the sum of all m."""
    if len(kernel) < 2:
        return float("nan")
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(kernel), 0, None))
    if singular.sum() == 0:
        return 0.0
    return float(-np.log(singular[-1] / singular.sum()) / np.log(len(kernel))) + 0.0
