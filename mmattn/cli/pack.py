"""`mmattn pack`: captioned images as tar shards with an index, for storage that likes large files.

  mmattn pack data=coco data.root=/path/to/coco --out /path/to/packed
  mmattn train data=shards data.root=/path/to/packed
  mmattn pack --index /path/to/webdataset      for shards that another program wrote

The same data give the same bytes. A command that was stopped goes on when it is typed again.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.data_config import add_overrides, build_data
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.data.urls import without_credentials
from mmattn.errors import ConfigError, DataError

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def main() -> None:
    """Pack the data that the arguments choose, or index shards that are there."""
    parser = ArgumentParser(
        "mmattn pack", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    add_overrides(parser)
    parser.add_argument("--out", metavar="FOLDER", help="the folder to write, new or empty")
    parser.add_argument("--shard-size", default="256M", help="of a shard at most (default 256M)")
    parser.add_argument(
        "--index",
        nargs="+",
        metavar="SHARD",
        help="write the indexes of these shards, or of all in these folders, instead",
    )
    arguments = parser.parse_intermixed_args()
    with mistakes_in_one_line():
        if arguments.index is not None:
            if arguments.overrides or arguments.out is not None:
                raise ConfigError("--index takes shards and folders, and no other argument")
            index([local(place) for place in arguments.index])
        elif arguments.out is None:
            raise ConfigError("give the folder to write with --out, or shards with --index")
        else:
            size = bytes_of(arguments.shard_size)
            pack_data(arguments.overrides, arguments.config_dir, local(arguments.out), size)


def pack_data(
    overrides: Sequence[str], config_dir: Path | None, out: Path, shard_bytes: int
) -> None:
    """Write the data set that the overrides choose to shards, and say what training takes them."""
    data = build_data(overrides, config_dir)
    from mmattn.data.dataset import Splits
    from mmattn.data.shards.pack import pack

    splits = data.source.splits()
    if not isinstance(splits, Splits):
        raise ConfigError(
            f"{type(data.source).__name__} has labels, and shards hold images with captions only"
        )
    for note in splits.notes:
        print(f"note: {note}")
    packed = pack(splits, out, shard_bytes, done=print)
    images, shards = sum(packed.images.values()), sum(map(len, packed.shards.values()))
    print(f"{images:,} images in {shards:,} shards, {packed.size:,} bytes")
    print(f"to train on them: mmattn train data=shards data.root={out}")


def index(places: Sequence[Path]) -> None:
    """Write the index of every shard, and tell which shards cannot be used.

    Raises:
        DataError: with everything that is wrong with any of them.
    """
    from mmattn.data.problems import Gathered
    from mmattn.data.shards.pack import write_index

    gathered = Gathered()
    for place in places:
        shards = sorted(place.rglob("*.tar")) if place.is_dir() else [place]
        if not shards:
            raise DataError(f"{place} holds no .tar file")
        for shard in shards:
            with gathered.step():
                found = write_index(shard)
                print(f"{shard}: {len(found.samples):,} images")
    gathered.raise_if_any()


def local(place: str) -> Path:
    """Return a folder or file of this machine. Raises `ConfigError` for a URL."""
    if "://" in place:
        raise ConfigError(
            f"{without_credentials(place)}: mmattn pack reads and writes on this machine: give a "
            "folder here, and upload what is written"
        )
    return Path(place)


def bytes_of(text: str) -> int:
    """Return the number that `256M` means. Raises `ConfigError` for what is none."""
    digits, unit = text.rstrip("KMGkmg"), text[len(text.rstrip("KMGkmg")) :].upper()
    if not (digits.isascii() and digits.isdigit()) or len(unit) > 1 or not int(digits):
        raise ConfigError(f"--shard-size {text}: give a number with K, M or G, such as 256M")
    return int(digits) * UNITS.get(unit, 1)
