"""Photos a second from file to batch, against the usual torchvision + PIL + DataLoader code.

    MMATTN_DATA=/path/to/data uv run python benchmarks/data.py
    MMATTN_DATA=/path/to/data uv run python benchmarks/data.py --workers 2 --photos 4000
    MMATTN_DATA=/path/to/data uv run python benchmarks/data.py --size 375 500

Both sides read Flickr8k's training photos, cut out and resize a random part, flip every other one,
normalise and stack to batches of 32, with as many threads and worker processes. Ours is the loader
of a training run, which does more: it draws a caption of each photo, turns it into tokens, and
makes every draw a function of seed, epoch and photo. The sides take turns, photo set by photo set;
medians. Times are of the whole loop, or with --cpu of this process's work alone, which other
programs on the machine disturb less. Where the photos at hand were made small beforehand, --size
writes them anew, as JPEGs as large as the data set's own are.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from mmattn.cli import schema
from mmattn.data.augment import SampleReader
from mmattn.data.dataset import Splits
from mmattn.data.flickr import Flickr8k, Photos
from mmattn.data.order import stable_hash
from mmattn.data.shards.pack import pack
from mmattn.data.shards.source import Shards
from mmattn.training.allocator import keep_freed_memory

BATCH = 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Epoch = Callable[[], Iterator[Any]]


class Usual(Dataset):
    """What `torchvision.datasets.ImageFolder` does for a photo; its number stands for a label."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(224, scale=(0.6, 1.0)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(default_loader(str(self.paths[index]))), index


class Unkeyed(SampleReader):
    """Our reader without what makes a run exactly resumable: draws follow each other."""

    def __getitems__(self, items: list[Any]) -> Any:
        """Return the samples of a batch."""
        samples = [self.sample(0, index, lambda key: None) for index in items]
        return self._finished(samples)


def build(train: Photos, workers: int, *changes: str) -> Any:
    """Return the data module of Flickr8k with these photos to train on."""
    options = ["data=flickr8k", f"data.loader.num_workers={workers}", *changes]
    options += [f"data.loader.batch_size={BATCH}", "data.loader.captions_per_image=1"]
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", [*options, f"data.root={flickr8k()}", "paths.output_dir=unused"])
    data = instantiate(config.data, _convert_="all")
    data.read()
    data._splits = replace(data.splits, train=train)
    return data


def flickr8k() -> Path:
    """Return the folder of Flickr8k."""
    return Path(os.environ["MMATTN_DATA"], "flickr8k")


def first(dataset: Any, photos: int) -> Photos:
    """Return the first photos of a set."""
    return replace(dataset, names=dataset.names[:photos], texts=dataset.texts[:photos])


def written(train: Photos, size: tuple[int, int], folder: Path) -> Photos:
    """Write photos of this height and width to a folder, and return them."""
    for index, name in enumerate(train.names):
        with Image.open(train.path(index)) as photo:
            photo.convert("RGB").resize((size[1], size[0]), Image.Resampling.BICUBIC).save(
                folder / name, "JPEG", quality=90
            )
    return replace(train, folder=folder)


def usual(paths: list[Path], workers: int) -> Epoch:
    """Return the usual code's epochs."""
    options = {"batch_size": BATCH, "shuffle": True, "drop_last": True, "num_workers": workers}
    loader = DataLoader(Usual(paths), persistent_workers=workers > 0, **options)
    return lambda: iter(loader)


def ours(data: Any) -> Epoch:
    """Return the epochs of a training run's loader, past the first, which tokenizes captions."""
    for captions in data.splits.train.texts if isinstance(data.splits.train, Photos) else ():
        for caption in captions:
            data.encode(caption)
    loader = data.train_dataloader()
    return lambda: iter(loader)


def unkeyed(data: Any) -> Epoch:
    """Return the epochs of the same reading in torch's own random order and from its stream."""
    reader = Unkeyed(data.splits.train, data.train_transform, 0, captions_per_image=1)
    loader = DataLoader(
        reader, batch_size=BATCH, shuffle=True, drop_last=True, collate_fn=data.collate
    )
    return lambda: iter(loader)


def seeded(epoch: Epoch) -> Epoch:
    """Return epochs with a seed for each step, as `callbacks/step_seed` sets it."""

    def steps() -> Iterator[Any]:
        for number, batch in enumerate(epoch()):
            torch.manual_seed(stable_hash(0, 0, number, 0, "step"))
            yield batch

    return steps


def shards(train: Photos, workers: int, folder: str) -> Epoch:
    """Return the epochs of the same photos from tar shards, which are written first."""
    data = build(train, workers)
    pack(Splits(data.splits.train, first(data.splits.val, BATCH), {}), folder)
    data._splits = Shards(folder).splits()
    return ours(data)


def measure(sides: dict[str, Epoch], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return each side's median seconds for an epoch, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, epoch in sides.items():
            start = clock()
            for _ in epoch():
                pass
            if repeat:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="this process's CPU time (no workers)")
    parser.add_argument("--size", type=int, nargs=2, help="height and width to write photos in")
    arguments = parser.parse_args()
    if "MMATTN_DATA" not in os.environ:
        raise SystemExit("set MMATTN_DATA to the folder that holds flickr8k/")
    if arguments.cpu and arguments.workers:
        parser.error("--cpu counts this process alone: use it with --workers 0")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a run does; the usual code gains from it too
    schema.register()
    photos, workers = arguments.photos // BATCH * BATCH, arguments.workers
    with tempfile.TemporaryDirectory() as folder:
        cache, packed, large = (Path(folder, name) for name in ("cache", "packed", "large"))
        train = first(Flickr8k(flickr8k()).splits().train, photos)
        if arguments.size:
            large.mkdir()
            train = written(train, arguments.size, large)
        files = build(train, workers)
        sides = {
            "torchvision + PIL": usual([train.path(i) for i in range(photos)], workers),
            "mmattn, files": ours(files),
            "mmattn, image cache": ours(build(train, workers, f"data.image_cache={cache}")),
            "mmattn, shards": shards(train, workers, str(packed)),
        }
        if not workers:  # one process, so that nothing but the keys differs
            sides["mmattn, files, seeded steps"] = seeded(sides["mmattn, files"])
            sides["mmattn, files, no keys"] = unkeyed(files)
        clock = time.process_time if arguments.cpu else time.perf_counter
        seconds = measure(sides, arguments.repeats, clock)
    report(seconds, photos, arguments)


def report(seconds: dict[str, float], photos: int, arguments: argparse.Namespace) -> None:
    """Print photos a second, and the ratios that the README quotes."""
    kind = "CPU" if arguments.cpu else "wall-clock"
    print(
        f"{photos} photos in batches of {BATCH}, {arguments.threads} thread(s), "
        f"{arguments.workers} workers, median of {arguments.repeats} epochs, {kind} time"
    )
    base = seconds["torchvision + PIL"]
    for name, value in seconds.items():
        print(f"{name:28} {photos / value:8.0f} photos/s   {base / value:5.2f} x torchvision")
    plain = seconds["mmattn, files"]
    print(f"shards against loose files: {plain / seconds['mmattn, shards']:.2f} x")
    if "mmattn, files, no keys" in seconds:
        keyed = seconds["mmattn, files, seeded steps"] / seconds["mmattn, files, no keys"] - 1
        print(f"exact resume (keyed order, draws and steps) costs {keyed:+.1%}")


if __name__ == "__main__":
    main()
