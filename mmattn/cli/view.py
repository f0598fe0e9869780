"""`mmattn view RUN`: the attention maps of a run, or of any folder, as pages to explore."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from mmattn.cli.plain_command import check_folder, mistakes_in_one_line


def main() -> None:
    """Write the pages and print where they are."""
    parser = ArgumentParser(prog="mmattn view", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory, or any folder of .npz files")
    parser.add_argument("--out", type=Path, help="where the pages go; in RUN if not given")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        from mmattn.maps.gallery import OUT, attention_folder, build_gallery

        check_folder(arguments.out or attention_folder(arguments.run) / OUT, "--out")
        gallery = build_gallery(arguments.run, arguments.out)
        for problem in gallery.unreadable:
            print(f"left out: {problem}", file=sys.stderr)
        count = len(gallery.viewers)
        images = "1 image" if count == 1 else f"{count} images"
        print(f"{images}; open in a browser: {gallery.page}")
