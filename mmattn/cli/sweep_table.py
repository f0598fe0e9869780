"""What a sweep prints at its end: one line a point, what was varied and what came of it.

Where points differ in their seed only, there is a line of their means, too.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

# What stands in the table besides the metric that is optimised, as far as a run has it.
SHOWN = ("model/parameters", "train/seconds")
Point = tuple[dict[str, str], dict[str, float]]  # its overrides, its results
SCORES = ("/score", "/exact_match", "/cider")


class SweepTable(Callback):
    """Reads the folders of a sweep when it has ended, prints a table and writes `table.md`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Gather the points that have results; a sweep of none has no table."""
        folder = Path(config.hydra.sweep.dir)
        metric = OmegaConf.select(config, "optimized_metric")
        found = points(folder)
        text = "\n".join(filter(None, [table(found, metric), table_over_seeds(found, metric)]))
        if text:
            (folder / "table.md").write_text(text, encoding="utf-8")
            print(text)


def points(folder: Path) -> list[Point]:
    """Return (overrides, results) of every point of a sweep, in the order of their numbers."""
    found = []
    for path in sorted(folder.glob("*/results.json"), key=lambda path: natural(path.parent.name)):
        overrides = OmegaConf.load(path.parent / ".hydra" / "overrides.yaml")
        pairs = (str(each).partition("=") for each in overrides)
        results = json.loads(path.read_text(encoding="utf-8"))
        found.append(({key: value for key, _, value in pairs}, results))
    return found


def natural(name: str) -> tuple[int, str]:
    """Return what sorts numbered folders by their number."""
    return (int(name) if name.isdecimal() else 1 << 30, name)


def table(found: Sequence[Point], metric: str | None) -> str:
    """Return the table in Markdown, "" without a point."""
    varied, shown = columns(found, metric)
    lines = [
        [*(str(overrides.get(key, "")) for key in varied), *(number(results.get(n)) for n in shown)]
        for overrides, results in found
    ]
    return in_markdown([*varied, *shown], lines, len(shown))


def table_over_seeds(found: Sequence[Point], metric: str | None) -> str:
    """Return the means over points that differ in their seed only, "" where there are none.

    Each with the standard deviation of a single run, of so many.
    """
    varied, shown = columns(found, metric)
    others = [key for key in varied if key != "seed"]
    groups: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for overrides, results in found:
        groups.setdefault(tuple(overrides.get(key, "") for key in others), []).append(results)
    if "seed" not in varied or all(len(group) < 2 for group in groups.values()):
        return ""
    lines = [
        [*values, str(len(group)), *(spread([each.get(name) for each in group]) for name in shown)]
        for values, group in groups.items()
    ]
    return in_markdown([*others, "seeds", *shown], lines, len(shown) + 1)


def columns(found: Sequence[Point], metric: str | None) -> tuple[list[str], list[str]]:
    """Return the keys that the points differ in, and the figures that they have."""
    keys = list(dict.fromkeys(key for overrides, _ in found for key in overrides))
    varied = [key for key in keys if len({o.get(key) for o, _ in found}) > 1] or keys
    figures = dict.fromkeys([*SHOWN, *([metric] if metric else [])])
    names = dict.fromkeys(name for _, results in found for name in results)
    figures |= dict.fromkeys(
        name for name in names if name.startswith("test/") and name.endswith(SCORES)
    )
    return varied, [str(name) for name in figures if any(name in results for _, results in found)]


def in_markdown(head: Sequence[str], lines: Sequence[Sequence[str]], figures: int) -> str:
    """Return a table whose last columns, so many, are figures; "" without a line."""
    if not lines:
        return ""
    rule = ["---"] * (len(head) - figures) + ["---:"] * figures
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines]) + "\n"


def spread(values: Sequence[float | None]) -> str:
    """Return a mean with the standard deviation over runs, of those that have the figure."""
    there = [value for value in values if value is not None]
    if len(set(there)) < 2:
        return number(there[0] if there else None)
    return f"{number(statistics.mean(there))} ± {statistics.stdev(there):.2g}"


def number(value: float | None) -> str:
    """Return a figure with four digits, or all of a whole number."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1000 else f"{value:.4g}"
