"""The tables of an attention report, as text that both Markdown and HTML lay out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mmattn.reports.results import Estimate, Figures, LineResult, Report, SetResult

# What each figure is called, and what it means.
COLUMNS = {
    "pointing": ("pointing", "the map's largest patch holds a quarter of the region or more"),
    "pointing_near": ("± 1 patch", "the same, with one patch of tolerance"),
    "energy": ("energy", "share of the map's mass on such patches"),
    "iou": ("IoU", "of such patches with those above the map's mean"),
    "auc": ("AUC", "a patch of the region has a larger value than one outside"),
    "deletion": ("deletion ↓", "the word's probability while the map's patches are taken away"),
    "insertion": ("insertion ↑", "the same while they are put into the blurred picture"),
    "road": ("ROAD ↑", "(least - most relevant patches removed first) / 2, holes imputed"),
    "leave_one_out": ("leave one out ↑", "rank correlation with what each patch's loss costs"),
    "log_prob": (
        "nats lost a token",
        "the model's mean log-probability of the caption's tokens, each given those before it, "
        "minus that with uniform attention; no weight is trained for it",
    ),
    "accuracy": ("token accuracy lost", "the same of the share of tokens that it puts first"),
}
WHERE = ("pointing", "pointing_near", "energy", "iou", "auc")
USED = ("deletion", "insertion", "road", "leave_one_out")
BY_WORD = ("pointing", "pointing_near", "energy")
LOST = ("log_prob", "accuracy")


class Cell(NamedTuple):
    """A cell; `heat` in 0..1 colours it where there are colours."""

    text: str
    heat: float | None = None


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row is its name."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(report: Report) -> Iterator[Table]:
    """Yield the tables: of each test set, and the cascade."""
    for result in report.sets:
        yield regions_table(result)
        if result.perturbed:
            yield perturbations_table(result)
        yield uniform_table(result)
        yield heads_table(result)
        yield words_table(report, result)
    yield cascade_table(report)


def regions_table(result: SetResult) -> Table:
    """Return how the maps of methods and controls fall on the regions of one test set."""
    return _lines_table(
        f"{result.name}: on the named region, {result.words:,} words of {result.images:,} images; "
        f"chance of pointing and energy {result.chance:.3f}, ± 1 patch {result.near_chance:.3f}",
        result,
        WHERE,
    )


def perturbations_table(result: SetResult) -> Table:
    """Return whether the model uses what the maps of methods and controls show."""
    title = f"{result.name}: what the model uses, {result.perturbed:,} words"
    return _lines_table(title, result, USED)


def uniform_table(result: SetResult) -> Table:
    """Return what a uniform attention costs, in each layer alone and in all."""
    uniform = result.uniform
    own = " and ".join(
        f"{name} {ranged(uniform.own[figure])}"
        for figure, name in (("log_prob", "log-probability"), ("accuracy", "accuracy"))
    )
    return Table(
        f"{result.name}: what a uniform attention costs, {uniform.tokens:,} tokens of "
        f"{result.images:,} images; the model itself has {own}",
        ("uniform in", *(COLUMNS[name][0] for name in LOST)),
        tuple(
            (Cell(layer_title(layer)), *estimated(lost, LOST))
            for layer, lost in uniform.lost.items()
        ),
    )


def layer_title(layer: int | None) -> str:
    """Return a layer in words; None is all of them."""
    return "all layers" if layer is None else f"layer {layer}"


def heads_table(result: SetResult) -> Table:
    """Return the pointing of each layer and head of the cross-attention."""
    lines = {
        (line.layer, line.head): line.figures["pointing"].mean
        for line in result.lines
        if line.layer is not None
    }
    layers = sorted({layer for layer, _ in lines if layer is not None})
    heads = sorted({head for _, head in lines if head is not None})
    return Table(
        f"{result.name}: pointing of each layer and head",
        ("layer", "mean over heads", *(f"head {head}" for head in heads)),
        tuple(
            (Cell(str(layer)), *(_heated(lines[layer, head]) for head in (None, *heads)))
            for layer in layers
        ),
    )


def words_table(report: Report, result: SetResult) -> Table:
    """Return the figures of the report's method for each word."""
    rows = tuple(
        (
            Cell(word.text),
            Cell(str(word.count)),
            Cell(f"{word.chance:.3f}"),
            *estimated(word.figures, BY_WORD),
        )
        for word in result.by_word
    )
    return Table(
        f"{result.name}: each word, {report.method}",
        ("word", "times", "chance", *(COLUMNS[name][0] for name in BY_WORD)),
        rows,
    )


def cascade_table(report: Report) -> Table:
    """Return how alike the maps stay while more and more of the model has random weights."""
    return Table(
        "Random weights from the output down: rank correlation with the trained model's maps",
        ("random down to", "correlation"),
        tuple((Cell(part), _heated(value)) for part, value in report.cascade),
    )


def _lines_table(title: str, result: SetResult, figures: tuple[str, ...]) -> Table:
    lines = [line for line in result.lines if line.layer is None]
    known = [name for name in figures if name in lines[0].figures]
    rows = tuple((Cell(named(line)), *estimated(line.figures, known)) for line in lines)
    return Table(title, ("map", *(COLUMNS[name][0] for name in known)), rows)


def named(line: LineResult) -> str:
    """Return a line's title, controls marked as such."""
    return f"control: {line.title}" if line.control else line.title


def estimated(figures: Figures, names: Sequence[str]) -> Iterator[Cell]:
    """Yield a cell for each figure."""
    yield from (Cell(ranged(figures[name])) for name in names)


def ranged(estimate: Estimate) -> str:
    """Return an estimate with its interval, such as "0.84 (0.81 to 0.87)"."""
    if estimate.mean != estimate.mean:
        return "–"  # undefined: of a region that is everything, for example
    mean, low, high = (round(value, 2) + 0.0 for value in estimate)  # + 0.0: no "-0.00"
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def _heated(value: float) -> Cell:
    return Cell(f"{value:.2f}", min(max(value, 0.0), 1.0))
