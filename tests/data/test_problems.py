"""Errors of several steps, told as one, with what could be read in spite of them."""

import pickle

import pytest

from mmattn.data.problems import Gathered, PartlyReadError, Problems, problems_of
from mmattn.errors import DataError


def test_nothing_wrong_raises_nothing():
    gathered = Gathered()
    with gathered.step():
        pass
    gathered.raise_if_any()
    assert not gathered


@pytest.mark.fault("F15")
def test_all_errors_are_told_and_every_problem_is_kept():
    gathered, problems = Gathered(), Problems("a.csv")
    for line in range(1, 13):
        problems.add(line, "no tab")
    with gathered.step():
        problems.raise_if_any("Add one.")
    with gathered.step():
        raise DataError("b.csv is empty")
    with pytest.raises(PartlyReadError) as caught:
        gathered.raise_if_any({"train": 3})
    assert str(caught.value).endswith("and 2 more\nAdd one.\nb.csv is empty")
    assert len(caught.value.problems) == 13
    assert caught.value.problems[11:] == ("a.csv:12: no tab", "b.csv is empty")
    assert caught.value.splits == {"train": 3}


@pytest.mark.fault("F15")
def test_what_is_not_listed_is_counted(monkeypatch):
    monkeypatch.setattr(Problems, "kept", 3)
    gathered = Gathered()
    for name in ("a.csv", "b.csv"):
        problems = Problems(name)
        for line in range(5):
            problems.add(line, "no tab")
        with gathered.step():
            problems.raise_if_any("Add one.")
    with pytest.raises(PartlyReadError, match="csv has 5 problems") as caught:
        gathered.raise_if_any()
    assert (len(caught.value.problems), caught.value.unlisted) == (6, 4)
    assert pickle.loads(pickle.dumps(caught.value)).unlisted == 4


def test_an_error_travels_between_processes_with_its_problems():
    error = pickle.loads(pickle.dumps(PartlyReadError("two", ("a", "b"), {"train": 1})))
    assert (str(error), error.problems, error.splits) == ("two", ("a", "b"), {"train": 1})
    assert problems_of(DataError("alone"), error) == ("alone", "a", "b")


def test_what_is_no_data_error_passes():
    with pytest.raises(ZeroDivisionError), Gathered().step():
        raise ZeroDivisionError
