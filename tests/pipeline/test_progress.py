"""A bar on stderr where work is long and somebody looks; the items are the same."""

import pytest

from mmattn.pipeline.progress import shown


def bar(capsys):
    """Whether there was one; nothing is ever on stdout."""
    printed = capsys.readouterr()
    assert printed.out == ""
    return "captioning" in printed.err


@pytest.mark.parametrize("progress", [True, False, None])
def test_items_are_as_they_were(progress, capsys):
    assert list(shown(range(5), 5, progress=progress)) == [0, 1, 2, 3, 4]
    assert list(shown(iter(range(5)), None, progress=progress)) == [0, 1, 2, 3, 4]
    assert list(shown([], 0, progress=progress)) == []
    assert bar(capsys) is bool(progress)


def test_few_items_need_no_bar(monkeypatch, capsys):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    assert list(shown(range(3), None, few=3)) == [0, 1, 2]
    assert not bar(capsys)
    assert list(shown(range(4), None, few=3)) == [0, 1, 2, 3]
    assert bar(capsys)


def test_no_more_is_asked_for_than_is_needed(monkeypatch):
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    asked = iter(range(10**9))
    assert next(shown(asked, None, progress=False)) == 0
    assert next(asked) == 1
    assert next(shown(asked, None, few=3)) == 2
    assert next(asked) == 6


def test_closing_it_takes_the_bar_away_and_ends_the_items(monkeypatch, capsys):
    ended = []

    def items():
        try:
            yield from range(10)
        finally:
            ended.append(True)

    bar = shown(items(), 10, progress=True)
    assert next(bar) == 0
    assert ended == []
    bar.close()
    assert ended == [True]
