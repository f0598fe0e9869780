"""`mmattn view RUN`: the maps of a run, or of any folder, as pages to explore."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.places import check_folder
from mmattn.cli.plain_command import mistakes_in_one_line


def main() -> None:
    """Write the pages and print where they are."""
    parser = ArgumentParser(prog="mmattn view", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory, or any folder of .npz files")
    parser.add_argument("--out", type=Path, help="where the pages go; in RUN if not given")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        view(arguments.run, arguments.out)


def view(run: Path, out: Path | None) -> None:
    """Write what there is to see of a run: a classifier's decisions, or a captioner's attention."""
    from mmattn.maps.decision_gallery import (
        build_decision_gallery,
        decisions_folder,
        holds_decisions,
    )
    from mmattn.maps.gallery import OUT, attention_folder, build_gallery

    if holds_decisions(run):
        check_folder(out or decisions_folder(run), "--out")
        found = build_decision_gallery(run, out)
        say(found.unreadable, found.decisions, "decision", found.page)
    else:
        check_folder(out or attention_folder(run) / OUT, "--out")
        gallery = build_gallery(run, out)
        say(gallery.unreadable, len(gallery.viewers), "image", gallery.page)


def say(unreadable: Sequence[str], count: int, thing: str, page: Path) -> None:
    """Print what was left out, then how much there is to see and where."""
    for problem in unreadable:
        print(f"left out: {problem}", file=sys.stderr)
    things = f"1 {thing}" if count == 1 else f"{count} {thing}s"
    print(f"{things}; open in a browser: {page}")
