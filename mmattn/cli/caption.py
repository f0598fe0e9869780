"""`mmattn caption IMAGES --model MODEL`: a caption for every image, one JSON line each.

IMAGES are files, folders (with all below them), patterns such as 'photos/**/*.jpg', and "-" for
a list on stdin. A line has "image" and "caption", with score, words, tokens and their
log-probabilities, or "image" and "error" where a file is no readable image. With --out the lines go
to a file: what it already has is not captioned again, so the same command goes on where it was
stopped, and `torchrun --standalone --nproc-per-node=N -m mmattn caption …` shares the work among N
processes.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from mmattn.cli.decoding_flags import add_decoding_flags, decoding_options
from mmattn.cli.job_flags import (
    UNREADABLE,
    add_attention_flags,
    add_job_flags,
    add_model_flag,
    attention_flags,
    job_flags,
    job_may_write,
)
from mmattn.cli.job_settings import CaptionSettings
from mmattn.cli.plain_command import mistakes_in_one_line

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
    add_model_flag(parser)
    add_job_flags(parser)
    add_attention_flags(parser, "of a page for each image, to explore its maps")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="INT",
        help="decoder layers of --attention, -1 the last (all)",
    )
    add_decoding_flags(parser)
    return parser


def settings(arguments: Namespace) -> CaptionSettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    return CaptionSettings(
        **job_flags(arguments),
        **attention_flags(arguments),
        model=arguments.model,
        layers=arguments.layers and tuple(arguments.layers),
        decoding=decoding_options(arguments),
    )


def main() -> None:
    """Caption the images."""
    arguments = parser().parse_intermixed_args()
    with mistakes_in_one_line():
        job = settings(arguments)
        job_may_write(job)
        from mmattn.cli.caption_job import CaptionWork
        from mmattn.cli.jsonl_job import run_job

        unreadable = run_job(job, CaptionWork(job))
    if unreadable:
        raise SystemExit(UNREADABLE)
