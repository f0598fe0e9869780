"""Caption metrics in plain Python and numpy: no Java, no torch, the numbers of coco-caption.

`score_captions` is all that most callers need. `mmattn.metrics.collection.CaptionScores` gathers
captions over batches and processes; `meteor` and `spice` need Java and an optional package.
`caption_metrics` gives what `bootstrap` makes intervals of and `paired` compares; `diversity`,
`word_counts` and `hallucination` look at the predictions themselves.

The metrics of classification work on tensors and are imported from their modules: `label_scores`
for each kind of head, `calibration` and `temperature`, `selective`, `uncertainty`, `retrieval`.
"""

from collections.abc import Sequence

from mmattn.metrics.bleu import bleu_scores
from mmattn.metrics.cider import cider_d
from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ptb import tokenize
from mmattn.metrics.rouge import rouge_l

__all__ = ["bleu_scores", "cider_d", "exact_match", "rouge_l", "score_captions", "tokenize"]


def score_captions(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
    """BLEU-1 ... BLEU-4, ROUGE-L and CIDEr-D of captions as text, as coco-caption gives them.

    Captions are split by the Penn Treebank tokenizer first. An empty prediction scores 0.

    Args:
        references: for every image, its reference captions.
        predictions: for every image, its predicted caption.

    Returns:
        "BLEU_1" ... "BLEU_4" and "ROUGE_L" between 0 and 1, "CIDEr" between 0 and 10.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    check_corpus(references, predictions)
    reference_tokens = [[tokenize(caption) for caption in image] for image in references]
    predicted_tokens = [tokenize(caption) for caption in predictions]
    bleus, _ = bleu_scores(reference_tokens, predicted_tokens)
    scores = {f"BLEU_{n}": float(score) for n, score in enumerate(bleus, start=1)}
    scores["ROUGE_L"], _ = rouge_l(reference_tokens, predicted_tokens)
    scores["CIDEr"], _ = cider_d(reference_tokens, predicted_tokens)
    return scores


def exact_match(references: Sequence[Sequence[str]], predictions: Sequence[str]) -> float:
    """The share of predictions that equal one of their references, in case but not in spacing.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    check_corpus(references, predictions)
    pairs = zip(references, predictions, strict=True)
    hits = [fold_spaces(text) in {fold_spaces(one) for one in image} for image, text in pairs]
    return sum(hits) / len(hits)


def fold_spaces(text: str) -> str:
    """The text without spaces around it, and with single spaces in it."""
    return " ".join(text.split())
