"""The table of faults: its plugin in runs of its own, and what the README says with it."""

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
ROW = re.compile(r"\| (F\d+) \| (.+) \| (.+) \| (.+) \|")
LINK = re.compile(r"\[[\w]+\]\(([\w/.]+)\)")

spec = spec_from_file_location("fault_table_under_test", HERE / "fault_table.py")
fault_table = module_from_spec(spec)
spec.loader.exec_module(fault_table)

CONFTEST = f"""
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("fault_table", {str(HERE / "fault_table.py")!r})
fault_table = module_from_spec(spec)
spec.loader.exec_module(fault_table)
def pytest_configure(config):
    fault_table.pytest_configure(config)
pytest_addoption = fault_table.pytest_addoption
pytest_runtest_setup = fault_table.pytest_runtest_setup
"""
TESTS = """
import pytest
@pytest.mark.fault("F1")
@pytest.mark.fault("F2")
def test_two(): pass
@pytest.mark.fault("F1")
@pytest.mark.parametrize("i", range(3))
def test_many(i): pass
@pytest.mark.slow
@pytest.mark.fault("F3")
def test_failing(): assert False
@pytest.mark.slow
@pytest.mark.fault("F3")
def test_passing(): pass
@pytest.fixture
def broken():
    yield
    raise RuntimeError
@pytest.mark.slow
@pytest.mark.fault("F4")
def test_teardown(broken): pass
@pytest.mark.fault("F5")
def test_skipped(): pytest.skip("no disk")
def test_other(): assert False
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Rows of a table made by two runs, the first of them over two processes: number -> tests."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow: second leg\n  fault(n): x\n")
    (folder / "test_some.py").write_text(TESTS)
    page = folder / "page.md"
    page.write_text(f"above\n\n{fault_table.BEGIN}\nof before\n{fault_table.END}\n\nbelow\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    legs = [["-n", "2", "-m", "not slow"], ["-p", "no:xdist", "-m", "slow", "--fault-table", page]]
    for leg in legs:
        command = [sys.executable, "-m", "pytest", "-q", "--fault-results", "found.json", *leg]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 1, done.stdout + done.stderr
    text = page.read_text()
    assert text.startswith("above\n\n")
    assert text.endswith(f"{fault_table.END}\n\nbelow\n")
    assert "of before" not in text
    return {row[1]: row[4] for row in ROW.finditer(text)}


@pytest.mark.slow
def test_every_fault_has_a_row_in_order(table):
    assert list(table) == [f"F{i}" for i in range(1, 35)]


@pytest.mark.slow
def test_tests_are_counted_over_both_legs_and_processes(table):
    assert table["F1"] == "4 passed: [some](test_some.py)"
    assert table["F2"] == "1 passed: [some](test_some.py)"


@pytest.mark.slow
def test_failures_are_not_hidden(table):
    assert table["F3"] == "**1 failed, 1 passed**: [some](test_some.py)"
    assert table["F4"] == "**1 failed**: [some](test_some.py)"


@pytest.mark.slow
def test_a_skip_is_no_test(table):
    assert table["F5"] == table["F6"] == "no test"


def test_a_file_without_markers_becomes_the_table(tmp_path):
    fault_table.put(tmp_path / "new.md", "| a |\n")
    assert (tmp_path / "new.md").read_text() == "| a |\n"


def test_the_texts_are_complete():
    texts = fault_table.texts()
    assert list(texts) == [f"F{i}" for i in range(1, 35)]
    for text in texts.values():
        assert set(text) == {"fault", "behaviour"}
        assert all(value and "|" not in value for value in text.values())


def test_the_readme_has_every_row_and_names_only_tests_that_are_there():
    _, begin, rest = README.read_text("utf-8").partition(fault_table.BEGIN)
    inside, end, _ = rest.partition(fault_table.END)
    assert begin
    assert end
    rows = {row[1]: row for row in ROW.finditer(inside)}
    texts = fault_table.texts()
    assert list(rows) == list(texts)
    for number, row in rows.items():
        assert (row[2], row[3]) == (texts[number]["fault"], texts[number]["behaviour"])
        for name in LINK.findall(row[4]):
            marked = (README.parent / name).read_text("utf-8")
            assert f'fault("{number}")' in marked, f"{name} has no test of {number}"
