"""`mmattn caption IMAGES --model MODEL`: a caption for every image, one JSON line each.

IMAGES are files, folders (with all below them), patterns such as 'photos/**/*.jpg', and "-" for
a list on stdin. A line has "image" and "caption", with score, words, tokens and their
log-probabilities, or "image" and "error" where a file is no readable image. With --out the lines go
to a file: what it already has is not captioned again, so the same command goes on where it was
stopped, and `torchrun --standalone --nproc-per-node=N -m mmattn caption …` shares the work among N
processes.
"""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.decoding_flags import add_decoding_flags, decoding_options
from mmattn.cli.job_settings import JobSettings
from mmattn.cli.plain_command import mistakes_in_one_line

UNREADABLE = 3  # the exit code where some image could not be read
EPILOG = """exit codes: 0 every image has its caption, 1 a failure of the program, 2 a mistake in
the input (nothing was captioned, or what was is in --out), 3 some images could not be read (their
lines say why), 130 stopped by Ctrl-C, 141 nobody reads stdout any more; torchrun itself ends with 1
where this is not 0"""


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
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSONL; stdout if not given")
    parser.add_argument(
        "--retry", action="store_true", help="try those again that --out has with an error"
    )
    parser.add_argument(
        "--attention",
        type=Path,
        metavar="FOLDER",
        help="of a page for each image, to explore its maps",
    )
    parser.add_argument(
        "--attention-format",
        action="append",
        default=[],
        choices=["html", "png", "npz"],
        help="what is written there (html); may be given several times",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="INT",
        help="decoder layers of --attention, -1 the last (all)",
    )
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=8,
        metavar="INT",
        help="images computed at once (8); auto finds the fastest",
    )
    parser.add_argument("--threads", type=int, default=2, metavar="INT", help="that read (2)")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; a GPU if there is one (auto)"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="as it was stored"
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=50_000_000,
        metavar="INT",
        help="of an image file (50,000,000)",
    )
    parser.add_argument("--revision", help="a branch, tag or commit of the hub")
    add_decoding_flags(parser)
    return parser


def batch_size(text: str) -> int | None:
    """Return the number, None for "auto"."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number; give one, or auto") from None


def settings(arguments: Namespace) -> JobSettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    return JobSettings(
        images=tuple(arguments.images),
        model=arguments.model,
        out=arguments.out,
        retry=arguments.retry,
        attention=arguments.attention,
        formats=tuple(dict.fromkeys(arguments.attention_format)),
        layers=arguments.layers and tuple(arguments.layers),
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        device=arguments.device,
        dtype=arguments.dtype,
        max_pixels=arguments.max_pixels,
        revision=arguments.revision,
        decoding=decoding_options(arguments),
    )


def main() -> None:
    """Caption the images."""
    arguments = parser().parse_intermixed_args()
    with mistakes_in_one_line():
        job = settings(arguments)
        if os.environ.get("RANK", "0") == "0":  # of torchrun's processes, one looks for all
            job.check_places()
        from mmattn.cli.caption_job import caption_job

        unreadable = caption_job(job)
    if unreadable:
        raise SystemExit(UNREADABLE)
