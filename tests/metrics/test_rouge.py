import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics.rouge import longest_common_subsequence, rouge_l

caption = st.lists(st.sampled_from("abcd"), max_size=12)


def plain_lcs(first, second):
    """The textbook table, one row at a time."""
    row = [0] * (len(second) + 1)
    for word in first:
        above = row
        row = [0]
        for i, other in enumerate(second):
            row.append(above[i] + 1 if word == other else max(above[i + 1], row[i]))
    return row[-1]


@given(caption, caption)
def test_the_longest_common_subsequence_equals_the_table(first, second):
    expected = plain_lcs(first, second)
    assert longest_common_subsequence(first, second) == expected
    assert longest_common_subsequence(second, first) == expected


def test_by_hand():
    # The longest common subsequence of "a b x d" with "a b c d e" is "a b d": P = 3/4, R = 3/5.
    score, per_caption = rouge_l([[list("abcde")]], [list("abxd")])
    assert score == per_caption[0] == pytest.approx(2.44 * 0.75 * 0.6 / (0.6 + 1.44 * 0.75))


def test_precision_and_recall_may_come_from_different_references():
    # P = 2/2 from the long reference, R = 1/1 from the short one.
    score, _ = rouge_l([[list("abcd"), ["b"]]], [list("ab")])
    assert score == pytest.approx(1)


@given(st.lists(caption.filter(bool), min_size=1))
def test_perfect_predictions_score_one(captions):
    score, per_caption = rouge_l([[["z"], caption] for caption in captions], captions)
    assert score == pytest.approx(1)
    assert per_caption == pytest.approx([1] * len(captions))


def test_no_common_word_or_nothing_at_all_scores_zero():
    references = [[["a"]], [["a"], []], [[]], [[]]]
    score, per_caption = rouge_l(references, [["b"], [], ["a"], []])
    assert score == 0
    assert per_caption.tolist() == [0] * 4
