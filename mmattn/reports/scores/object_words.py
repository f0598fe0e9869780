"""A list of objects and what they are called, for CHAIR."""

from pathlib import Path

from mmattn.data.captions import excerpt, read_lines
from mmattn.data.problems import Problems
from mmattn.errors import DataError
from mmattn.metrics.ptb import tokenize


def read_objects(path: str | Path) -> dict[str, list[str]]:
    """Return object -> words and phrases for it, from a file with an object on each line.

    Synonyms are separated by commas; the first is the object's name. Blank lines are skipped.

    Raises:
        DataError: for a file that cannot be read or names no object, and one that names each line
            with an entry without a word, or with one that an earlier line has.
    """
    path = Path(path)
    problems, found = Problems(path), {}
    lines: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        synonyms = [each.strip() for each in line.split(",")]
        if not line.strip():
            continue
        for synonym in synonyms:
            words = tuple(tokenize(synonym))
            if not words:
                problems.add(number, f"{excerpt(synonym)} holds no word")
            elif lines.setdefault(words, number) != number:
                problems.add(number, f"{excerpt(synonym)} is in line {lines[words]}, too")
        found[" ".join(tokenize(synonyms[0]))] = synonyms
    problems.raise_if_any("Give an object a line, its synonyms behind it, separated by commas.")
    if not found:
        raise DataError(f"{path} names no object: give one a line, synonyms separated by commas")
    return found
