"""`mmattn retrieve "a dog on a beach" photos/ --model MODEL`: the images that fit a text best.

The first argument is the query, all others are IMAGES: files, folders (with all below them),
patterns such as 'photos/**/*.jpg', and "-" for a list on stdin. Queries may also come from --query
(several times), --queries FILE and --image FILE (find its like); then all arguments are IMAGES.
MODEL is a joint model: it embeds images and texts, and what is most similar is found, first of all.

Embeddings of images are kept in an index, in the cache folder of the user unless --index says
where: only new and changed files are computed when the command is run again, and when it was
stopped it goes on. With --index FILE and no IMAGES all that the index holds is searched. With
--texts FILE texts are searched in place of images.

On a terminal the result is a table, elsewhere, and with --json or --out FILE, one JSON line a
query: "text" or "image", and "found", best first, each with its "image" or "text", its "similarity"
from -1 to 1 and, with --rerank, "match": how probable it is that both belong together, as the
model's fusion sees it.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.job_flags import UNREADABLE, add_job_flags, add_model_flag, job_flags
from mmattn.cli.job_settings import RetrieveSettings
from mmattn.cli.plain_command import mistakes_in_one_line

EPILOG = """exit codes: 0 done, 1 a failure of the program, 2 a mistake in the input, 3 done, but
some images could not be read and are left out (stderr says which and why), 130 stopped by Ctrl-C,
141 nobody reads stdout any more"""


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn retrieve",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="QUERY IMAGES", help="see above")
    queries = parser.add_mutually_exclusive_group()
    queries.add_argument(
        "--query", action="append", default=[], metavar="TEXT", help="a text; several times"
    )
    queries.add_argument(
        "--queries", metavar="FILE", help='one text a line, or .jsonl with "text"; - reads stdin'
    )
    queries.add_argument(
        "--image", action="append", default=[], metavar="FILE", help="an image; several times"
    )
    parser.add_argument(
        "--texts", metavar="FILE", help="search these texts, one a line, in place of images"
    )
    parser.add_argument("--index", type=Path, metavar="FILE", help="of the embeddings of IMAGES")
    parser.add_argument(
        "--top", type=int, default=5, metavar="INT", help="so many for each query (5)"
    )
    parser.add_argument(
        "--rerank",
        type=int,
        default=0,
        metavar="INT",
        help="so many of the most similar are sorted by the model's fusion, which looks at them "
        "together with the query (0)",
    )
    parser.add_argument(
        "--truncate", action="store_true", help="cut texts that are longer than the model reads"
    )
    parser.add_argument("--json", action="store_true", help="JSON lines also on a terminal")
    add_model_flag(parser)
    add_job_flags(parser, retry=False)
    return parser


def settings(arguments: Namespace) -> RetrieveSettings:
    """Return what the command line asks for. Raises ConfigError where that cannot be."""
    elsewhere = bool(arguments.query or arguments.queries or arguments.image)
    typed = 0 if elsewhere else 1  # how many arguments are the query
    arguments.images = arguments.words[typed:]
    return RetrieveSettings(
        **job_flags(arguments),
        model=arguments.model,
        typed=tuple(arguments.words[:typed]),
        query=tuple(arguments.query),
        queries=arguments.queries,
        like=tuple(arguments.image),
        texts=arguments.texts,
        index=arguments.index,
        top=arguments.top,
        rerank=arguments.rerank,
        truncate=arguments.truncate,
        json=arguments.json,
    )


def main() -> None:
    """Find what is asked for."""
    arguments = parser().parse_intermixed_args()
    with mistakes_in_one_line():
        job = settings(arguments)
        job.check_places()
        from mmattn.cli.retrieve_job import retrieve

        unreadable = retrieve(job)
    if unreadable:
        raise SystemExit(UNREADABLE)
