"""`mmattn caption IMAGES --model MODEL`: a caption for every image, one JSON line each.

IMAGES are files, folders (with all below them), patterns such as 'photos/**/*.jpg', and "-" for
a list on stdin. A line has "image" and "caption", with score, words, tokens and their
log-probabilities, or "image" and "error" where a file is no readable image. With --out the lines go
to a file: what it already has is not captioned again, so the same command goes on where it was
stopped, and `torchrun --nproc-per-node=N -m mmattn caption …` shares the work among N processes.
"""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.decoding_flags import add_decoding_flags, decoding_options
from mmattn.cli.plain_command import check_folder, mistakes_in_one_line
from mmattn.errors import ConfigError

UNREADABLE = 3  # the exit code where some image could not be read
AUTO = "auto"
EPILOG = """exit codes: 0 every image has its caption, 1 a failure of the program, 2 a mistake in
the input (nothing was captioned, or what was is in --out), 3 some images could not be read (their
lines say why), 130 stopped by Ctrl-C, 141 nobody reads stdout any more"""


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn caption",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="+", help="files, folders, patterns; - reads stdin")
    parser.add_argument(
        "--model", required=True, help="a run directory, a model folder, or name/name on the hub"
    )
    parser.add_argument("--out", type=Path, help="JSONL file; stdout if not given")
    parser.add_argument(
        "--retry", action="store_true", help="try those again that --out has with an error"
    )
    parser.add_argument(
        "--attention", type=Path, help="folder of a page for each image, to explore its maps"
    )
    parser.add_argument(
        "--attention-format",
        action="append",
        choices=["html", "png", "npz"],
        help="what is written there (html); may be given several times",
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", help="decoder layers of --attention, -1 the last (all)"
    )
    parser.add_argument(
        "--batch-size", default="8", help="images computed at once (8); auto finds the fastest"
    )
    parser.add_argument("--threads", type=int, default=2, help="that read images (2)")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; a GPU if there is one (auto)"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="as it was stored"
    )
    parser.add_argument(
        "--max-pixels", type=int, default=50_000_000, help="of an image file (50,000,000)"
    )
    parser.add_argument("--revision", help="a branch, tag or commit of the hub")
    add_decoding_flags(parser)
    return parser


def main() -> None:
    """Caption the images."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        check(arguments)
        from mmattn.cli.caption_job import caption_job

        bad = caption_job(arguments, decoding_options(arguments))
        sys.stdout.flush()
    if bad:
        raise SystemExit(UNREADABLE)


def check(arguments: Namespace) -> None:
    """Raise ConfigError for options that cannot be, before anything is loaded."""
    size = arguments.batch_size
    if size != AUTO and not (size.isdecimal() and int(size) > 0):
        raise ConfigError(f"--batch-size {size}: give a number of at least 1, or auto")
    for name in ("threads", "max_pixels"):
        if getattr(arguments, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} {getattr(arguments, name)}: give 1 or more")
    if arguments.attention is None and (arguments.attention_format or arguments.layers):
        raise ConfigError("--attention-format and --layers are of --attention FOLDER: give it, too")
    if arguments.retry and arguments.out is None:
        raise ConfigError("--retry is of the lines that --out has: give it, too")
    if arguments.attention is not None:
        check_folder(arguments.attention, "--attention")
    if arguments.out is not None:
        if arguments.out.is_dir():
            raise ConfigError(f"--out {arguments.out} is a folder: give a file, such as out.jsonl")
        check_folder(arguments.out.parent, "--out")
