"""`mmattn data check`: every problem of a data set at once, before a training run finds the first.

Exit code 0: fit for training. 2: there are problems, or the command line is wrong.
"""

import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from mmattn.cli.data_config import add_overrides, build_data
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError

if TYPE_CHECKING:
    from mmattn.data.check import DataReport

THREADS = min(4, os.cpu_count() or 1)


def main() -> None:
    """Check the data set that the arguments choose, print the report, and end with its code."""
    parser = ArgumentParser(
        "mmattn data", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["check"], help="what to do")
    add_overrides(parser)
    parser.add_argument("--fast", action="store_true", help="read headers of images only")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--threads", type=int, default=THREADS, help=f"images read at a time (default {THREADS})"
    )
    arguments = parser.parse_intermixed_args()
    with mistakes_in_one_line():
        if arguments.threads < 1:
            raise ConfigError(f"--threads {arguments.threads}: give 1 or more")
        data = build_data(arguments.overrides, arguments.config_dir)
        from mmattn.data.check import check_data

        report = check_data(data, decode=not arguments.fast, threads=arguments.threads)
        say(report, as_json=arguments.json)
    if report.problems:
        raise SystemExit(2)


def say(report: "DataReport", *, as_json: bool) -> None:
    """Print a report; problems go to stderr unless it is JSON."""
    if as_json:
        print(json.dumps(report.plain(), ensure_ascii=False, indent=1))
        return
    from mmattn.data.check import table

    for line in table(report.sets):
        print(line)
    for note in report.notes:
        print(f"note: {note}")
    for places in report.duplicates:
        print(f"note: the same image more than once: {' = '.join(places)}")
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if report.unlisted:
        print(f"problem: and {report.unlisted:,} more", file=sys.stderr)
    count = len(report.problems) + report.unlisted
    print(f"{count:,} problem{'s' * (count != 1)}" if count else "no problems")
