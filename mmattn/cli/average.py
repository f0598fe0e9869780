"""`mmattn average SOURCE … --out MODEL`: the mean of several checkpoints' weights as one model.

SOURCES are checkpoints of runs, run directories (the best checkpoint of each, or with --last K the
K newest ones), and model folders, all of one architecture and tokenizer. The mean of the last
checkpoints of a run is often better than any of them; so is that of runs that went on from one
model. Runs from different seeds have no mean: give them to `mmattn caption` as several --model.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmattn.cli.places import check_folder
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError

if TYPE_CHECKING:
    from mmattn.bundle import Bundle, ClassifierBundle


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn average",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="see above")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MODEL", help="the model folder to write"
    )
    parser.add_argument(
        "--last", type=int, metavar="K", help="of every run directory, its K newest checkpoints"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="of the weights (as they are)"
    )
    parser.add_argument(
        "--allow-target", action="append", default=[], help="a package of your own in a run"
    )
    return parser


def main() -> None:
    """Average the checkpoints and write the folder."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        check_folder(arguments.out.parent, "--out")
        sources = named(arguments.sources, arguments.last)
        if len(sources) < 2:
            raise ConfigError(
                f"{sources[0]} alone is its own mean: name 2 checkpoints or more, or give --last 5 "
                "with a run directory"
            )
        from mmattn.model_folder.averaging import averaged
        from mmattn.model_folder.format import write_folder
        from mmattn.pipeline.load import known_dtype

        bundle = averaged(models(sources, arguments.allow_target))
        write_folder(bundle, arguments.out, dtype=known_dtype(arguments.dtype))
        count = sum(parameter.numel() for parameter in bundle.model.parameters())
        print(f"{arguments.out}: the mean of {len(sources)} checkpoints, {count / 1e6:.3g} M")
        print("\n".join(f"  {source}" for source in sources))


def named(sources: Sequence[Path], last: int | None) -> list[Path]:
    """Return the checkpoints and model folders that are meant, of a run the oldest first.

    Raises:
        ConfigError: for what does not exist, for a number of checkpoints that a run does not have,
            or where no run is.
    """
    paths = [source.expanduser() for source in sources]
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise ConfigError(
            f"{missing} does not exist: name checkpoints, run directories or model folders"
        )
    if last is None:
        return paths
    if last < 1:
        raise ConfigError(f"--last {last}: give 1 or more")
    runs = [path for path in paths if (path / "checkpoints").is_dir()]
    if not runs:
        raise ConfigError(f"--last {last}: none of {', '.join(map(str, paths))} is a run directory")
    return [one for path in paths for one in (newest(path, last) if path in runs else [path])]


def newest(run: Path, count: int) -> list[Path]:
    """Return a run's newest checkpoints, the oldest first. Raises ConfigError for too few."""
    from mmattn.training.checkpoints.files import checkpoints_in

    found = checkpoints_in(run / "checkpoints")
    if len(found) < count:
        raise ConfigError(
            f"{run} has {len(found)} checkpoints, and --last {count} wants more: train with "
            f"callbacks.checkpoint.keep_last={count}"
        )
    return found[count - 1 :: -1]


def models(
    sources: Sequence[Path], allowed: Sequence[str]
) -> Iterator[tuple[str, "Bundle | ClassifierBundle"]]:
    """Yield the model of each source when it is asked for: one at a time is in memory."""
    from mmattn.cli.import_model import read

    for source in sources:
        yield str(source), read(source, allowed)[0]
