"""`mmattn caption IMAGES --model MODEL`: a caption for every image, one JSON line each.

IMAGES are files, folders (with all below them), patterns such as 'photos/**/*.jpg', and "-" for
a list on stdin. A line has "image" and "caption", with score, words, tokens and their
log-probabilities, or "image" and "error" where a file is no readable image. With --out the lines go
to a file: what it already has is not captioned again, so the same command goes on where it was
stopped, and `torchrun --standalone --nproc-per-node=N -m mmattn caption …` shares the work among N
processes.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.decoding_flags import add_decoding_flags, decoding_options
from mmattn.cli.job_flags import (
    MODEL,
    UNREADABLE,
    add_attention_flags,
    add_job_flags,
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
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        help=f"{MODEL}; several of one tokenizer write by the mean of their probabilities",
    )
    add_job_flags(parser)
    add_attention_flags(parser, "of a page for each image, to explore its maps")
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="INT",
        help="decoder layers of --attention, -1 the last (all)",
    )
    add_choice_flags(parser)
    add_decoding_flags(parser)
    return parser


def add_choice_flags(parser: ArgumentParser) -> None:
    """Add the flags of what an image's captions are chosen by."""
    group = parser.add_argument_group("what captions are chosen by among --best-of")
    group.add_argument(
        "--by",
        choices=["probability", "consensus", "clip", "neighbours"],
        default="probability",
        help="their probability; their consensus, what is most like the others by CIDEr-D; how "
        "well they fit the image by CLIPScore; or what people said of the most similar known "
        "pictures, by CIDEr-D",
    )
    group.add_argument(
        "--consensus-captions",
        type=Path,
        metavar="FILE",
        help="with --by consensus: captions, of the training data say, that tell common words from "
        "rare ones (all weigh the same)",
    )
    group.add_argument(
        "--clip-model",
        metavar="MODEL",
        help="with --by clip: a folder of an open_clip model, or a joint model of mmattn",
    )
    of_known = "with --by neighbours:"
    group.add_argument(
        "--known-captions",
        type=Path,
        metavar="FILE",
        help=f"{of_known} captions of known pictures, those of the training data, say",
    )
    group.add_argument(
        "--known-images", type=Path, metavar="FOLDER", help=f"{of_known} the pictures"
    )
    group.add_argument(
        "--known-split",
        metavar="SPLIT",
        help=f"{of_known} a split of the captions, or a file that lists pictures, one a line, such "
        "as Flickr_8k.trainImages.txt (all but validation and test, where the captions say which)",
    )
    group.add_argument(
        "--neighbours", type=int, metavar="INT", help=f"{of_known} so many are asked (20)"
    )


def settings(arguments: Namespace) -> CaptionSettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    first, *others = arguments.model
    return CaptionSettings(
        **job_flags(arguments),
        **attention_flags(arguments),
        model=first,
        others=tuple(others),
        layers=arguments.layers and tuple(arguments.layers),
        decoding=decoding_options(arguments),
        by=arguments.by,
        consensus_captions=arguments.consensus_captions,
        clip_model=arguments.clip_model,
        known_captions=arguments.known_captions,
        known_images=arguments.known_images,
        known_split=arguments.known_split,
        neighbours=arguments.neighbours,
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
