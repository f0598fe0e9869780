"""All that can be told of a data set before training: problems, lengths, sizes, leaks."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mmattn.data.dataset import by_split
from mmattn.data.findings import LEAKED, REPEATED, SHARED
from mmattn.data.flickr import Photos
from mmattn.data.images import image_header
from mmattn.data.label_module import texts_of, with_classes
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import PartlyReadError, problems_of
from mmattn.data.shards.content import InShards, OnDisk, stored
from mmattn.data.split_module import SplitDataModule
from mmattn.data.unreadable import unreadable
from mmattn.errors import DataError

HEAD = 1 << 16  # bytes of a file by which it is told from others where it is not decoded
WINDOW = 256  # images in flight for each thread


@dataclass(frozen=True)
class Lengths:
    """How long texts are, in tokens, end token included: median, 95th percentile, longest."""

    p50: int
    p95: int
    longest: int


@dataclass
class SetReport:
    """What one set holds; sizes are (height, width) of the images with fewest and most pixels."""

    images: int
    texts: int
    lengths: Lengths | None = None
    smallest: tuple[int, int] | None = None
    largest: tuple[int, int] | None = None


@dataclass
class DataReport:
    """What was found; with a problem the data set is not fit for training.

    `unlisted` is how many problems there are beside those in `problems`.
    """

    sets: dict[str, SetReport] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    unlisted: int = 0
    notes: list[str] = field(default_factory=list)
    leaks: list[list[str]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)

    def add(self, error: DataError) -> None:
        """Add the problems that an error tells of."""
        self.problems += problems_of(error)
        self.unlisted += error.unlisted

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def check_data(data: SplitDataModule, *, decode: bool = True, threads: int = 1) -> DataReport:
    """Read a data set, go through all its images and texts, and return what was found.

    Where only a part can be read, that part is checked.

    Args:
        data: the data module of a configuration.
        decode: decode every image; two are the same if their pixels are. Otherwise only headers are
            read, and two files are the same if their sizes and their first 64 KiB are.
        threads: how many images are read at a time.
    """
    report = DataReport()
    try:
        splits = data.source.splits()
    except DataError as error:
        report.add(error)
        splits = error.splits if isinstance(error, PartlyReadError) else None
    if splits is None:
        return report
    if isinstance(splits, LabelledSplits) and not report.problems:
        splits = _with_classes(splits, report)
    # Images that are there twice are found, and told, below: all of them, by their pixels.
    again = LEAKED, REPEATED, SHARED
    report.notes += [note for note in splits.notes if not note.startswith(again)]
    sets = by_split(splits)
    report.sets = {split: SetReport(len(each), len(_texts(each))) for split, each in sets.items()}
    _check_lengths(data, sets, report)
    _check_images(sets, report, decode=decode, threads=threads)
    return report


def _with_classes(splits: LabelledSplits, report: DataReport) -> LabelledSplits:
    """Return the sets as training has them; add what keeps it from finding the classes."""
    try:
        return with_classes(splits)[0]
    except DataError as error:
        report.add(error)
        return splits


def _texts(dataset: Any) -> list[tuple[str, list[str]]]:
    """Return (where it is, its parts) of every text: a caption, or the words of an example."""
    if isinstance(dataset, LabelledSet):
        return [(e.where, texts_of(e)) for e in dataset.examples if e.text is not None]
    pairs = ((dataset.key(i), dataset.captions(i)) for i in range(len(dataset)))
    return [(key, [text]) for key, texts in pairs for text in texts]


def _check_lengths(data: SplitDataModule, sets: Mapping[str, Any], report: DataReport) -> None:
    """Add how long texts are by the tokenizer that training would have, and those that are cut."""
    texts = {split: _texts(dataset) for split, dataset in sets.items()}
    training = [part for _, parts in texts["train"] for part in parts]
    if not training:
        return
    tokenizer = data.make_tokenizer(training)
    for split, found in texts.items():
        if not found:
            continue
        ends = 2 if isinstance(sets[split], LabelledSet) else 1
        counts = [sum(len(tokenizer.encode(part)) for part in parts) + ends for _, parts in found]
        p50, p95 = np.percentile(counts, [50, 95], method="inverted_cdf")
        report.sets[split].lengths = Lengths(int(p50), int(p95), max(counts))
        over = [i for i, count in enumerate(counts) if count > data.max_length]
        if over:
            told = f"{split}: {len(over):,} of {len(counts):,} texts are longer than max_length="
            told += f"{data.max_length} tokens, first that of {found[over[0]][0]}"
            (report.notes if data.truncate else report.problems).append(
                f"{told}; they are cut"
                if data.truncate
                else f"{told}; data.truncate=true cuts them"
            )


@dataclass(frozen=True)
class _Look:
    """What was seen of an image: what tells it from others, its size, or what is wrong."""

    content: bytes = b""
    size: tuple[int, int] = (0, 0)
    fault: str | None = None


def _check_images(
    sets: Mapping[str, Any], report: DataReport, *, decode: bool, threads: int
) -> None:
    """Add unreadable images, sizes, and images that are the same."""
    same: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    files = True
    for split, dataset in sets.items():
        images, sizes = _images(dataset), []
        files = files and _are_files(images)
        for index, look in enumerate(_looks(images, decode, threads)):
            key = images.key(index)
            if look.fault is not None:
                report.problems.append(f"{split}: {key}: {look.fault}")
            else:
                sizes.append(look.size)
                same[look.content].append((split, key))
        if sizes:
            area = {size: size[0] * size[1] for size in sizes}
            report.sets[split].smallest = min(area, key=lambda size: area[size])
            report.sets[split].largest = max(area, key=lambda size: area[size])
    for places in (places for places in same.values() if len(places) > 1):
        leaks = len({split.partition("/")[0] for split, _ in places}) > 1
        told = [f"{split}: {key}" for split, key in places]
        (report.leaks if leaks else report.duplicates).append(told)
    # Pictures that are drawn may look alike (letters of two alphabets) and nobody can mend it.
    told = [f"the same image in different splits: {' = '.join(each)}" for each in report.leaks]
    (report.problems if files else report.notes).extend(told)


def _are_files(images: Any) -> bool:
    """Return whether the images of a set are stored, and not drawn."""
    return isinstance(images, (OnDisk, InShards))


def _images(dataset: Any) -> Any:
    """Return the images of a set, each once, by their index; with their files if they have any."""
    if not isinstance(dataset, LabelledSet):
        return dataset
    pictures = dataset.pictures
    if isinstance(dataset.store, FolderStore):
        return Photos(dataset.store.root, pictures.names, ((),) * len(pictures))
    return pictures


def _looks(images: Any, decode: bool, threads: int) -> Iterator[_Look]:
    """Yield what is seen of every image, in order, some of them at a time."""

    def look(index: int) -> _Look:
        try:
            return _decoded(images, index) if decode else _header(images, index)
        except DataError as error:
            return _Look(fault=str(error))

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(images), WINDOW * threads):
            yield from pool.map(look, range(start, min(start + WINDOW * threads, len(images))))


def _decoded(images: Any, index: int) -> _Look:
    pixels = images.image(index).permute(1, 2, 0).contiguous().numpy()
    return _Look(_digest(repr(pixels.shape).encode(), pixels.data), pixels.shape[:2])


def _header(images: Any, index: int) -> _Look:
    if isinstance(images, OnDisk):
        path = images.path(index)
        _, height, width = image_header(path, str(path))
        try:
            with path.open("rb") as file:
                head, size = file.read(HEAD), path.stat().st_size
        except OSError as error:
            raise unreadable(str(path), error) from None
    else:
        data = stored(images, index)
        if data is None:
            return _decoded(images, index)
        _, height, width = image_header(data, images.key(index))
        head, size = data[:HEAD], len(data)
    return _Look(_digest(repr(size).encode(), head), (height, width))


def _digest(*parts: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def table(sets: Mapping[str, SetReport]) -> list[str]:
    """Return what each set holds, a line each."""
    lines = []
    for split, found in sets.items():
        line = f"{split}: {found.images:,} images, {found.texts:,} texts"
        if found.lengths is not None:
            n = found.lengths
            line += f", tokens p50 {n.p50}, p95 {n.p95}, longest {n.longest}"
        if found.smallest is not None and found.largest is not None:
            (h, w), (height, width) = found.smallest, found.largest
            line += f", {h} x {w} to {height} x {width} pixels"
        lines.append(line)
    return lines
