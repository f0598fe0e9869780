"""The official rule of VQA: answers made comparable, and what each scores among ten people's."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.labelled.vqa_answers import answer_scores, normalise_answer


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("Yes", "yes"),
        (" the\tRed\nball ", "red ball"),
        ("An apple a day", "apple day"),
        ("two", "2"),
        ("None", "0"),
        ("ten to one", "10 to 1"),
        ("eleven", "eleven"),
        # a mark is a space, or nothing where the answer has a space on one side of it
        ("black/white", "black white"),
        ("black / white", "black white"),
        ("t-shirt", "t shirt"),
        ("yes, sir", "yes sir"),
        ("really?!", "really"),
        ("(left)", "left"),
        ('"stop"', "stop"),
        ("a-b -c", "ab c"),
        ("1,000", "1000"),
        ("1,000;b", "1000b"),  # with a comma in a number, every mark goes
        ("f@b\\c_d{e}", "f b c d e"),
        # a period goes, but for one before a digit
        ("u.s.a.", "usa"),
        ("3.5", "3.5"),
        ("no. 5", "no 5"),
        (".5", ".5"),
        # apostrophes and colons stay, missing apostrophes come
        ("5:30", "5:30"),
        ("men's", "men's"),
        ("dont", "don't"),
        ("Couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("yalld've", "yalld've"),  # two missing are not mended
        ("y'alldve", "y'alldve"),
        ("y'all'dve", "y'all'd've"),
        ("twas ma'am", "'twas ma'am"),
        ("ow'sat", "ow'sat"),
        ("'ow'sat", "'ow's'at"),
        ("shes", "shes"),  # the official table has neither this nor "lets"
        ("lets", "lets"),
        ("somebody'd", "somebodyd"),
        # nothing may be left
        ("the", ""),
        ("?", ""),
        ("", ""),
    ],
)
def test_answers_are_normalised(answer, normal):
    assert normalise_answer(answer) == normal


def test_what_is_judged_is_the_answer_as_it_came():
    """A mark that comes to stand beside a space because another one went is not beside one."""
    assert normalise_answer("x-; y-z") == "x y z"
    assert normalise_answer("x- y-z") == "x yz"


@given(st.text(alphabet="abAB 01.,;-'?", max_size=12))
def test_a_normal_answer_has_no_marks_or_stray_spaces(text):
    answer = normalise_answer(text)
    assert answer == " ".join(answer.lower().split())
    assert not set(answer) & set(";-,?")
    assert not {"a", "an", "the"} & set(answer.split())


def test_scores_by_the_number_of_people():
    answers = ["One"] + ["two"] * 2 + ["Three"] * 3 + ["the four"] * 4
    assert answer_scores(answers) == {"1": 0.3, "2": 0.6, "3": 0.9, "4": 1.0}
    assert answer_scores(["yes"] * 10) == {"yes": 1.0}


def test_equal_after_normalising_is_equal():
    assert answer_scores(["T-shirt", "t shirt", "a t-shirt", *["vest"] * 7]) == {
        "t shirt": 0.9,
        "vest": 1.0,
    }


def test_an_empty_answer_counts_among_the_people_only():
    assert answer_scores(["the"] * 9 + ["cat"]) == {"cat": 0.3}
    assert answer_scores(["?"] * 10) == {}


def plain_score(answers, chosen):
    """The rule as it is written: the mean over the subsets that leave one person out."""
    total = 0.0
    for left_out in range(len(answers)):
        others = answers[:left_out] + answers[left_out + 1 :]
        total += min(others.count(chosen) / 3, 1)
    return total / len(answers)


@given(st.lists(st.sampled_from(["red", "blue", "green", "7"]), min_size=2, max_size=12))
def test_scores_are_those_of_the_plain_rule(answers):
    scores = answer_scores(answers)
    assert scores.keys() == Counter(answers).keys()
    for answer, score in scores.items():
        assert score == pytest.approx(plain_score(answers, answer), abs=1e-12)
        assert 0 < score <= 1


@pytest.mark.parametrize("answers", [[], ["yes"]])
def test_too_few_people(answers):
    with pytest.raises(ValueError, match=f"{len(answers)} answers: the rule leaves one out"):
        answer_scores(answers)
