"""What a sweep prints at its end: one line a point, what was varied and what came of it."""

import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

# What stands in the table besides the metric that is optimised, as far as a run has it.
SHOWN = ("model/parameters", "train/seconds")
SCORES = ("/score", "/exact_match", "/cider")


class SweepTable(Callback):
    """Reads the folders of a sweep when it has ended, prints a table and writes `table.md`."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Gather the points that have results; a sweep of none has no table."""
        folder = Path(config.hydra.sweep.dir)
        metric = OmegaConf.select(config, "optimized_metric")
        text = table(points(folder), metric)
        if text:
            (folder / "table.md").write_text(text, encoding="utf-8")
            print(text)


def points(folder: Path) -> list[tuple[dict[str, str], dict[str, float]]]:
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


def table(found: list[tuple[dict[str, str], dict[str, float]]], metric: str | None) -> str:
    """Return the table in Markdown, "" without a point."""
    if not found:
        return ""
    keys = list(dict.fromkeys(key for overrides, _ in found for key in overrides))
    varied: list[str] = [key for key in keys if len({o.get(key) for o, _ in found}) > 1] or keys
    figures = dict.fromkeys([*SHOWN, *([metric] if metric else [])])
    names = dict.fromkeys(name for _, results in found for name in results)
    figures |= dict.fromkeys(
        name for name in names if name.startswith("test/") and name.endswith(SCORES)
    )
    shown = [name for name in figures if any(name in results for _, results in found)]
    lines = [[*varied, *shown], ["---"] * len(varied) + ["---:"] * len(shown)]
    for overrides, results in found:
        cells = [str(overrides.get(str(key), "")) for key in varied]
        lines.append(cells + [number(results.get(str(name))) for name in shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: float | None) -> str:
    """Return a figure with four digits, or all of a whole number."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value == round(value) and abs(value) >= 1000 else f"{value:.4g}"
