"""`mmattn score --references FILE --predictions FILE`: caption metrics, equal to coco-caption's.

References are COCO's captions JSON, Flickr's token file, Karpathy's JSON, or JSON or JSONL with
"image" and "captions" (or "caption", a line each). Predictions are COCO's results JSON, or what
`mmattn caption --out` writes. What a file is, is seen from its content; gzip is unpacked. Images
are the same where their numbers or names are, else where the names of their files are.

Prints BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D with intervals over images, the lengths of captions and
how they differ; with --clip MODEL --images FOLDER how well captions fit their photos, too. With
--against FILE two models are compared on the same images: differences, with intervals by the paired
bootstrap and p-values by approximate randomisation.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.cli.score_settings import MISSING, ScoreSettings

FAILED = 3
EPILOG = """exit codes: 0 done (a metric whose program is not installed is left out, and stderr says
what is missing), 1 a failure of the program, 2 a mistake in the input, 3 done, but METEOR or SPICE
failed (stderr says how), 130 stopped by Ctrl-C, 141 nobody reads stdout any more"""


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn score",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    add_inputs(parser)
    add_measures(parser)
    add_chance(parser)
    add_outputs(parser)
    return parser


def add_inputs(parser: ArgumentParser) -> None:
    """Add what says which captions are compared."""
    parser.add_argument("--references", type=Path, required=True, metavar="FILE")
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="another model's predictions, to compare with"
    )
    parser.add_argument(
        "--split",
        metavar="NAME|FILE",
        help="a split of Karpathy's JSON, or a file that lists images, one a line, such as "
        "Flickr_8k.testImages.txt",
    )
    parser.add_argument(
        "--missing",
        choices=MISSING,
        default="error",
        help="where images lack references or a prediction: skip scores the others (error)",
    )


def add_measures(parser: ArgumentParser) -> None:
    """Add what is measured beside the usual."""
    group = parser.add_argument_group("what else is measured")
    group.add_argument(
        "--meteor", action="store_true", help="METEOR, which needs Java and the extra `coco`"
    )
    group.add_argument(
        "--spice",
        action="store_true",
        help="SPICE, which needs these and Stanford CoreNLP's models; nothing is downloaded",
    )
    group.add_argument(
        "--training",
        type=Path,
        metavar="FILE",
        help="training captions, like references: the share of predictions that are none of them",
    )
    group.add_argument(
        "--training-split",
        metavar="NAME|FILE",
        help="of --training, like --split (all but validation and test, where the file says which)",
    )
    group.add_argument(
        "--objects",
        type=Path,
        metavar="FILE",
        help="CHAIR: an object a line, synonyms separated by commas; one that a caption names and "
        "no reference does is made up",
    )
    group.add_argument(
        "--clip",
        metavar="MODEL",
        help="CLIPScore and RefCLIPScore, of the photos in --images: a folder of an open_clip "
        "model, or a joint model of mmattn",
    )
    group.add_argument(
        "--device",
        default="auto",
        help="of --clip: cpu, cuda, cuda:1, mps; a GPU if there is one (auto)",
    )


def add_chance(parser: ArgumentParser) -> None:
    """Add how intervals and p-values are drawn."""
    group = parser.add_argument_group("intervals and tests")
    group.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="INT",
        help="samples of the images (1000); 0 for no intervals",
    )
    group.add_argument(
        "--shuffles",
        type=int,
        default=10_000,
        metavar="INT",
        help="for p-values (10000); 0 for none",
    )
    group.add_argument("--seed", type=int, default=0, metavar="INT", help="of both (0)")


def add_outputs(parser: ArgumentParser) -> None:
    """Add where results go."""
    group = parser.add_argument_group("results")
    group.add_argument("--json", action="store_true", help="one JSON object on stdout")
    group.add_argument(
        "--per-image", type=Path, metavar="FILE", help="the scores of each image, as JSON lines"
    )
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="a page of all images, to sort by any score"
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="of photos, for --clip; they are put into the page, too",
    )
    group.add_argument(
        "--attention",
        type=Path,
        metavar="FOLDER",
        help="that `mmattn caption --attention` wrote: its pictures are on the page, or linked",
    )


def settings(arguments: Namespace) -> ScoreSettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    return ScoreSettings(**vars(arguments))


def main() -> None:
    """Score the captions."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        job = settings(arguments)
        job.check_places()
        from mmattn.cli.score_job import score

        failed = score(job)
    if failed:
        raise SystemExit(FAILED)
