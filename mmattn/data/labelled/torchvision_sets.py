"""The classification sets of torchvision, by name."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from mmattn.data.findings import listing, nearest
from mmattn.data.images import inside, rgb_tensor
from mmattn.data.labelled.division import check_shares, divide, held_out_note
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.layout import absolute
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.torchvision_recipes import RECIPES, Recipe
from mmattn.errors import ConfigError, DataError, one_line

NO_CLASS = "N/A"  # EMNIST's letters count from 1, and so name the class 0


@dataclass(frozen=True)
class TorchvisionStore:
    """Images of torchvision's sets, named "train/00017": the set, and the number in it."""

    sets: Mapping[str, Any]

    def image(self, name: str) -> Tensor:
        """Return an image as uint8 RGB [3, height, width]. Raises `DataError` if unreadable."""
        split, _, number = name.partition("/")
        try:
            picture = self.sets[split][int(number)][0]
        # Pillow's decoders raise almost any type for hostile bytes, and these sets pass it on.
        except Exception as error:
            raise DataError(
                f"{name} cannot be decoded: {one_line(error)}. Unpack the archive again."
            ) from error
        return rgb_tensor(picture, name)


class TorchvisionSet:
    """The `LabelledSource` that reads a classification set of torchvision.

    The sets are those of `RECIPES`, with their official splits. Where there is none for validation,
    it is held out of the training set; EuroSAT, Caltech101 and SUN397 have no splits at all.

    CIFAR10 and CIFAR100 are distributed as pickles, which could run code as they are opened. They
    are opened only if the MD5 sum of every file is the one that torchvision lists for it, so
    nothing but the authors' files is unpickled. No other set on the list is read by unpickling.

    Args:
        root: the folder that torchvision calls root.
        name: the class in `torchvision.datasets`.
        download: let torchvision get what is missing. With several processes, do it once before
            with one: each of them would download.
        head: what the head is called.
        val_fraction: the share of the training images of every class held out for validation.
        test_fraction: the share held out for the test where there are no splits.
        seed: of what is held out.
        options: further arguments of the class, such as {"split": "letters"} for EMNIST.

    Raises:
        ConfigError: for a name or option that is not on the list, and for shares that leave nothing
            for training.
    """

    def __init__(
        self,
        root: str | Path,
        name: str,
        download: bool = False,
        head: str = "label",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
    ):
        self.options = dict(options or {})
        _check_options(name, self.options)
        self.shares = {"val": val_fraction, "test": test_fraction}
        check_shares({f"{split}_fraction": share for split, share in self.shares.items()})
        self.root, self.name, self.download = absolute(root), name, download
        self.head, self.seed = head, seed

    def splits(self) -> LabelledSplits:
        """Make the sets and read their labels; of image files, check the headers.

        Raises:
            DataError: where the data are absent, damaged, or have another MD5 sum.
            ConfigError: for an option's value that torchvision refuses.
        """
        self._check_ready()
        sets = {split: self._make(split) for split in self.recipe.splits}
        for dataset in sets.values():
            self._check_files(dataset)
        parts = {split: self._examples(split, dataset) for split, dataset in sets.items()}
        classes = self.recipe.classes(next(iter(sets.values())))
        heads = {self.head: HeadSpec("single", tuple(c for c in classes if c != NO_CLASS))}
        divided, notes = self._with_held_out(parts)
        made = {
            split: LabelledSet(rows, TorchvisionStore({name: sets[name] for name in _used(rows)}))
            for split, rows in divided.items()
        }
        tests = {"": made["test"]} if "test" in made else {}
        return LabelledSplits(made["train"], made["val"], tests, heads, notes)

    @property
    def recipe(self) -> Recipe:
        """How this set is made and read."""
        return RECIPES[self.name]

    def _check_ready(self) -> None:
        """Raise unless what the set is read with, and the set, is there."""
        recipe = self.recipe
        if recipe.needs_scipy and importlib.util.find_spec("scipy") is None:
            raise ConfigError(f"torchvision reads {self.name} with SciPy: pip install scipy")
        if self.download:
            if not recipe.downloads:
                raise ConfigError(
                    f"torchvision cannot download {self.name} any more: {self._wanted}"
                )
            return
        if recipe.holds is not None and not (self.root / recipe.holds).exists():
            raise DataError(self._absent)
        if recipe.pickled:
            self._check_sums()

    @property
    def _wanted(self) -> str:
        what = f"/{self.recipe.holds}" if self.recipe.holds else " in torchvision's layout"
        return f"put it at {self.root}{what} yourself"

    @property
    def _absent(self) -> str:
        get = "set data.source.download=true, or " if self.recipe.downloads else ""
        return f"{self.root} does not hold {self.name} whole: {get}{self._wanted}."

    def _check_sums(self) -> None:
        """Raise `DataError` naming the pickles whose MD5 sum is not torchvision's."""
        made_by: Any = getattr(datasets, self.name)
        folder = self.root / made_by.base_folder
        wanted = [*made_by.train_list, *made_by.test_list]
        wanted.append([made_by.meta["filename"], made_by.meta["md5"]])
        wrong = [
            f"{folder / file} {'is absent' if not (folder / file).is_file() else f'is not {md5}'}"
            for file, md5 in wanted
            if not check_integrity(folder / file, md5)
        ]
        if wrong:
            raise DataError(
                f"{self.name} is a set of pickles, which can run code: a file is opened only if "
                f"its MD5 sum is the published one, and {len(wrong)} of {len(wanted)} have not:\n"
                f"{listing(wrong)}\nUnpack the archive again, or set data.source.download=true."
            )

    def _make(self, split: str) -> Any:
        """Return torchvision's object for a split."""
        arguments = {**self.recipe.splits[split], **self.options}
        if not self.recipe.made_up:
            arguments |= {"root": str(self.root), "download": self.download}
        try:
            dataset = getattr(datasets, self.name)(**arguments)
            self.recipe.prepare(dataset)
        # Damaged files make these constructors raise almost any type, KeyError to struct.error.
        except Exception as error:
            raise self._failed(split, error) from error
        return dataset

    def _failed(self, split: str, error: Exception) -> DataError:
        """Return the error that says what torchvision's means for the user."""
        told = one_line(error)
        if self.download:
            return DataError(f"{self.name} could not be downloaded to {self.root}: {told}")
        if isinstance(error, RuntimeError) and "not found" in told:
            return DataError(f"{self._absent} (torchvision: {told})")
        options = f" with the options {self.options}" if self.options else ""
        return DataError(
            f"{self.name}{options}, split {split}, cannot be read in {self.root}: {told}. Correct "
            "data.source.options, or unpack the archive again."
        )

    def _check_files(self, dataset: Any) -> None:
        """Raise one `DataError` naming the image files that are outside root, absent or damaged."""
        if self.recipe.files is None:
            return
        paths = [Path(path) for path in self.recipe.files(dataset)]
        faults = [fault for path in paths if (fault := self._fault(path))]
        if faults:
            raise DataError(
                f"{len(faults):,} of {len(paths):,} images of {self.name} cannot be used:\n"
                f"{listing(faults)}"
            )

    def _fault(self, path: Path) -> str | None:
        if not path.is_relative_to(self.root):
            return f"{path} lies outside of {self.root}"
        try:
            return self.recipe.fault(inside(self.root, path.relative_to(self.root).as_posix()))
        except DataError as error:
            return str(error)

    def _examples(self, split: str, dataset: Any) -> list[Example]:
        """Return an example for every image of one of torchvision's sets."""
        numbers = [int(number) for number in self.recipe.labels(dataset)]
        classes = self.recipe.classes(dataset)
        wrong = [number for number in numbers if not 0 <= number < len(classes)]
        fault = None
        if not numbers or len(numbers) != len(dataset):
            fault = f"{len(dataset)} images and {len(numbers)} labels"
        elif wrong:
            fault = f"{len(wrong)} labels outside its {len(classes)} classes, first {wrong[0]}"
        if fault:
            raise DataError(f"{self.name}, split {split}, has {fault}. Unpack the archive again.")
        names = [f"{split}/{i:05d}" for i in range(len(numbers))]
        return [
            Example(name, {self.head: classes[number]}, images=(name,))
            for name, number in zip(names, numbers, strict=True)
        ]

    def _with_held_out(
        self, parts: dict[str, list[Example]]
    ) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
        """Return train, val and test, with what torchvision does not give held out of the rest."""
        wanted = [split for split in ("val", "test") if split not in parts]
        if not wanted:
            return parts, ()
        official = {split: rows for split, rows in parts.items() if split in ("val", "test")}
        shares = {split: self.shares[split] for split in wanted}
        (rest,) = (rows for split, rows in parts.items() if split in ("train", "all"))
        divided = divide(rest, shares, self.seed, self.head)
        return divided | official, (held_out_note(divided, self.seed),)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a set or an option that is not on the list."""
    if name not in RECIPES:
        raise ConfigError(
            f"name={name!r} is no set on the list{nearest(name, RECIPES)}: {', '.join(RECIPES)}"
        )
    recipe = RECIPES[name]
    unknown = [option for option in options if option not in recipe.options]
    if unknown:
        raise ConfigError(
            f"{name} has no option {unknown[0]!r}{nearest(unknown[0], recipe.options)}; those that "
            f"may be given: {', '.join(recipe.options) or 'none'}"
        )
    lacking = [option for option in recipe.required if option not in options]
    if lacking:
        raise ConfigError(
            f"{name} needs data.source.options.{lacking[0]}: torchvision lists the values"
        )


def _used(examples: Sequence[Example]) -> list[str]:
    """Return the names of torchvision's sets that these examples are of."""
    return list(dict.fromkeys(example.key.partition("/")[0] for example in examples))
