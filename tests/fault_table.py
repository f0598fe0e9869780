"""The table of faults in the README, made from the results of the tests that carry their numbers.

A pytest plugin, loaded by conftest.py. The two legs of a test run write to one file of results,
and the second makes the table:

    pytest -m "fault and not slow" --fault-results faults.json
    pytest -m "fault and slow" --fault-results faults.json --fault-table README.md

In a file with the two markers only what is between them is replaced; any other becomes the table.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

BEGIN, END = "<!-- fault table: begin -->", "<!-- fault table: end -->"
TEXTS = Path(__file__).with_name("faults.toml")
PROPERTY = "fault"  # under which a report carries a number from a worker to the main process


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the table of faults")
    group.addoption("--fault-results", metavar="FILE", help="a JSON file that keeps the results")
    group.addoption("--fault-table", metavar="FILE", help="a file for the table, in Markdown")


def pytest_configure(config: pytest.Config) -> None:
    wanted = config.getoption("--fault-results"), config.getoption("--fault-table")
    if any(wanted) and not hasattr(config, "workerinput"):  # workers of pytest-xdist only report
        config.pluginmanager.register(Results(*(Path(p) if p else None for p in wanted)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Put the test's numbers where pytest-xdist hands them on."""
    for mark in item.iter_markers("fault"):
        number = mark.args[0]
        if number not in texts():
            raise pytest.UsageError(f"{item.nodeid}: no fault {number!r} in {TEXTS.name}")
        item.user_properties.append((PROPERTY, number))


class Results:
    """Gathers the outcome of every test about a fault; merges and writes at the end."""

    def __init__(self, kept: Path | None, table: Path | None):
        self.kept, self.table = kept, table
        self.found: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        numbers = sorted({str(value) for key, value in report.user_properties if key == PROPERTY})
        if not numbers:
            return
        # Setup and teardown count where they fail; a skip happens in either.
        if report.when == "call" or not report.passed:
            before = self.found.get(report.nodeid, {}).get("outcome")
            outcome = "failed" if "failed" in (before, report.outcome) else report.outcome
            self.found[report.nodeid] = {"faults": numbers, "outcome": outcome}

    def pytest_sessionfinish(self) -> None:
        results = json.loads(self.kept.read_text()) if self.kept and self.kept.exists() else {}
        results |= self.found
        if self.kept:
            self.kept.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
        if self.table:
            put(self.table, markdown(results))


def texts() -> dict[str, dict[str, str]]:
    """Return number -> its texts, in their order."""
    return tomllib.loads(TEXTS.read_text("utf-8"))


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table."""
    rows = ["| | what happens | what mmattn does | tests |", "|---|---|---|---|"]
    for number, text in texts().items():
        mine = {node: r["outcome"] for node, r in results.items() if number in r["faults"]}
        rows.append(f"| {number} | {text['fault']} | {text['behaviour']} | {verdict(mine)} |")
    return "\n".join(rows) + "\n"


def verdict(outcomes: Mapping[str, str]) -> str:
    """Return what came of the tests of one fault, and the files that they are in."""
    counts = {kind: list(outcomes.values()).count(kind) for kind in ("failed", "passed")}
    if not any(counts.values()):
        return "no test"
    files = sorted({node.partition("::")[0] for node, kind in outcomes.items() if kind in counts})
    said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    links = ", ".join(f"[{Path(name).stem.removeprefix('test_')}]({name})" for name in files)
    return f"{'**' * bool(counts['failed'])}{said}{'**' * bool(counts['failed'])}: {links}"


def put(path: Path, table: str) -> None:
    """Write the table to a file, between the markers where it has them."""
    text = path.read_text("utf-8") if path.exists() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        table = f"{before}{BEGIN}\n{table}{END}{after}"
    path.write_text(table, "utf-8")
