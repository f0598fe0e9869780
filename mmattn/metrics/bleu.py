"""BLEU: how many n-grams of the predictions the references contain."""

from collections.abc import Sequence

import numpy as np

from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ngrams import NgramCounts, Tokens, count_ngrams, look_up

# coco-caption adds these to numerators and denominators, so that nothing divides by zero.
TINY, SMALL = 1e-15, 1e-9


def bleu_scores(
    references: Sequence[Sequence[Tokens]], predictions: Sequence[Tokens], order: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Corpus BLEU-1 ... BLEU-`order`, and the same for every caption alone.

    Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation",
    section 2.3: BLEU-n = BP · (p_1 · ... · p_n)^(1/n), where p_k is the share of the predicted
    k-grams that occur in the references, each counted at most as often as in the one reference
    that has it most, and BP = min(1, exp(1 - r/c)) with c the predicted length and r the length of
    the references closest to it (the shorter of two equally close ones). The corpus score adds up
    counts and lengths over all captions before dividing. A caption of fewer than n words has no
    n-gram; coco-caption's small constants then leave at most 0.03 of its own BLEU-n.

    Args:
        references: for every image, the tokens of each of its references.
        predictions: for every image, the tokens of its predicted caption.
        order: the longest n-gram.

    Returns:
        Corpus scores [order] and scores of each caption [images, order], as fractions.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    statistics = bleu_statistics(references, predictions, order)
    return bleu_of(statistics.sum(0, keepdims=True))[0], bleu_of(statistics)


def bleu_statistics(
    references: Sequence[Sequence[Tokens]], predictions: Sequence[Tokens], order: int = 4
) -> np.ndarray:
    """What `bleu_of` needs of every caption: float64 [images, 2 * order + 2], to be added up.

    The n-grams that the references contain, n = 1 ... `order`; all n-grams, likewise; the length,
    and that of the reference closest to it. Raises as `bleu_scores` does.
    """
    check_corpus(references, predictions)
    captions = [caption for image in references for caption in image]
    image_of = np.repeat(np.arange(len(references)), [len(image) for image in references])
    counts = count_ngrams([*captions, *predictions], order)
    matched = np.stack([clipped_matches(rows, image_of, len(predictions)) for rows in counts], 1)

    length = np.array([len(prediction) for prediction in predictions])
    total = np.maximum(length[:, None] - np.arange(order), 0)
    pairs = zip(references, predictions, strict=True)
    target = np.array([closest_length(image, len(prediction)) for image, prediction in pairs])
    return np.column_stack([matched, total, length, target]).astype(np.float64)


def bleu_of(statistics: np.ndarray) -> np.ndarray:
    """BLEU-1 ... BLEU-n [rows, n] of rows of `bleu_statistics`, or of sums of such rows."""
    order = (statistics.shape[1] - 2) // 2
    matched, total = statistics[:, :order], statistics[:, order : 2 * order]
    return combine(matched, total, statistics[:, -2], statistics[:, -1])


def clipped_matches(rows: NgramCounts, image_of: np.ndarray, images: int) -> np.ndarray:
    """For every image [images], the predicted n-grams that are in the references, clipped.

    The captions in `rows` are all references, whose images are `image_of`, then one prediction per
    image.
    """
    first = np.searchsorted(rows.caption, len(image_of))
    keys = image_of[rows.caption[:first]] * rows.kinds + rows.ngram[:first]
    order = np.lexsort((rows.count[:first], keys))
    keys, most = keys[order], rows.count[:first][order]
    last = np.append(keys[1:] != keys[:-1], True)[: len(keys)]  # the highest count of each key

    image = rows.caption[first:] - len(image_of)
    allowed = look_up(keys[last], most[last], image * rows.kinds + rows.ngram[first:])
    return np.bincount(image, np.minimum(rows.count[first:], allowed), minlength=images)


def closest_length(references: Sequence[Tokens], length: int) -> int:
    """The length of the reference that comes closest to `length`, the shorter one of two."""
    return min((abs(len(tokens) - length), len(tokens)) for tokens in references)[1]


def combine(
    matched: np.ndarray, total: np.ndarray, length: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """BLEU-1 ... BLEU-n [rows, n] from n-gram counts [rows, n] and lengths [rows]."""
    precision = np.cumprod((matched + TINY) / (total + SMALL), axis=1)
    mean = precision ** (1 / np.arange(1, matched.shape[1] + 1))
    ratio = (length + TINY) / (target + SMALL)
    return mean * np.exp(np.minimum(0, 1 - 1 / ratio))[:, None]
