"""The metrics of coco-caption for one corpus, as statistics that images may be resampled by."""

from collections.abc import Sequence

import numpy as np

from mmattn.metrics.additive import Additive, mean_of
from mmattn.metrics.bleu import bleu_of, bleu_statistics
from mmattn.metrics.cider import cider_d
from mmattn.metrics.ngrams import Tokens
from mmattn.metrics.rouge import rouge_l

ORDER = 4


def caption_metrics(
    references: Sequence[Sequence[Tokens]], predictions: Sequence[Tokens]
) -> dict[str, Additive]:
    """BLEU_1 ... BLEU_4, ROUGE_L and CIDEr of captions as tokens.

    The document frequencies of CIDEr-D are those of all references, also where images are
    resampled: what weight a word has is then no part of the uncertainty.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    statistics = bleu_statistics(references, predictions, ORDER)
    found = {f"BLEU_{n}": Additive(statistics, _bleu(n)) for n in range(1, ORDER + 1)}
    found["ROUGE_L"] = mean_of(rouge_l(references, predictions)[1])
    found["CIDEr"] = mean_of(cider_d(references, predictions)[1])
    return found


def _bleu(n: int):
    def of_sums(sums: np.ndarray) -> np.ndarray:
        return bleu_of(sums)[:, n - 1]

    return of_sums
