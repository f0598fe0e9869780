import pytest

from mmattn.errors import DataError
from mmattn.metrics import exact_match, score_captions
from mmattn.metrics.bleu import bleu_scores
from mmattn.metrics.cider import cider_d
from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.meteor import meteor
from mmattn.metrics.rouge import rouge_l

EVERY_METRIC = [bleu_scores, rouge_l, cider_d, score_captions, exact_match, meteor]


@pytest.mark.parametrize("metric", EVERY_METRIC)
@pytest.mark.parametrize(
    ("references", "predictions", "message"),
    [
        ([["a"], ["b"]], ["a", "b", "c"], r"2 images have references but 3 have predictions"),
        ([["a"], ["b"]], [], r"2 images have references but 0"),
        ([], [], r"the corpus is empty"),
        ([["a"], []], ["a", "b"], r"image 1 has no reference"),
    ],
)
def test_a_bad_corpus_is_refused_by_every_metric(metric, references, predictions, message):
    with pytest.raises(DataError, match=message):
        metric(references, predictions)


def test_a_string_instead_of_a_list_is_named():
    with pytest.raises(DataError, match="references of image 1 are one string"):
        check_corpus([["a dog"], "a cat"], ["a", "b"])
    with pytest.raises(DataError, match="not as one string"):
        check_corpus([["a dog"]], "a")


def test_errors_are_value_errors():
    with pytest.raises(ValueError, match="empty"):
        score_captions([], [])
