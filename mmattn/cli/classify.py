"""`mmattn classify IMAGES --text "is it a dog?" --model MODEL`: classes, one JSON line an input.

IMAGES are files, folders (with all below them), patterns such as 'photos/**/*.jpg', and "-" for a
list on stdin. A model that reads texts takes them from --text and --texts; one that reads both gets
those at the same place together, or a single one, of images or texts, with all of the others. A
line has "image", "text", and the most probable classes with their probabilities: "label",
"probability" and "top", in "heads" by their names where there are several; or "error" where a file
is no readable image. With --passes, or with several models, it has their "uncertainty" in nats:
"total", "aleatoric" (each of them is unsure) and "epistemic" (they disagree). With --out the lines
go to a file: what it already has is not classified again, so the same command goes on where it was
stopped, and `torchrun --standalone --nproc-per-node=N -m mmattn classify …` shares the work among N
processes.

A joint model has no classes of its own: `mmattn classify photos/ --labels "cat,dog" --model MODEL`
tells which of these labels fits each image, by their embeddings.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter

from mmattn.cli.job_flags import (
    MODEL,
    UNREADABLE,
    add_attention_flags,
    add_job_flags,
    attention_flags,
    job_flags,
    job_may_write,
)
from mmattn.cli.job_settings import ClassifySettings
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError

EPILOG = """exit codes: 0 every input has its classes, 1 a failure of the program, 2 a mistake in
the input (nothing was classified, or what was is in --out), 3 some images could not be read (their
lines say why), 130 stopped by Ctrl-C, 141 nobody reads stdout any more; torchrun itself ends with 1
where this is not 0"""


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn classify",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("images", nargs="*", help="files, folders, patterns; - reads stdin")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument(
        "--text", action="append", default=[], help="a text; may be given several times"
    )
    texts.add_argument(
        "--texts",
        metavar="FILE",
        help='one text a line; or .jsonl with "text", and "image" (a path, or a list of them) '
        "where each has its own; - reads stdin",
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut texts that are longer than the model reads"
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="INT", help="so many classes of each head (5)"
    )
    parser.add_argument(
        "--head", action="append", default=[], help="that is told (all); several times"
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        help=f"{MODEL}; several of the same classes are an ensemble",
    )
    add_certainty_flags(parser)
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--labels",
        metavar="TEXT",
        help='of a joint model: what images are told apart by, such as "cat,dog"',
    )
    labels.add_argument("--labels-file", metavar="FILE", help="one label a line")
    parser.add_argument(
        "--template",
        action="append",
        default=[],
        metavar="TEXT",
        help='a text with a label\'s place, such as "a photo of a {}"; several times',
    )
    add_job_flags(parser)
    add_attention_flags(parser, "of a page for each input: what argued for each of --top classes")
    return parser


def add_certainty_flags(parser: ArgumentParser) -> None:
    """Add the flags of how sure an answer is, and has to be."""
    parser.add_argument(
        "--passes",
        type=int,
        default=0,
        metavar="INT",
        help="tell the mean of so many passes with dropout on, and how unsure they are",
    )
    parser.add_argument("--seed", type=int, metavar="INT", help="of what --passes drop (0)")
    parser.add_argument(
        "--at-least",
        type=float,
        default=0.0,
        metavar="P",
        help='answer only when sure: "label" is null where the probability is below P',
    )


def settings(arguments: Namespace) -> ClassifySettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    first, *others = arguments.model
    return ClassifySettings(
        **job_flags(arguments),
        **attention_flags(arguments),
        model=first,
        others=tuple(others),
        text=tuple(arguments.text),
        texts=arguments.texts,
        top=arguments.top,
        heads=tuple(arguments.head),
        truncate=arguments.truncate,
        passes=arguments.passes,
        seed=arguments.seed,
        at_least=arguments.at_least,
        labels=() if arguments.labels is None else split_labels(arguments.labels),
        labels_file=arguments.labels_file,
        templates=tuple(arguments.template),
    )


def split_labels(typed: str) -> tuple[str, ...]:
    """Return the labels between commas. Raises ConfigError where there is none."""
    labels = tuple(label.strip() for label in typed.split(",") if label.strip())
    if not labels:
        raise ConfigError(f'--labels {typed!r} names no label: give some, such as "cat,dog"')
    return labels


def main() -> None:
    """Classify the inputs."""
    arguments = parser().parse_intermixed_args()
    with mistakes_in_one_line():
        job = settings(arguments)
        job_may_write(job)
        from mmattn.cli.classify_job import ClassifyWork
        from mmattn.cli.jsonl_job import run_job
        from mmattn.cli.zero_shot_job import ZeroShotWork

        unreadable = run_job(job, ZeroShotWork(job) if job.zero_shot else ClassifyWork(job))
    if unreadable:
        raise SystemExit(UNREADABLE)
