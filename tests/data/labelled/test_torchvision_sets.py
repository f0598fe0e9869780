"""Torchvision's sets: small ones in the layout of each, read as torchvision itself reads them."""

import csv
import gzip
import hashlib
import json
import pickle
import struct
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from mmattn.data.label_module import with_classes
from mmattn.data.labelled import torchvision_sets
from mmattn.data.labelled.splits import LabelledSource
from mmattn.data.labelled.torchvision_recipes import RECIPES
from mmattn.data.labelled.torchvision_sets import TorchvisionSet
from mmattn.errors import ConfigError, DataError

EACH = 6  # images of a class in a split


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (shade % 256, shade // 256, 7)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def class_folders(root, classes, suffix):
    for number, name in enumerate(classes):
        for i in range(EACH):
            picture(root / name / f"{i}{suffix}", 10 * number + i)


# ------------------------------------------------------- each set as torchvision wants it


def idx(path, array):
    """Write the format of MNIST: a magic number, the sizes, the bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def mnist(root, name, prefix=("train", "t10k"), classes=10, first=0):
    for split in prefix:
        labels = np.arange(EACH * classes) % classes + first
        images = np.broadcast_to(labels[:, None, None], (len(labels), 8, 8))
        idx(root / name / "raw" / f"{split}-images-idx3-ubyte", images)
        idx(root / name / "raw" / f"{split}-labels-idx1-ubyte", labels)


def cifar(root, monkeypatch, name="CIFAR10", classes=10, key="labels"):
    """Write pickles like the authors' and make their sums the wanted ones."""
    made_by = getattr(datasets, name)
    names = [f"class {i}" for i in range(classes)]
    data = np.arange(EACH * classes * 3072).astype(np.uint8).reshape(-1, 3072)
    batch = {"data": data, key: [i % classes for i in range(len(data))]}
    folder = root / made_by.base_folder
    folder.mkdir(parents=True)

    def put(file, content):
        (folder / file).write_bytes(pickle.dumps(content))
        return [file, hashlib.md5((folder / file).read_bytes()).hexdigest()]

    for listed in ("train_list", "test_list"):
        files = [put(file, batch) for file, _ in getattr(made_by, listed)]
        monkeypatch.setattr(made_by, listed, files)
    file, md5 = put(made_by.meta["filename"], {made_by.meta["key"]: names})
    monkeypatch.setattr(made_by, "meta", {**made_by.meta, "filename": file, "md5": md5})
    return folder


def stl10(root, monkeypatch):
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    labels = np.arange(EACH * 10) % 10 + 1
    images = np.broadcast_to(labels[:, None], (len(labels), 3 * 96 * 96))
    for split, listed in (("train", "train_list"), ("test", "test_list")):
        images.astype(np.uint8).tofile(folder / f"{split}_X.bin")
        labels.astype(np.uint8).tofile(folder / f"{split}_y.bin")
        files = [f"{split}_X.bin", f"{split}_y.bin"]
        sums = [[file, hashlib.md5((folder / file).read_bytes()).hexdigest()] for file in files]
        monkeypatch.setattr(datasets.STL10, listed, sums)
    write(folder / "class_names.txt", "\n".join(f"class {i}" for i in range(10)))


def food101(root, monkeypatch):
    classes = ["apple_pie", "waffles"]
    for split in ("train", "test"):
        names = {name: [f"{name}/{split}{i}" for i in range(EACH)] for name in classes}
        write(root / "food-101" / "meta" / f"{split}.json", json.dumps(names))
        for name in chain.from_iterable(names.values()):
            picture(root / "food-101" / "images" / f"{name}.jpg", len(name))


def pets(root, monkeypatch):
    folder = root / "oxford-iiit-pet"
    for split in ("trainval", "test"):
        lines = []
        for number, breed in enumerate(["Abyssinian", "great_pyrenees"], 1):
            for i in range(EACH):
                lines.append(f"{breed}_{i} {number} 1 1\n")
                picture(folder / "images" / f"{breed}_{i}.jpg", number)
        write(folder / "annotations" / f"{split}.txt", "".join(lines))


def dtd(root, monkeypatch):
    folder = root / "dtd" / "dtd"
    for split in ("train", "val", "test"):
        names = [f"{c}/{c}_{split}{i}.jpg" for c in ("banded", "dotted") for i in range(EACH)]
        write(folder / "labels" / f"{split}1.txt", "".join(f"{name}\n" for name in names))
        for name in names:
            picture(folder / "images" / name, len(name))


def gtsrb(root, monkeypatch):
    """Signs are PPM pictures; test labels are in a table with semicolons."""
    folder = root / "gtsrb"
    class_folders(folder / "GTSRB" / "Training", [f"{i:05d}" for i in range(43)], ".ppm")
    with_test = folder / "GTSRB" / "Final_Test" / "Images"
    rows = [{"Filename": f"{i:05d}.ppm", "ClassId": i % 43} for i in range(50)]
    for row in rows:
        picture(with_test / row["Filename"], row["ClassId"])
    with (folder / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["Filename", "ClassId"], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)


def caltech101(root, monkeypatch):
    folder = root / "caltech101" / "101_ObjectCategories"
    for name in ("BACKGROUND_Google", "Faces", "airplanes"):
        for i in range(1, EACH + 1):
            picture(folder / name / f"image_{i:04d}.jpg", i)


def sun397(root, monkeypatch):
    folder = root / "SUN397"
    write(folder / "ClassName.txt", "/a/abbey\n/a/apartment_building/outdoor\n")
    for name in ("a/abbey", "a/apartment_building/outdoor"):
        for i in range(EACH):
            picture(folder / name / f"sun_{i}.jpg", i)


def aircraft(root, monkeypatch):
    folder = root / "fgvc-aircraft-2013b" / "data"
    for level, names in {"variant": ["707-320", "F-16A/B"], "family": ["707", "F-16"]}.items():
        write(
            folder / {"variant": "variants.txt", "family": "families.txt"}[level], "\n".join(names)
        )
        for split in ("train", "val", "test"):
            rows = [f"{split}{i} {names[i % 2]}\n" for i in range(2 * EACH)]
            write(folder / f"images_{level}_{split}.txt", "".join(rows))
    for split in ("train", "val", "test"):
        for i in range(2 * EACH):
            picture(folder / "images" / f"{split}{i}.jpg", i)


def country211(root, monkeypatch):
    for split in ("train", "valid", "test"):
        class_folders(root / "country211" / split, ["AD", "ZW"], ".jpg")


def imagenette(root, monkeypatch):
    for split in ("train", "val"):
        class_folders(root / "imagenette2-320" / split, ["n01440764", "n03888257"], ".jpeg")


def with_scipy(monkeypatch, files):
    """Let `scipy.io.loadmat` read what `files` holds: SciPy is no dependency."""
    scipy, io = ModuleType("scipy"), ModuleType("scipy.io")
    io.loadmat = lambda path, squeeze_me=False: files[str(path).replace("\\", "/").split("/")[-1]]
    scipy.io = io
    monkeypatch.setitem(sys.modules, "scipy", scipy)
    monkeypatch.setitem(sys.modules, "scipy.io", io)
    monkeypatch.setattr(torchvision_sets.importlib.util, "find_spec", lambda name: name)


def svhn(root, monkeypatch):
    digits = np.arange(EACH * 10) % 10 + 1  # the digit 0 is written as 10
    images = np.broadcast_to(digits.astype(np.uint8), (32, 32, 3, len(digits)))
    files, listed = {}, {}
    for split in ("train", "test"):
        file = f"{split}_32x32.mat"
        write(root / file, split)
        files[file] = {"X": images, "y": digits[:, None]}
        listed[split] = ["", file, hashlib.md5(split.encode()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    with_scipy(monkeypatch, files)


def flowers102(root, monkeypatch):
    folder = root / "flowers-102"
    numbers = np.arange(1, 3 * 102 + 1)  # every split shows each of the 102 flowers
    for number in numbers:
        picture(folder / "jpg" / f"image_{number:05d}.jpg", int(number))
    sets = dict(zip(("trnid", "valid", "tstid"), numbers.reshape(3, -1), strict=True))
    names = {"label": "imagelabels.mat", "setid": "setid.mat", "image": "102flowers.tgz"}
    for file in ("imagelabels.mat", "setid.mat"):
        write(folder / file, file)
    sums = {k: (file, hashlib.md5(file.encode()).hexdigest()) for k, file in names.items()}
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", sums)
    with_scipy(monkeypatch, {"setid.mat": sets, "imagelabels.mat": {"labels": numbers % 102 + 1}})


def stanford_cars(root, monkeypatch):
    folder = root / "stanford_cars"
    rows = {}
    for split, file in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        write(folder / file, "")
        images = [f"{i:05d}.jpg" for i in range(2 * EACH)]
        for i, name in enumerate(images):
            picture(folder / f"cars_{split}" / name, i)
        rows[file.split("/")[-1]] = {
            "annotations": [{"fname": name, "class": i % 2 + 1} for i, name in enumerate(images)]
        }
    names = np.array(["AM General Hummer SUV 2000", "smart fortwo 2012"], dtype=object)
    with_scipy(monkeypatch, {**rows, "cars_meta.mat": {"class_names": names}})


def emnist(root, monkeypatch):
    mnist(root, "EMNIST", ("emnist-letters-train", "emnist-letters-test"), 26, first=1)


MAKERS = {
    "CIFAR10": cifar,
    "CIFAR100": lambda root, patch: cifar(root, patch, "CIFAR100", 100, "fine_labels"),
    "MNIST": lambda root, _: mnist(root, "MNIST"),
    "FashionMNIST": lambda root, _: mnist(root, "FashionMNIST"),
    "KMNIST": lambda root, _: mnist(root, "KMNIST"),
    "EMNIST": emnist,
    "SVHN": svhn,
    "STL10": stl10,
    "Food101": food101,
    "Flowers102": flowers102,
    "OxfordIIITPet": pets,
    "StanfordCars": stanford_cars,
    "DTD": dtd,
    "EuroSAT": lambda root, _: class_folders(
        root / "eurosat" / "2750", ["Forest", "River"], ".jpg"
    ),
    "GTSRB": gtsrb,
    "Caltech101": lambda root, patch: (caltech101(root, patch), with_scipy(patch, {})),
    "SUN397": sun397,
    "FGVCAircraft": aircraft,
    "Country211": country211,
    "Imagenette": imagenette,
    "FakeData": lambda root, _: None,
}
OPTIONS = {
    "EMNIST": {"split": "letters"},
    "Imagenette": {"size": "320px"},
    "FakeData": {"size": 60, "num_classes": 3, "image_size": [3, 8, 8]},
}
NO_SPLITS = {"EuroSAT", "Caltech101", "SUN397", "FakeData"}
OWN_VALIDATION = {"Flowers102", "DTD", "FGVCAircraft", "Country211"}


def source(root, name, **options):
    return TorchvisionSet(root, name, val_fraction=0.2, options=OPTIONS.get(name), **options)


def refused(source, error=DataError):
    with pytest.raises(error) as caught:
        source.splits()
    return str(caught.value)


def test_every_set_on_the_list_is_tried():
    assert set(MAKERS) == set(RECIPES)


@pytest.mark.parametrize("name", MAKERS)
def test_labels_and_images_are_torchvisions_own(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    made: LabelledSource = source(tmp_path, name)
    splits = made.splits()
    for part in (splits.train, splits.val, splits.test[""]):
        store = part.store
        for index, example in list(enumerate(part.examples))[:: max(1, len(part) // 8)]:
            split, _, number = example.key.partition("/")
            dataset = store.sets[split]
            image, label = dataset[int(number)]
            names = RECIPES[name].classes(dataset)
            assert example.labels == {"label": names[label]}
            (tensor,) = part.images(index)
            assert tensor.dtype == torch.uint8
            assert np.array_equal(tensor.permute(1, 2, 0), np.array(image.convert("RGB")))
    assert (name in OWN_VALIDATION) == (splits.notes == ())
    used = {example.key.split("/")[0] for example in splits.train.examples}
    assert used == {"all" if name in NO_SPLITS else "train"}
    (_, classes) = with_classes(splits)
    assert classes["label"].names == splits.heads["label"].classes


@pytest.mark.parametrize("name", ["MNIST", "DTD", "FakeData"])
def test_sets_travel_to_worker_processes(name, tmp_path, monkeypatch):
    MAKERS[name](tmp_path, monkeypatch)
    made = pickle.loads(pickle.dumps(source(tmp_path, name)))
    train = made.splits().train
    again = pickle.loads(pickle.dumps(train))
    assert torch.equal(again.images(1)[0], train.images(1)[0])


def test_class_names(tmp_path, monkeypatch):
    for name in ("EMNIST", "Imagenette", "FashionMNIST"):
        MAKERS[name](tmp_path, monkeypatch)
    letters = source(tmp_path, "EMNIST").splits().heads["label"].classes
    assert letters == tuple("abcdefghijklmnopqrstuvwxyz")  # "N/A", number 0, is no class
    assert source(tmp_path, "Imagenette").splits().heads["label"].classes == ("tench", "parachute")
    assert (
        source(tmp_path, "FashionMNIST", head="x").splits().heads["x"].classes[-1] == "Ankle boot"
    )


def test_validation_is_held_out_of_training_with_the_seed(tmp_path, monkeypatch):
    MAKERS["MNIST"](tmp_path, monkeypatch)
    one, two = (source(tmp_path, "MNIST", seed=seed).splits() for seed in (1, 2))
    keys = [{example.key for example in splits.val.examples} for splits in (one, two)]
    assert keys[0] != keys[1]
    assert [len(one.train), len(one.val), len(one.test[""])] == [48, 12, 60]
    assert one.notes[0].endswith("divided here with seed 1: 48 for train, 12 for val")


def test_what_imagenette_calls_validation_is_the_test(tmp_path, monkeypatch):
    imagenette(tmp_path, monkeypatch)
    splits = source(tmp_path, "Imagenette").splits()
    assert {example.key.split("/")[0] for example in splits.val.examples} == {"train"}
    assert len(splits.test[""]) == 2 * EACH


def test_sun397_has_the_same_numbers_on_every_disk(tmp_path, monkeypatch):
    sun397(tmp_path, monkeypatch)
    files = sorted((tmp_path / "SUN397").rglob("sun_*.jpg"), reverse=True)
    monkeypatch.setattr(Path, "rglob", lambda *_: iter(files))
    store = source(tmp_path, "SUN397").splits().train.store
    paths = [str(path) for path in store.sets["all"]._image_files]
    assert paths == sorted(paths)


def test_options_reach_torchvision(tmp_path, monkeypatch):
    aircraft(tmp_path, monkeypatch)
    made = TorchvisionSet(tmp_path, "FGVCAircraft", options={"annotation_level": "family"})
    assert made.splits().heads["label"].classes == ("707", "F-16")


# ----------------------------------------------------------------------- refused


def test_names_and_options_off_the_list(tmp_path):
    with pytest.raises(ConfigError, match=r"name='CIFAR-10' .*nearest: 'CIFAR10'"):
        TorchvisionSet(tmp_path, "CIFAR-10")
    for name in ("ImageFolder", "CocoCaptions", "__builtins__"):
        with pytest.raises(ConfigError, match="is no set on the list"):
            TorchvisionSet(tmp_path, name)
    with pytest.raises(ConfigError, match=r"has no option 'partitions' \(nearest: 'partition'\)"):
        TorchvisionSet(tmp_path, "DTD", options={"partitions": 2})
    with pytest.raises(ConfigError, match="may be given: none"):
        TorchvisionSet(tmp_path, "Food101", options={"loader": "torch.load"})
    with pytest.raises(ConfigError, match=r"EMNIST needs data\.source\.options\.split"):
        TorchvisionSet(tmp_path, "EMNIST")


def test_a_value_that_torchvision_refuses(tmp_path, monkeypatch):
    aircraft(tmp_path, monkeypatch)
    made = TorchvisionSet(tmp_path, "FGVCAircraft", options={"annotation_level": "colour"})
    message = refused(made)
    assert "with the options {'annotation_level': 'colour'}" in message
    assert "Unknown value 'colour'" in message


@pytest.mark.parametrize("name", [n for n in RECIPES if n not in ("FakeData", "StanfordCars")])
def test_absent_data_say_how_to_get_them(name, tmp_path, monkeypatch):
    with_scipy(monkeypatch, {})
    message = refused(source(tmp_path, name))
    assert f"{tmp_path} does not hold {name} whole: set data.source.download=true" in message
    assert list(tmp_path.iterdir()) == []


def test_stanford_cars_can_no_longer_be_downloaded(tmp_path, monkeypatch):
    with_scipy(monkeypatch, {})
    assert "put it at" in refused(source(tmp_path, "StanfordCars"))
    message = refused(source(tmp_path, "StanfordCars", download=True), ConfigError)
    assert "cannot download StanfordCars any more" in message


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.needs_scipy])
def test_sets_that_need_scipy_say_so(name, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_sets.importlib.util, "find_spec", lambda _: None)
    assert "pip install scipy" in refused(source(tmp_path, name), ConfigError)


def test_a_download_that_fails(tmp_path, monkeypatch):
    def no_network(self):
        raise URLError("no network")

    monkeypatch.setattr(datasets.MNIST, "download", no_network)
    message = refused(source(tmp_path, "MNIST", download=True))
    assert f"MNIST could not be downloaded to {tmp_path}" in message
    assert "no network" in message


def test_a_download_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: mnist(tmp_path, "MNIST"))
    assert len(source(tmp_path, "MNIST", download=True).splits().test[""]) == 60


class Trap:
    """A pickle of this runs code when it is opened."""

    def __reduce__(self):
        return (pytest.fail, ("an unknown pickle was opened",))


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("download", [False, True])
def test_no_unknown_pickle_is_opened(file, download, tmp_path, monkeypatch):
    folder = cifar(tmp_path, monkeypatch)
    (folder / file).write_bytes(pickle.dumps(Trap()))
    monkeypatch.setattr(datasets.CIFAR10, "download", lambda self: None)
    message = refused(source(tmp_path, "CIFAR10", download=download))
    if not download:
        assert "a file is opened only if its MD5 sum is the published one" in message
        assert "1 of 7 have not" in message
        assert f"{folder / file} is not " in message


def test_a_pickle_that_is_absent(tmp_path, monkeypatch):
    folder = cifar(tmp_path, monkeypatch)
    (folder / "data_batch_2").unlink()
    assert f"{folder / 'data_batch_2'} is absent" in refused(source(tmp_path, "CIFAR10"))


def test_the_published_sums_are_the_ones_that_are_asked_for(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    assert "7 of 7 have not" in refused(source(tmp_path, "CIFAR10"))


def test_damaged_arrays(tmp_path):
    mnist(tmp_path, "MNIST")
    path = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    sound = path.read_bytes()
    path.write_bytes(sound[:2])
    assert "MNIST, split train, cannot be read" in refused(source(tmp_path, "MNIST"))
    idx(path, np.zeros(7))
    assert "has 60 images and 7 labels" in refused(source(tmp_path, "MNIST"))
    idx(path, np.full(60, 12))
    assert "60 labels outside its 10 classes, first 12" in refused(source(tmp_path, "MNIST"))
    path.write_bytes(gzip.compress(sound))
    assert "cannot be read" in refused(source(tmp_path, "MNIST"))


def test_damaged_lists(tmp_path, monkeypatch):
    food101(tmp_path, monkeypatch)
    write(tmp_path / "food-101" / "meta" / "test.json", "{")
    assert "Food101, split test, cannot be read" in refused(source(tmp_path, "Food101"))


def test_missing_and_damaged_images_are_all_named(tmp_path, monkeypatch):
    food101(tmp_path, monkeypatch)
    folder = tmp_path / "food-101" / "images" / "waffles"
    (folder / "train0.jpg").unlink()
    (folder / "train1.jpg").write_bytes(b"<html>")
    message = refused(source(tmp_path, "Food101"))
    assert "2 of 12 images of Food101 cannot be used" in message
    assert f"{folder / 'train0.jpg'} cannot be read" in message
    assert f"{folder / 'train1.jpg'} is not an image" in message


def test_signs_must_be_ppm(tmp_path, monkeypatch):
    gtsrb(tmp_path, monkeypatch)
    path = tmp_path / "gtsrb" / "GTSRB" / "Training" / "00003" / "2.ppm"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    assert f"{path} is no PPM picture" in refused(source(tmp_path, "GTSRB"))
    (tmp_path / "gtsrb" / "GTSRB" / "Final_Test" / "Images" / "00007.ppm").unlink()
    picture(path, 1)
    assert "00007.ppm cannot be read" in refused(source(tmp_path, "GTSRB"))


def test_lists_cannot_name_images_outside(tmp_path, monkeypatch):
    root = tmp_path / "root"
    picture(tmp_path / "secret.jpg", 1)
    food101(root, monkeypatch)
    names = {"apple_pie": ["../../../secret"], "waffles": ["waffles/train0"]}
    write(root / "food-101" / "meta" / "train.json", json.dumps(names))
    message = refused(source(root, "Food101"))
    assert "1 of 2 images of Food101 cannot be used" in message
    assert "holds '..'" in message
    gtsrb(root, monkeypatch)
    path = root / "gtsrb" / "GT-final_test.csv"
    path.write_text(path.read_text().replace("00001.ppm", str(tmp_path / "secret.jpg")))
    message = refused(source(root, "GTSRB"))
    assert f"{tmp_path / 'secret.jpg'} lies outside of {root}" in message


def test_a_damaged_body_is_named_when_it_is_read(tmp_path, monkeypatch):
    food101(tmp_path, monkeypatch)
    path = tmp_path / "food-101" / "images" / "apple_pie" / "test0.jpg"
    path.write_bytes(path.read_bytes()[:-4])
    test = source(tmp_path, "Food101").splits().test[""]
    with pytest.raises(DataError, match="test/00000 cannot be decoded"):
        test.images(0)


def test_shares_are_checked_at_once(tmp_path):
    with pytest.raises(ConfigError, match="leave nothing"):
        TorchvisionSet(tmp_path, "EuroSAT", val_fraction=0.5, test_fraction=0.5)


def test_no_test_set_if_none_is_wanted(tmp_path):
    class_folders(tmp_path / "eurosat" / "2750", ["Forest", "River"], ".jpg")
    assert source(tmp_path, "EuroSAT", test_fraction=0.0).splits().test == {}
