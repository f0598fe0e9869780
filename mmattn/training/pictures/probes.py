"""Which images are drawn again and again while a model learns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmattn.data.dataset import CaptionDataset, GroundedDataset, Splits
from mmattn.data.folder import ImageFolder
from mmattn.errors import ConfigError

SEARCHED = 50  # that are asked for a region, for each that is wanted
D = TypeVar("D")
OWN = "own"  # the name of a probe of the user's own images


@dataclass(frozen=True)
class Probe:
    """Some images of one set: `name` is its place in folders and logs, "" for the usual one."""

    name: str
    dataset: CaptionDataset
    indices: tuple[int, ...]


@dataclass(frozen=True)
class Probes:
    """How the images are chosen: the same ones every time.

    Attributes:
        split: the set they are from: "train", "val", "test" or "test/<name>".
        size: how many, spread evenly over the set; where regions are known, of images with some.
        keys: names of the images to draw instead, as the data set calls them.
        folder: a folder of the user's own images, of which `size` are drawn besides.
    """

    split: str = "val"
    size: int = 4
    keys: Sequence[str] | None = None
    folder: str | None = None

    def choose(self, splits: Splits) -> list[Probe]:
        """Return the chosen images. Raises ConfigError for a set or a key that does not exist."""
        if self.size < 1 or self.keys == []:
            raise ConfigError(
                f"probes.size={self.size}, keys={self.keys}: choose at least one image"
            )
        dataset = split_named(splits.train, splits.val, splits.test, self.split)
        if self.keys is None:
            indices = spread_over(dataset, self.size)
        else:
            indices = indices_of(dataset, self.keys, self.split)
        name = "" if self.split == "val" else self.split
        chosen = [Probe(name, dataset, tuple(indices))]
        if self.folder is not None:
            own = ImageFolder(self.folder)
            chosen.append(Probe(OWN, own, tuple(spread(range(len(own)), self.size))))
        return chosen


def split_named(train: D, val: D, test: Mapping[str, D], name: str) -> D:
    """Return a set by its name. Raises ConfigError with those that exist."""
    tests = {f"test/{each}".rstrip("/"): dataset for each, dataset in test.items()}
    sets = {"train": train, "val": val, **tests}
    if name not in sets:
        raise ConfigError(f"no set is called {name!r}; there are: {', '.join(sets)}")
    return sets[name]


def indices_of(dataset: CaptionDataset, keys: Sequence[str], split: str) -> list[int]:
    """Return where the images of these names are. Raises ConfigError for an unknown one."""
    places = {dataset.key(index): index for index in range(len(dataset))}
    unknown = [key for key in keys if key not in places]
    if unknown:
        raise ConfigError(
            f"{split} has no image {unknown[0]!r}; its {len(places)} images are called like "
            f"{', '.join(list(places)[:3])}"
        )
    return [places[key] for key in keys]


def spread_over(dataset: CaptionDataset, count: int) -> list[int]:
    """Return `count` indices, evenly spaced, of images with regions where there are some.

    A reader can check the maps of those.
    """
    candidates: Sequence[int] = range(len(dataset))
    if isinstance(dataset, GroundedDataset):
        asked = spread(candidates, SEARCHED * count)
        candidates = [i for i in asked if dataset.regions(i)] or candidates
    return spread(candidates, count)


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of the items, evenly spaced."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]
