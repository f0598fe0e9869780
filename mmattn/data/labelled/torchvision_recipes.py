"""What torchvision's classification sets differ in: splits, where labels and class names are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmattn.data.images import image_fault

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How one of torchvision's sets is made and read.

    Attributes:
        holds: what lies below root when the set is there, such as a folder; None where that
            depends on the options.
        splits: "train", "val", "test" -> arguments of its class; "all" where it has no splits.
        labels: set -> the number of each image's class, without decoding an image.
        classes: set -> the names of the classes.
        files: set -> the image file of each example; None where images lie in arrays.
        fault: what makes one of these files unusable, or None.
        options: further arguments that a user may give.
        required: those of them that have no default.
        needs_scipy: it is read with SciPy, which mmattn does not depend on.
        pickled: its files are pickles, which are opened only if their MD5 sums are right.
        downloads: torchvision can still get it.
        made_up: it has no files, and so no root.
        prepare: what is done to a set once it is made.
    """

    holds: str | None
    splits: Mapping[str, Arguments]
    labels: Callable[[Any], Sequence[int]]
    classes: Callable[[Any], Sequence[str]] = attrgetter("classes")
    files: Callable[[Any], Sequence[str | Path]] | None = None
    fault: Callable[[Path], str | None] = image_fault
    options: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    needs_scipy: bool = False
    pickled: bool = False
    downloads: bool = True
    made_up: bool = False
    prepare: Callable[[Any], None] = field(default=lambda _: None)


def _split(**names: str) -> dict[str, Arguments]:
    return {split: {"split": name} for split, name in names.items()}


def _digits(_: Any) -> list[str]:
    return [str(digit) for digit in range(10)]


def _first_of_sample(dataset: Any) -> list[str]:
    return [path for path, _ in dataset._samples]


def _second_of_sample(dataset: Any) -> list[int]:
    return [int(number) for _, number in dataset._samples]


def _first_of_folder(dataset: Any) -> list[str]:
    return [path for path, _ in dataset.samples]


def _caltech_files(dataset: Any) -> list[Path]:
    """Return the paths that `Caltech101` makes of categories and running numbers."""
    folder = Path(dataset.root) / "101_ObjectCategories"
    return [
        folder / dataset.categories[category] / f"image_{number:04d}.jpg"
        for category, number in zip(dataset.y, dataset.index, strict=True)
    ]


def _sort_files(dataset: Any) -> None:
    """Sort images that `SUN397` lists in the order of the disk, which differs between machines."""
    pairs = sorted(zip(map(str, dataset._image_files), dataset._labels, strict=True))
    dataset._image_files = [Path(path) for path, _ in pairs]
    dataset._labels = [label for _, label in pairs]


def _not_ppm(path: Path) -> str | None:
    """Return what makes a file no binary PPM picture, the format of GTSRB alone."""
    try:
        with path.open("rb") as file:
            magic = file.read(2)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}. Unpack the archive again."
    return None if magic == b"P6" else f"{path} is no PPM picture. Unpack the archive again."


_TRAIN_AND_TEST: Mapping[str, Arguments] = {"train": {"train": True}, "test": {"train": False}}
_TARGETS = attrgetter("targets")
_LABELS = attrgetter("labels")
_OWN_LABELS = attrgetter("_labels")
_OWN_FILES = attrgetter("_image_files")


def _like_mnist(name: str) -> Recipe:
    return Recipe(f"{name}/raw", _TRAIN_AND_TEST, _TARGETS)


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "CIFAR10": Recipe("cifar-10-batches-py", _TRAIN_AND_TEST, _TARGETS, pickled=True),
        "CIFAR100": Recipe("cifar-100-python", _TRAIN_AND_TEST, _TARGETS, pickled=True),
        "MNIST": _like_mnist("MNIST"),
        "FashionMNIST": _like_mnist("FashionMNIST"),
        "KMNIST": _like_mnist("KMNIST"),
        "EMNIST": Recipe(
            "EMNIST/raw", _TRAIN_AND_TEST, _TARGETS, options=("split",), required=("split",)
        ),
        "SVHN": Recipe(
            "train_32x32.mat",
            _split(train="train", test="test"),
            _LABELS,
            _digits,
            needs_scipy=True,
        ),
        "STL10": Recipe(
            "stl10_binary", _split(train="train", test="test"), _LABELS, options=("folds",)
        ),
        "Food101": Recipe(
            "food-101", _split(train="train", test="test"), _OWN_LABELS, files=_OWN_FILES
        ),
        "Flowers102": Recipe(
            "flowers-102",
            _split(train="train", val="val", test="test"),
            _OWN_LABELS,
            files=_OWN_FILES,
            needs_scipy=True,
        ),
        "OxfordIIITPet": Recipe(
            "oxford-iiit-pet",
            _split(train="trainval", test="test"),
            _OWN_LABELS,
            files=attrgetter("_images"),
        ),
        "StanfordCars": Recipe(
            "stanford_cars",
            _split(train="train", test="test"),
            _second_of_sample,
            files=_first_of_sample,
            needs_scipy=True,
            downloads=False,
        ),
        "DTD": Recipe(
            "dtd/dtd",
            _split(train="train", val="val", test="test"),
            _OWN_LABELS,
            files=_OWN_FILES,
            options=("partition",),
        ),
        "EuroSAT": Recipe("eurosat/2750", {"all": {}}, _TARGETS, files=_first_of_folder),
        "GTSRB": Recipe(
            "gtsrb/GTSRB",
            _split(train="train", test="test"),
            _second_of_sample,
            lambda _: [str(number) for number in range(43)],
            files=_first_of_sample,
            fault=_not_ppm,
        ),
        "Caltech101": Recipe(
            "caltech101/101_ObjectCategories",
            {"all": {}},
            attrgetter("y"),
            attrgetter("categories"),
            files=_caltech_files,
            needs_scipy=True,
        ),
        "SUN397": Recipe("SUN397", {"all": {}}, _OWN_LABELS, files=_OWN_FILES, prepare=_sort_files),
        "FGVCAircraft": Recipe(
            "fgvc-aircraft-2013b",
            _split(train="train", val="val", test="test"),
            _OWN_LABELS,
            files=_OWN_FILES,
            options=("annotation_level",),
        ),
        "Country211": Recipe(
            "country211",
            _split(train="train", val="valid", test="test"),
            _TARGETS,
            files=_first_of_folder,
        ),
        # What its authors call "val" is what everybody reports, so it must not choose the model.
        "Imagenette": Recipe(
            None,
            _split(train="train", test="val"),
            _second_of_sample,
            lambda dataset: [names[0] for names in dataset.classes],
            files=_first_of_sample,
            options=("size",),
        ),
        "FakeData": Recipe(
            None,
            {"all": {}},
            lambda dataset: [dataset[i][1] for i in range(len(dataset))],
            lambda dataset: [str(number) for number in range(dataset.num_classes)],
            options=("size", "image_size", "num_classes", "random_offset"),
            made_up=True,
        ),
    }
)
