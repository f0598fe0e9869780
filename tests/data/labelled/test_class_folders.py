"""A folder for every class: with and without folders for splits, and everything refused."""

import pytest
import torch
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.class_folders import ClassFolders
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

shade = iter(range(1_000_000))


def add(root, *names):
    """Write pictures, no two the same."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        n = next(shade)
        Image.new("RGB", (8 + n % 50, 8 + n // 50), (n % 256, 0, 0)).save(root / name)
    return root


def keys(dataset):
    return [example.key for example in dataset.examples]


def labels(dataset, head="label"):
    return [example.labels[head] for example in dataset.examples]


def refused(source, error=DataError):
    with pytest.raises(error) as caught:
        source.splits()
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    """Three folders for splits, two classes, faultless."""
    names = ["train/cat/1.jpg", "train/cat/deep/er/2.PNG", "train/dog/1.jpeg", "val/cat/1.jpg"]
    return add(tmp_path, *names, "val/dog/1.jpg", "test/cat/1.jpg", "test/dog/1.jpg")


def test_folders_for_splits(root):
    source: LabelledSource = ClassFolders(root)
    assert isinstance(source, LabelledSource)
    splits = source.splits()
    assert splits.notes == ()
    assert keys(splits.train) == ["train/cat/1.jpg", "train/cat/deep/er/2.PNG", "train/dog/1.jpeg"]
    assert labels(splits.train) == ["cat", "cat", "dog"]
    assert list(splits.test) == [""]
    assert splits.heads["label"].classes == ("cat", "dog")
    assert splits.heads["label"].kind == "single"
    (image,) = splits.train.images(1)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert with_classes(splits)[1]["label"].names == ("cat", "dog")


@pytest.mark.parametrize("name", ["validation", "valid"])
def test_other_names_for_validation(root, name):
    (root / "val").rename(root / name)
    assert keys(ClassFolders(root).splits().val) == [f"{name}/cat/1.jpg", f"{name}/dog/1.jpg"]


def test_two_names_for_validation_are_not_guessed_between(root):
    add(root, "valid/cat/1.jpg")
    assert "val and valid: keep one" in refused(ClassFolders(root))


def test_the_head_can_be_named(root):
    splits = ClassFolders(root, head="animal").splits()
    assert list(splits.heads) == ["animal"]
    assert labels(splits.val, "animal") == ["cat", "dog"]


def test_numbers_stay_text_and_are_sorted_as_text(tmp_path):
    add(tmp_path, *(f"{split}/{n}/x.png" for split in ("train", "val") for n in (0, 2, 10)))
    splits = ClassFolders(tmp_path).splits()
    assert splits.heads["label"].classes == ("0", "10", "2")
    assert labels(splits.train) == ["0", "10", "2"]


def flat(root, sizes):
    return add(root, *(f"{label}/{i}.png" for label, size in sizes.items() for i in range(size)))


def test_without_splits_they_are_held_out_class_by_class(tmp_path):
    flat(tmp_path, {"a": 20, "b": 10})
    source = ClassFolders(tmp_path, val_fraction=0.2, test_fraction=0.1, seed=5)
    splits = source.splits()
    counts = [
        {label: labels(part).count(label) for label in "ab"}
        for part in (splits.train, splits.val, splits.test[""])
    ]
    assert counts == [{"a": 14, "b": 7}, {"a": 4, "b": 2}, {"a": 2, "b": 1}]
    assert splits.notes[0].endswith("with seed 5: 21 for train, 6 for val, 3 for test")
    assert keys(source.splits().val) == keys(splits.val)
    other = ClassFolders(tmp_path, val_fraction=0.2, test_fraction=0.1, seed=6).splits()
    assert keys(other.val) != keys(splits.val)


def test_no_test_set_if_none_is_wanted(tmp_path):
    splits = ClassFolders(flat(tmp_path, {"a": 10, "b": 10}), test_fraction=0.0).splits()
    assert splits.test == {}
    assert "There is no test set: nothing is tested after training" in splits.notes


def test_validation_is_held_out_where_its_folder_lacks(tmp_path):
    flat(tmp_path / "train", {"a": 10, "b": 10})
    add(tmp_path, "test/a/1.png", "test/b/1.png")
    splits = ClassFolders(tmp_path, test_fraction=0.4).splits()
    assert [len(splits.train), len(splits.val), len(splits.test[""])] == [18, 2, 2]


def test_training_alone_in_a_folder(tmp_path):
    flat(tmp_path / "train", {"a": 10, "b": 10})
    splits = ClassFolders(tmp_path).splits()
    assert [len(splits.train), len(splits.val), len(splits.test[""])] == [16, 2, 2]


def test_training_and_validation_make_no_test(tmp_path):
    add(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png")
    assert ClassFolders(tmp_path).splits().test == {}


def test_classes_that_are_called_train_and_test(tmp_path):
    flat(tmp_path, {"train": 10, "test": 10, "bus": 10})
    assert ClassFolders(tmp_path).splits().heads["label"].classes == ("bus", "test", "train")


def test_hidden_files_are_ignored(root):
    add(root, ".thumbnails/x.png", "train/.hidden/x.png", "__MACOSX/train/cat/x.png")
    add(root, "train/cat/.x.png", "train/cat/.deep/x.png")
    splits = ClassFolders(root).splits()
    assert len(splits.train) == 3
    assert splits.notes == ()


# ------------------------------------------------------------------ told in notes


def test_other_files_and_folders_are_told(root):
    (root / "train" / "cat" / "list.txt").write_text("x")
    add(root, "train/lost.png", "extra/x/1.png")
    assert ClassFolders(root).splits().notes == (
        "Folders beside the splits, left out: 1 (extra)",
        "Files that are no images in a class folder, left out: 2 "
        "(train/lost.png, train/cat/list.txt)",
    )


def test_a_class_that_validation_lacks_is_told(root):
    (root / "val" / "dog" / "1.jpg").unlink()
    (note,) = ClassFolders(root).splits().notes
    assert note == "Split val has no example of these label classes: 1 (dog)"


def test_identical_images_are_told(root):
    (root / "val" / "cat" / "1.jpg").write_bytes((root / "train" / "cat" / "1.jpg").read_bytes())
    (note,) = ClassFolders(root).splits().notes
    assert note == (
        "Leak: byte-identical photos in different splits: 1 "
        "(train/cat/1.jpg (train) = val/cat/1.jpg (val))"
    )


def test_bad_images_can_be_left_out(root):
    (root / "train" / "cat" / "1.jpg").write_bytes(b"<html>")
    splits = ClassFolders(root, leave_out_bad=True).splits()
    assert len(splits.train) == 2
    (note,) = splits.notes
    assert note == "Images missing or damaged: 1 (train/cat/1.jpg); examples left out: 1"


# ----------------------------------------------------------------------- refused


def test_a_missing_or_empty_root(tmp_path):
    message = refused(ClassFolders(tmp_path / "nowhere"))
    assert "nowhere' is not a folder" in message
    assert "root/train/<class>" in message
    assert "has 0 class folders" in refused(ClassFolders(tmp_path))


def test_a_root_one_too_high(tmp_path):
    flat(tmp_path / "animals", {"a": 3, "b": 3})
    message = refused(ClassFolders(tmp_path))
    assert "has 1 class folders (animals), and two or more are needed" in message
    assert "It holds 2 (a, b): is that the root?" in message


def test_validation_without_training(tmp_path):
    add(tmp_path, "val/a/1.png", "val/b/1.png")
    assert "has val and no folder train with classes in it" in refused(ClassFolders(tmp_path))


def test_classes_without_an_image_and_classes_that_training_lacks(root):
    (root / "train" / "cow").mkdir()
    (root / "train" / "pig").mkdir()
    (root / "train" / "pig" / "notes.txt").write_text("x")
    add(root, "val/catt/1.png", "test/zebra/1.png")
    message = refused(ClassFolders(root))
    assert "4 class folders are wrong" in message
    assert f"{root / 'train' / 'cow'} has no image" in message
    assert f"{root / 'train' / 'pig'} has no image" in message
    assert f"{root / 'val' / 'catt'} is no class of {root / 'train'} (nearest: 'cat')" in message
    assert f"{root / 'test' / 'zebra'} is no class of {root / 'train'}\n" in message


def test_a_class_without_an_image(root):
    (root / "train" / "cow").mkdir()
    message = refused(ClassFolders(root))
    assert "1 class folders are wrong" in message
    assert f"{root / 'train' / 'cow'} has no image" in message


def test_an_empty_split(root):
    for name in ("cat", "dog"):
        (root / "val" / name / "1.jpg").unlink()
    message = refused(ClassFolders(root))
    assert "Split val has no example left: 0 of its examples could be read" in message


def test_nothing_left_after_filtering(root):
    for name in ("cat", "dog"):
        (root / "val" / name / "1.jpg").write_bytes(b"<html>")
    message = refused(ClassFolders(root, leave_out_bad=True))
    assert (
        "Split val has no example left: 2 of its examples could be read, 0 can be used" in message
    )
    assert "Images missing or damaged: 2 (val/cat/1.jpg, val/dog/1.jpg)" in message


def test_files_that_are_no_images_are_all_named(root):
    (root / "train" / "cat" / "1.jpg").write_bytes(b"")
    (root / "test" / "dog" / "1.jpg").write_bytes(b"<html>")
    message = refused(ClassFolders(root))
    assert "2 of 7 images cannot be used" in message
    assert f"{root / 'train' / 'cat' / '1.jpg'} is empty" in message
    assert "is not an image" in message


def test_a_damaged_body_is_named_when_it_is_read(root):
    path = root / "train" / "cat" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-4])
    train = ClassFolders(root).splits().train
    with pytest.raises(DataError, match=r"1\.jpg cannot be decoded"):
        train.images(0)


def test_links_to_folders_are_refused(root, tmp_path_factory):
    outside = add(tmp_path_factory.mktemp("outside"), "1.png")
    (root / "train" / "dog" / "more").symlink_to(outside)
    (root / "train" / "fox").symlink_to(outside)
    message = refused(ClassFolders(root))
    assert "2 links to folders" in message
    assert f"train/fox -> {outside}" in message
    assert "train/dog/more" in message


def test_a_link_to_a_folder_above_ends(root):
    (root / "train" / "dog" / "loop").symlink_to(root)
    assert "1 links to folders" in refused(ClassFolders(root))


def test_a_split_that_is_a_link_is_refused(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "val"
    (root / "val").rename(outside)
    (root / "val").symlink_to(outside)
    assert "val -> " in refused(ClassFolders(root))


def test_an_image_that_links_out_of_the_folder(root, tmp_path_factory):
    outside = add(tmp_path_factory.mktemp("outside"), "1.png")
    (root / "train" / "dog" / "2.png").symlink_to(outside / "1.png")
    assert "leaves the folder" in refused(ClassFolders(root, leave_out_bad=True))


def test_shares_are_checked_at_once(tmp_path):
    with pytest.raises(ConfigError, match="val_fraction is 1"):
        ClassFolders(tmp_path, val_fraction=1.0)
    with pytest.raises(ConfigError, match="leave nothing"):
        ClassFolders(tmp_path, val_fraction=0.6, test_fraction=0.4)


def test_too_few_images_to_hold_any_out(tmp_path):
    flat(tmp_path, {"a": 1, "b": 1})
    assert "leaves 0 for val" in refused(ClassFolders(tmp_path))
