"""The scripts that need more than this machine has run here at toy size."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script(name, *arguments):
    """Run one of the benchmarks; return what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_table_of_a_gpu():
    rows = [
        line for line in script("gpu.py", "--device", "cpu", "--tiny").splitlines() if "|" in line
    ]
    assert rows[0] == "| what | measured | goal |"
    assert len(rows) == 2 + 4 + 1 + 1 + 1
    assert "same captions 100%" in rows[-2]
    assert rows[-1].endswith("| 0.0 | 0.0 |")


@pytest.mark.slow
def test_two_processes_say_the_bytes_of_their_parameters():
    found = script("scale.py", "--model", "tiny", "--images", "1", "--rounds", "1", "--steps", "1")
    assert "1.000 x the" in found
    table = script("scale_arithmetic.py", "--model", "tiny", "--images", "8", "--step-ms", "5")
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == 1 + 2 * 3
