"""The official rule for questions about images: how answers are normalised, and what each scores.

Antol et al., "VQA: Visual Question Answering", ICCV 2015, and the program vqaEval.py that
https://visualqa.org/evaluation.html hands out, whose odd cases are kept.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

ENOUGH = 3  # people who gave an answer make it wholly right

# Written with one apostrophe missing ("dont", "couldnt've"), they are mended.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't
    what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've
    you'd you'd've you'll you're you've
"""
_NUMBERS = "zero one two three four five six seven eight nine ten"
_ARTICLES = frozenset(("a", "an", "the"))
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")  # one before a digit is a decimal point


def _one_apostrophe_less(word: str) -> Iterator[str]:
    for place, letter in enumerate(word):
        if letter == "'":
            yield word[:place] + word[place + 1 :]


_MENDED = {wrong: right for right in _CONTRACTIONS.split() for wrong in _one_apostrophe_less(right)}
# The official table has this too, and so takes an apostrophe away.
_MENDED |= {"somebody'd": "somebodyd"}
_DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}


@lru_cache(maxsize=1 << 16)  # millions of answers are mostly the same few
def normalise_answer(text: str) -> str:
    """Return an answer as it is compared: small letters, digits for number words, no articles.

    Punctuation becomes a space, or nothing where a space is beside it (or where the answer has a
    number such as 1,000); apostrophes and colons stay. Missing apostrophes are put in. What is
    left may be empty.
    """
    text = _without_marks(text.replace("\n", " ").replace("\t", " ").strip())
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)


def answer_scores(answers: Sequence[str]) -> dict[str, float]:
    """Return normalised answer -> its score in (0, 1], the answers of a question's people given.

    The score is the mean of min(matches / 3, 1) over the subsets that leave one person out: of ten
    people, 1, 2, 3 and 4 or more that gave an answer make it 0.3, 0.6, 0.9 and 1. Answers of which
    nothing is left are not in the result, but count among the people.

    The official program normalises all of a prediction, but of people's answers the punctuation
    alone, and that only where they differ: in the published files the rest has been done. Here both
    are treated alike, so nothing depends on it.

    Raises:
        ValueError: for fewer than two answers, where leaving one out leaves nobody.
    """
    people = len(answers)
    if people < 2:
        raise ValueError(f"{people} answers: the rule leaves one out, and so needs 2 or more")
    counts = Counter(map(normalise_answer, answers))
    return {answer: _leave_one_out(matches, people) for answer, matches in counts.items() if answer}


def _leave_one_out(matches: int, people: int) -> float:
    """Return the mean of min(others / 3, 1): `matches` of the subsets have one match less."""
    less, same = min(matches - 1, ENOUGH), min(matches, ENOUGH)
    return (matches * less + (people - matches) * same) / (ENOUGH * people)


def _without_marks(text: str) -> str:
    """Return an answer without punctuation; every mark is judged by the text as it came."""
    kept = text
    has_number = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        kept = kept.replace(mark, "" if beside_space or has_number else " ")
    return _PERIOD.sub("", kept)
