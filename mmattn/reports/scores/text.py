"""Scores as aligned tables for a terminal."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmattn.metrics.bootstrap import LEVEL
from mmattn.metrics.word_counts import WordCounts
from mmattn.reports.scores.result import Result

TITLES = {
    **{f"BLEU_{n}": f"BLEU-{n}" for n in range(1, 5)},
    "ROUGE_L": "ROUGE-L",
    "CIDEr": "CIDEr-D",
    "CHAIR_i": "CHAIR_i (lower is better)",
    "CHAIR_s": "CHAIR_s (lower is better)",
    "self_CIDEr": "self-CIDEr",
    "novel": "not among training captions",
    "length": "words a caption",
}
SPREAD = {
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "vocabulary": "different words",
    "said_again": "said of several images",
}
FOOTNOTE = "* of one caption an image: of references the first"
LOWER_IS_BETTER = ("CHAIR_i", "CHAIR_s")
LONGEST_NAME = 28  # of a file, in the head of a column


def lines(result: Result) -> Iterator[str]:
    """Yield the lines of all tables."""
    yield heading(result, result.references)
    scores, captions = tables(result)
    yield from ("", *aligned(scores), *legend(result), "", *aligned(captions), FOOTNOTE)
    if result.notes:
        yield ""
        yield from (f"note: {note}" for note in result.notes)


def heading(result: Result, references: str) -> str:
    """Return how many images there are, and of which references."""
    return (
        f"{result.images:,} image{'s' * (result.images != 1)} of {references}, "
        f"{result.references_per_image:.3g} references each"
    )


def tables(result: Result) -> tuple[list[list[str]], list[list[str]]]:
    """Return the cells of two tables: scores, and captions beside those of people."""
    scores = _compared(result) if len(result.systems) > 1 else _scores(result)
    return scores, _captions(result)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their cells below each other, the first to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _scores(result: Result) -> list[list[str]]:
    (system,) = result.systems
    interval = [f"{100 * LEVEL:.0f} % interval"] if system.intervals else []
    rows = [["", "score", *interval]]
    for name, score in system.measured.scores.items():
        ends = [_between(*system.intervals[name])] if interval else []
        rows.append([TITLES.get(name, name), number(score.score), *ends])
    return rows


def _compared(result: Result) -> list[list[str]]:
    first, second = result.systems
    interval = [f"{100 * LEVEL:.0f} % interval"] if result.chance.samples else []
    p = ["p"] if result.chance.shuffles else []
    rows = [["", *file_names(result), "difference", *interval, *p]]
    ours, theirs = first.measured.scores, second.measured.scores
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        own, other = (each[name].score if name in each else math.nan for each in (ours, theirs))
        row = [TITLES.get(name, name), number(own), number(other), number(own - other, True)]
        if name in result.differences:
            _, ends, p_value = result.differences[name]
            row += [] if ends is None else [_between(*ends, signed=True)]
            row += [] if p_value is None else [number(p_value)]
        rows.append([*row, *["–"] * (len(rows[0]) - len(row))])
    return rows


def legend(result: Result) -> Iterator[str]:
    """Yield what intervals, p-values and CLIPScore are of."""
    chance = result.chance
    if chance.samples:
        what = "intervals" if len(result.systems) == 1 else "intervals of the difference"
        yield f"({what}: {chance.samples:,} bootstrap samples of the images, seed {chance.seed})"
    if result.differences and chance.shuffles:
        yield f"(p: approximate randomisation, {chance.shuffles:,} shuffles, two-sided)"
    if result.clip is not None:
        name = Path(result.clip).name or result.clip  # no folder: pages are shown to others
        yield f"(CLIPScore, RefCLIPScore: of the model {name}; others' differ)"


def _captions(result: Result) -> list[list[str]]:
    """The lengths of captions and how they differ, beside those of people."""
    files = file_names(result) if len(result.systems) > 1 else ["predictions"]
    rows = [["", *files, "references"]]
    lengths = [*(system.measured.lengths for system in result.systems), result.reference_lengths]
    rows.append(
        ["words: mean ± deviation", *(f"{o.mean:.2f} ± {o.deviation:.2f}" for o in lengths)]
    )
    rows.append(["words: 5 %, median, 95 %, most", *map(_quantiles, lengths)])
    for name, title in SPREAD.items():
        figures = [system.measured.diversity[name] for system in result.systems]
        rows.append([f"{title} *", *map(figure, [*figures, result.people[name]])])
    return rows


def _quantiles(lengths: WordCounts) -> str:
    return f"{lengths.p5:.0f}, {lengths.median:.0f}, {lengths.p95:.0f}, {lengths.longest}"


def file_names(result: Result) -> list[str]:
    """Return what the systems are called: their files, "…" before the end of a long one."""
    return [shortened(system.file) for system in result.systems]


def shortened(name: str) -> str:
    """Return a path, or the end of a long one."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def figure(value: float | int) -> str:
    """Return a count as it is, and a share with four digits."""
    return f"{value:,}" if isinstance(value, int) else number(value)


def number(value: float, signed: bool = False) -> str:
    """Return a number with four digits behind the point; a dash for one that is undefined."""
    if math.isnan(value):
        return "–"
    return f"{value:+.4f}" if signed else f"{value:.4f}"


def _between(low: float, high: float, signed: bool = False) -> str:
    return f"{number(low, signed)} to {number(high, signed)}"
