"""Captioned images in shards, ours or WebDataset's, here or at a URL."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmattn.data.captioned import check_one_split, cleaned, hold_out
from mmattn.data.dataset import Splits
from mmattn.data.findings import some
from mmattn.data.labelled.division import check_shares
from mmattn.data.labelled.split_files import files_by_split
from mmattn.data.problems import Gathered, Problems
from mmattn.data.shards.index import ShardIndex, checksum, how_to_index, index_name, read_index
from mmattn.data.shards.own_json import read_own
from mmattn.data.shards.patterns import shard_names
from mmattn.data.shards.shard_set import PlacedSample, ShardSet
from mmattn.data.shards.storage import Storage, storage
from mmattn.errors import ConfigError, DataError, ReadError

FORMAT = 1
DATASET = "dataset.json"
REMEDY = "Pack the data again."
THREADS = 16  # requests at a time while indexes are read


class Shards:
    """The `CaptionSource` of tar files in WebDataset's layout, each with its index beside it.

    Only indexes are read beforehand (see `mmattn.data.shards.index`); an image is one read at its
    place in the shard. Nothing is unpacked, unpickled, or run.

    Args:
        root: a folder, or a URL that fsspec reads (s3://bucket/path, https://…).
        splits: split ("train", "val", "test", "test_NAME") -> its shards below `root`: a pattern
            (see `shard_names`) or a list of them. None: `mmattn pack` wrote down which they are.
        val_fraction: the share of the training images held out where there is no "val".
        seed: of what is held out.
        lower_case: write captions small.
        open_files: how many shards each reading process keeps open.
        verify: compare the SHA-256 sum of each shard with that in its index: reads everything.

    Raises:
        ConfigError: for a split that is none, and a root that nothing reads.
    """

    def __init__(
        self,
        root: str | Path,
        splits: Mapping[str, Any] | None = None,
        val_fraction: float = 0.02,
        seed: int = 0,
        lower_case: bool = False,
        open_files: int = 16,
        verify: bool = False,
    ):
        check_shares({"val_fraction": val_fraction})
        self.patterns = None if splits is None else files_by_split(splits, "splits")
        self.storage = storage(root, open_files)
        self.val_fraction, self.seed = val_fraction, seed
        self.lower_case, self.verify = lower_case, verify

    def splits(self) -> Splits:
        """Read all indexes.

        Raises:
            ReadError: where storage failed.
            DataError: names everything that is wrong: shards that are missing, that have no index,
                or that changed after it was written; a key that comes twice in a set, or in two.
        """
        notes: list[str] = []
        gathered = Gathered()
        parts: dict[str, Sequence[PlacedSample]] = {
            split: self._read(split, names, gathered, notes)
            for split, names in self._shards().items()
        }
        with gathered.step():
            placed = {split: _placed(samples) for split, samples in parts.items()}
            check_one_split(placed, self.storage.root)
        with gathered.step():
            if parts["train"]:
                shares = {"val": self.val_fraction}
                parts = hold_out(parts, shares, self.seed, notes, lambda sample: sample.key)
        parts = {"train": (), "val": (), **parts}
        sets = {split: ShardSet(self.storage, tuple(rows)) for split, rows in parts.items()}
        tests = {s.removeprefix("test").removeprefix("/"): sets[s] for s in sets if s[:4] == "test"}
        if not tests:
            notes.append("There is no test set: nothing is tested after training")
        splits = Splits(sets["train"], sets["val"], tests, tuple(notes))
        gathered.raise_if_any(splits)
        return splits

    def _shards(self) -> dict[str, list[str]]:
        """Return split -> the names of its shards."""
        if self.patterns is not None:
            return {k: shard_names(self.storage, names) for k, names in self.patterns.items()}
        return read_dataset(self.storage)

    def _read(
        self, split: str, names: Sequence[str], gathered: Gathered, notes: list[str]
    ) -> list[PlacedSample]:
        """Return the samples of a split, in the order of its shards."""
        problems = Problems(f"{self.storage.root} (split {split})")
        with ThreadPoolExecutor(THREADS) as pool:
            read = list(pool.map(self._index, names))
        found: list[PlacedSample] = []
        wordless: list[str] = []
        for name, index in zip(names, read, strict=True):
            if isinstance(index, DataError):
                problems.note(str(index))
                continue
            for sample in index.samples:
                place = f"{name}:{sample.member}"
                captions = self._captions(sample.captions, place, problems)
                if captions:
                    where = sample.member, sample.offset, sample.size, index.sha256
                    found.append(PlacedSample(sample.key_in(name), captions, name, *where))
                else:
                    wordless.append(place)
        if wordless:
            notes.append(f"Split {split}: images without a caption, left out: {some(wordless)}")
        with gathered.step():
            problems.raise_if_any("Pack these shards anew, or leave them out.")
            if not found:
                raise DataError(f"{self.storage.root}: split {split} has no image with a caption")
        return found

    def _index(self, shard: str) -> ShardIndex | DataError:
        """Return a shard's index, or what keeps the shard from being used."""
        whole = f"{self.storage.root}/{shard}"
        try:
            index_file = index_name(shard)
            size = self.storage.size(shard)
            try:
                data = self.storage.read(index_file)
            except ReadError:
                raise
            except DataError as error:
                raise DataError(f"{error} Write it: {how_to_index(whole)}") from error
            index = read_index(data, f"{self.storage.root}/{index_file}")
            self._check_same(shard, size, index, whole)
        except ReadError:  # of all shards, and not of this one
            raise
        except DataError as error:
            return error
        return index

    def _check_same(self, shard: str, size: int, index: ShardIndex, whole: str) -> None:
        """Raise `DataError` where a shard, which messages call `whole`, is not as indexed."""
        remedy = f"copy it again, or write its index anew: {how_to_index(whole)}"
        if size != index.size:
            raise DataError(
                f"{whole} has {size:,} bytes and had {index.size:,} when its "
                f"index was written: {remedy}"
            )
        if self.verify:
            with self.storage.open(shard) as file:
                found, _ = checksum(file)
            if found != index.sha256:
                raise DataError(
                    f"{whole} has the SHA-256 sum {found} and had "
                    f"{index.sha256} when its index was written: {remedy}"
                )

    def _captions(self, texts: tuple[str, ...], place: str, problems: Problems) -> tuple[str, ...]:
        try:
            return cleaned(texts, lower_case=self.lower_case)
        except DataError as error:
            problems.note(f"{place}: {error}")
            return ()


def _placed(samples: Sequence[PlacedSample]) -> Iterator[tuple[str, str]]:
    """Yield (key, place) of each sample; lists of them would be large."""
    return ((sample.key, f"{sample.shard}:{sample.member}") for sample in samples)


def read_dataset(storage: Storage) -> dict[str, list[str]]:
    """Return split -> shards, as `mmattn pack` wrote them down. Raises `DataError`."""
    where = f"{storage.root}/{DATASET}"
    try:
        data = storage.read(DATASET)
    except ReadError:
        raise
    except DataError as error:
        raise DataError(
            f"{error} mmattn pack writes it when it is done; for other shards say which belong to "
            "a split: 'data.source.splits={train: train/*.tar, val: val/*.tar}'"
        ) from error
    value = read_own(data, where, {"splits": (dict,)}, FORMAT, REMEDY)
    names = [name for names in value["splits"].values() for name in _listed(names)]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: 'splits' must give each split a list of names. {REMEDY}")
    try:
        return files_by_split(value["splits"], f"{DATASET}: splits")
    except ConfigError as error:
        raise DataError(f"{where}: {error}. {REMEDY}") from None


def _listed(names: Any) -> list[Any]:
    return names if isinstance(names, list) else [None]
