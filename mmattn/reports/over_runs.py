"""Several runs that differ in their seed: their reports as one, with intervals over runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mmattn.errors import ConfigError
from mmattn.files import write_whole
from mmattn.maps.quality.intervals import figures_over_runs
from mmattn.reports.results import (
    Estimate,
    Figures,
    LineResult,
    Report,
    SetResult,
    UniformResult,
    lost_key,
)
from mmattn.reports.tables import tables
from mmattn.reports.verdict import is_better, nats, reason, within
from mmattn.reports.writing import markdown_table
from mmattn.training.results import write_results

NAME = "over_runs"
# The line of the map that each run's own report is about; runs may differ in which it is.
CHOSEN = "best on validation"


@dataclass(frozen=True)
class OverRuns:
    """The report over runs: each estimate is a mean over them with Student's t-interval.

    Counts and chances are those of every run; `cascade` is the mean.
    """

    names: tuple[str, ...]
    report: Report


def over_runs(reports: Mapping[str, Report]) -> OverRuns:
    """Return the report over runs, given by their names.

    Raises:
        ConfigError: for runs that were not measured on the same words.
        ValueError: for fewer than three runs.
    """
    check_same_words(reports)
    first = next(iter(reports.values()))
    found = figures_over_runs([_means(report) for report in reports.values()])
    estimates = {key: Estimate(*map(float, interval)) for key, interval in found.items()}
    report = Report(
        method=CHOSEN,
        candidates=first.candidates,
        sets=tuple(_Merging(f"{each.name}/", estimates).of(each, first) for each in first.sets),
        cascade=tuple(
            (part, estimates[f"cascade/{part}"].mean)
            for part, _ in first.cascade
            if f"cascade/{part}" in estimates
        ),
        seed=first.seed,
    )
    return OverRuns(tuple(reports), report)


def check_same_words(reports: Mapping[str, Report]) -> None:
    """Raise ConfigError where test sets, or the words or the patches measured on them, differ."""
    measured = {
        name: [(s.name, s.images, s.words, s.perturbed, s.chance) for s in report.sets]
        for name, report in reports.items()
    }
    first = next(iter(measured))
    other = next((name for name in measured if measured[name] != measured[first]), None)
    if other is not None:
        raise ConfigError(
            f"{first} and {other} were not measured on the same words and patches: an interval "
            f"over runs needs runs that differ in their seed only"
        )


def sentences(over: OverRuns) -> list[str]:
    """Return what holds over runs: a headline, then a paragraph for each test set."""
    better = [result.name for result in over.report.sets if is_better(result)]
    others = [result.name for result in over.report.sets if result.name not in better]
    headline = f"Over {len(over.names)} runs the maps are "
    headline += f"better than all controls on {' and '.join(better)}" if better else ""
    headline += ", and " if better and others else ""
    headline += f"NOT surely better than all controls on {' and '.join(others)}" if others else ""
    return [f"{headline}.", *(_paragraph(over, result) for result in over.report.sets)]


def _paragraph(over: OverRuns, result: SetResult) -> str:
    lead = {title: figures["pointing"] for title, figures in result.above.items()}
    nearest = min(lead, key=lambda title: lead[title].mean)
    better = is_better(result)
    told = "surely above every control" if better else f"NOT surely better ({reason(result)})"
    pointing = result.line(CHOSEN).figures["pointing"]
    return (
        f"{result.name}: over {len(over.names)} runs the map that each run's report is about "
        f"points at the named region in {within(pointing)} of {result.words:,} words; chance is "
        f"{result.chance:.3f}. It leads the nearest control, {nearest}, by "
        f"{within(lead[nearest])}: {told}. With uniform attention in all layers the models lose "
        f"{nats(result.uniform.lost[None]['log_prob'])} a token."
    )


def write_over_runs(over: OverRuns, folder: str | Path) -> list[Path]:
    """Write `over_runs.json` and `over_runs.md` to a folder; return the files."""
    paths = [Path(folder) / f"{NAME}.{suffix}" for suffix in ("json", "md")]
    write_results(paths[0], {"runs": float(len(over.names)), **over.report.figures()})
    write_whole(paths[1], markdown(over).encode())
    return paths


def markdown(over: OverRuns) -> str:
    """Return what holds over runs as Markdown: in words, then the tables."""
    note = (
        f"Figures are means over the runs {', '.join(over.names)}, with 95 % t-intervals over "
        f"runs ({len(over.names) - 1} degrees of freedom). The line “{CHOSEN}” is the map that "
        f"each run's own report is about."
    )
    parts = [*sentences(over), note, *(markdown_table(table) for table in tables(over.report))]
    return "\n\n".join(parts) + "\n"


def _means(report: Report) -> dict[str, float]:
    """Return a report's figures without the ends of their intervals, and the chosen map's."""
    flat = {
        key: value for key, value in report.figures().items() if not key.endswith(("_low", "_high"))
    }
    for result in report.sets:
        for figure, estimate in result.line(report.method).figures.items():
            flat[f"{result.name}/{CHOSEN}/{figure}"] = estimate.mean
    return flat


@dataclass(frozen=True)
class _Merging:
    """Results whose figures are those `found` under the same flat keys, all below `prefix`."""

    prefix: str
    found: dict[str, Estimate]

    def of(self, result: SetResult, report: Report) -> SetResult:
        """Return the result of one run with the figures over runs, as far as all runs have them."""
        chosen = LineResult(CHOSEN, False, None, None, result.line(report.method).figures)
        words = (replace(w, figures=self.over(f"word/{w.text}", w.figures)) for w in result.by_word)
        above = {title: self.over(f"above/{title}", own) for title, own in result.above.items()}
        return replace(
            result,
            lines=tuple(self.lines((chosen, *result.lines))),
            by_word=tuple(word for word in words if word.figures),
            above=above,
            uniform=self.uniform(result.uniform),
        )

    def lines(self, lines: tuple[LineResult, ...]) -> Iterator[LineResult]:
        for line in lines:
            figures = self.over(line.key, line.figures)
            if figures:
                yield replace(line, figures=figures)

    def uniform(self, uniform: UniformResult) -> UniformResult:
        key = "uniform_attention"
        lost = {i: self.over(f"{key}/{lost_key(i)}", own) for i, own in uniform.lost.items()}
        return replace(
            uniform,
            own=self.over(f"{key}/own", uniform.own),
            lost={layer: figures for layer, figures in lost.items() if figures},
        )

    def over(self, key: str, own: Figures) -> Figures:
        keys = {figure: f"{self.prefix}{key}/{figure}" for figure in own}
        return {figure: self.found[each] for figure, each in keys.items() if each in self.found}
