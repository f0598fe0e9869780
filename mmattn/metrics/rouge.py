"""ROUGE-L: the longest common subsequence of a prediction and a reference."""

from collections.abc import Sequence

import numpy as np

from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ngrams import Tokens

BETA = 1.2


def rouge_l(
    references: Sequence[Sequence[Tokens]], predictions: Sequence[Tokens]
) -> tuple[float, np.ndarray]:
    """The mean ROUGE-L over all captions, and that of every caption [images].

    Lin 2004, "ROUGE: a package for automatic evaluation of summaries", section 3.1, equations 2-4,
    with beta = 1.2: F = (1 + beta²) · R · P / (R + beta² · P), where P and R are the length of the
    longest common subsequence divided by that of the prediction and of the reference. As in
    coco-caption, P and R are each the highest over the references before they are combined.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    check_corpus(references, predictions)
    pairs = zip(references, predictions, strict=True)
    scores = np.array([caption_rouge_l(image, prediction) for image, prediction in pairs])
    return float(scores.mean()), scores


def caption_rouge_l(references: Sequence[Tokens], prediction: Tokens) -> float:
    """ROUGE-L of one caption; 0 where it is empty or shares no word with any reference."""
    common = [longest_common_subsequence(prediction, tokens) for tokens in references]
    if max(common) == 0:
        return 0.0
    precision = max(common) / len(prediction)
    recall = max(
        length / len(tokens) for length, tokens in zip(common, references, strict=True) if length
    )
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Its length, with one column of the usual table held as the bits of one integer.

    Hyyrö 2004, "Bit-parallel LCS-length computation revisited", figure 2: a bit of `column` is 0
    where the table grows by one from the row above.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(first)) - 1
    column = full
    for word in second:
        matching = column & places.get(word, 0)
        column = ((column + matching) | (column - matching)) & full
    return len(first) - column.bit_count()
