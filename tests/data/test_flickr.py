"""Flickr8k: the files as they are, each wart told, each fault refused with the place to mend."""

import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.data.dataset import CaptionDataset, CaptionSource
from mmattn.data.flickr import Flickr8k
from mmattn.errors import ConfigError, DataError

LISTS = {"train": "trainImages", "val": "devImages", "test": "testImages"}
NAMES = {"train": ["a.jpg", "b.jpg", "c.jpg"], "val": ["d.jpg"], "test": ["e.jpg", "f.jpg"]}


def captions_of(names):
    return "".join(f"{name}#{i}\tA Dog on {name} .\n" for name in names for i in range(2))


def build(root, images="images", names=NAMES):
    """A small, faultless Flickr8k: photos of different sizes, two captions each."""
    folder = root / images
    folder.mkdir(parents=True)
    every = [name for split in names.values() for name in split]
    for i, name in enumerate(every):
        Image.new("RGB", (8 + i, 8), (40 * i, 0, 0)).save(folder / name)
    for split, listed in names.items():
        (root / f"Flickr_8k.{LISTS[split]}.txt").write_text("".join(f"{n}\n" for n in listed))
    (root / "Flickr8k.token.txt").write_text(captions_of(every))
    return root


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "flickr8k")


def append(path, text):
    path.write_text(path.read_text() + text)


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_a_faultless_set_has_no_notes(root):
    source: CaptionSource = Flickr8k(root)
    splits = source.splits()
    assert splits.notes == ()
    assert list(splits.test) == [""]
    train: CaptionDataset = splits.train
    assert [train.key(i) for i in range(len(train))] == NAMES["train"]
    assert [splits.val.key(0), splits.test[""].key(1)] == ["d.jpg", "f.jpg"]
    assert train.captions(1) == ("a dog on b.jpg .", "a dog on b.jpg .")
    assert train.image(2).shape == (3, 8, 10)
    assert train.image(0).dtype == torch.uint8


def test_case_and_space(root):
    append(root / "Flickr8k.token.txt", "a.jpg#2\t  Two\tÉTÉ  Dogs . \n")
    assert Flickr8k(root).splits().train.captions(0)[2] == "two été dogs ."
    assert Flickr8k(root, lower_case=False).splits().train.captions(0)[2] == "Two ÉTÉ Dogs ."


def test_a_data_set_travels_to_worker_processes(root):
    train = pickle.loads(pickle.dumps(Flickr8k(root).splits().train))
    assert train.key(0) == "a.jpg"
    assert train.image(0).shape == (3, 8, 8)


@pytest.mark.fault("F15")
def test_mark_and_windows_line_ends_and_blank_lines(root):
    for path in root.glob("*.txt"):
        text = path.read_text().replace("\n", "\r\n") + "\r\n \r\n"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    splits = Flickr8k(root).splits()
    assert splits.notes == ()
    assert splits.train.key(0) == "a.jpg"
    assert splits.train.captions(0)[0] == "a dog on a.jpg ."


def test_a_relative_root_survives_a_change_of_folder(root, monkeypatch, tmp_path):
    monkeypatch.chdir(root)
    train = Flickr8k(".").splits().train
    monkeypatch.chdir(tmp_path)
    assert train.image(0).shape == (3, 8, 8)


# --------------------------------------------------------------- where things are


@pytest.mark.parametrize("images", ["images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset"])
def test_image_folder_is_found(tmp_path, images):
    assert len(Flickr8k(build(tmp_path, images)).splits().train) == 3


def test_image_folder_can_be_named(tmp_path):
    build(tmp_path, "archive/photos")
    assert len(Flickr8k(tmp_path, image_folder="archive/photos").splits().train) == 3
    assert "image_folder=images or Images or Flicker8k" in refused(Flickr8k(tmp_path))
    assert "image_folder=pics" in refused(Flickr8k(tmp_path, image_folder="pics"))


def test_two_image_folders_are_not_guessed_between(root):
    (root / "Flicker8k_Dataset").mkdir()
    assert "images and Flicker8k_Dataset: choose one" in refused(Flickr8k(root))
    assert len(Flickr8k(root, image_folder="images").splits().train) == 3


def test_an_image_folder_that_is_a_link(root, tmp_path):
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "Images").symlink_to("images")  # as on systems that ignore case
    assert len(Flickr8k(root).splits().train) == 3


def test_a_missing_root_says_how_to_get_the_data(tmp_path):
    message = refused(Flickr8k(tmp_path / "nowhere"))
    assert "nowhere" in message
    assert "Flickr8k_Dataset.zip" in message


@pytest.mark.fault("F15")
def test_an_empty_root_names_everything_that_is_missing(tmp_path):
    message = refused(Flickr8k(tmp_path))
    assert "(the folder is empty)" in message
    for key in [
        "token_file=Flickr8k.token.txt",
        "splits.train=Flickr_8k.trainImages.txt",
        "splits.val=Flickr_8k.devImages.txt",
        "splits.test=Flickr_8k.testImages.txt",
        "image_folder=",
        "Flickr8k_text.zip",
    ]:
        assert key in message


def test_wrong_names_bring_the_nearest_that_exist(root):
    (root / "Flickr_8k.devImages.txt").rename(root / "Flickr_8k.valImages.txt")
    (root / "text").mkdir()
    (root / "Flickr8k.token.txt").rename(root / "text" / "Flickr8k.token.txt")
    message = refused(Flickr8k(root))
    assert "splits.val=Flickr_8k.devImages.txt (there is Flickr_8k.valImages.txt" in message
    assert "token_file=Flickr8k.token.txt (there is text/Flickr8k.token.txt" in message
    assert "splits.train" not in message
    moved = {split: f"Flickr_8k.{name}.txt" for split, name in LISTS.items()}
    moved["val"] = "Flickr_8k.valImages.txt"
    source = Flickr8k(root, token_file="text/Flickr8k.token.txt", splits=moved)
    assert len(source.splits().val) == 1


def test_a_name_too_long_for_the_system(root):
    assert "cannot be read" in refused(Flickr8k(root, token_file="x" * 300))


@pytest.mark.parametrize("keys", [["train", "val"], ["train", "dev", "test"], []])
def test_splits_needs_its_three_keys(root, keys):
    with pytest.raises(ConfigError, match="train, val and test"):
        Flickr8k(root, splits=dict.fromkeys(keys, "x.txt"))


# ------------------------------------------------------------------ told in notes


@pytest.mark.fault("F15")
def test_captions_without_an_image(root):
    append(root / "Flickr8k.token.txt", "z.jpg.1#0\tA cat .\nz.jpg.1#1\tA cat .\n")
    (note,) = Flickr8k(root).splits().notes
    assert note == "Names with captions but no image file, left out: 1 (z.jpg.1)"


def test_images_in_no_split(root):
    names = [f"g{i}.jpg" for i in range(5)]
    for i, name in enumerate(names):
        Image.new("RGB", (30 + i, 8)).save(root / "images" / name)
    append(root / "Flickr8k.token.txt", captions_of(names))
    (note,) = Flickr8k(root).splits().notes
    assert note == ("Captioned images in no split list, left out: 5 (g0.jpg, g1.jpg, g2.jpg, ...)")


def test_files_without_a_caption(root):
    (root / "images" / "Thumbs.db").write_bytes(b"x")
    (root / "images" / "folder").mkdir()
    (note,) = Flickr8k(root).splits().notes
    assert note.startswith("Other files in the image folder without a caption")
    assert note.endswith("1 (Thumbs.db)")


def test_a_listed_image_without_a_caption(root):
    Image.new("RGB", (30, 8)).save(root / "images" / "g.jpg")
    append(root / "Flickr_8k.trainImages.txt", "g.jpg\n")
    splits = Flickr8k(root).splits()
    assert splits.notes == ("Listed images without a caption, left out: 1 (g.jpg)",)
    assert len(splits.train) == 3


@pytest.mark.fault("F17")
def test_empty_captions(root):
    append(root / "Flickr8k.token.txt", "a.jpg#2\t \na.jpg#3\t\u200b\n")
    splits = Flickr8k(root).splits()
    assert splits.notes == ("Flickr8k.token.txt: empty captions, left out: 2 (line 13, line 14)",)
    assert len(splits.train.captions(0)) == 2


@pytest.mark.fault("F17")
def test_an_image_with_only_empty_captions_is_left_out(root):
    text = (root / "Flickr8k.token.txt").read_text()
    (root / "Flickr8k.token.txt").write_text(text.replace("A Dog on b.jpg .", ""))
    splits = Flickr8k(root).splits()
    assert [splits.train.key(i) for i in range(len(splits.train))] == ["a.jpg", "c.jpg"]
    assert any(note.endswith("without a caption, left out: 1 (b.jpg)") for note in splits.notes)


def test_repeated_list_lines(root):
    append(root / "Flickr_8k.testImages.txt", "e.jpg\n")
    splits = Flickr8k(root).splits()
    assert splits.notes == ("Flickr_8k.testImages.txt: repeated lines, left out: 1 (e.jpg)",)
    assert len(splits.test[""]) == 2


@pytest.mark.fault("F18")
def test_the_same_photo_in_train_and_test_is_a_leak(root):
    images = root / "images"
    (images / "f.jpg").write_bytes((images / "b.jpg").read_bytes())
    (images / "c.jpg").write_bytes((images / "a.jpg").read_bytes())
    assert Flickr8k(root).splits().notes == (
        "Leak: byte-identical photos in different splits: 1 (b.jpg (train) = f.jpg (test))",
        "Byte-identical photos within one split, kept: 1 (a.jpg (train) = c.jpg (train))",
    )


def test_equal_size_is_not_equal_content(root):
    data = bytearray((root / "images" / "b.jpg").read_bytes())
    data[-3] ^= 1
    (root / "images" / "f.jpg").write_bytes(data)
    assert Flickr8k(root).splits().notes == ()


# ----------------------------------------------------------------------- refused


@pytest.mark.fault("F18")
def test_an_image_in_two_splits(root):
    append(root / "Flickr_8k.testImages.txt", "b.jpg\nd.jpg\n")
    message = refused(Flickr8k(root))
    assert "Flickr_8k.testImages.txt:3: 'b.jpg' is also in split train" in message
    assert "(Flickr_8k.trainImages.txt:2)" in message


@pytest.mark.fault("F15")
def test_a_listed_image_without_a_file(root):
    append(root / "Flickr_8k.trainImages.txt", "".join(f"absent{i}.jpg\n" for i in range(12)))
    message = refused(Flickr8k(root))
    assert "Flickr_8k.trainImages.txt has 12 problems" in message
    assert "Flickr_8k.trainImages.txt:4: 'absent0.jpg' is no file in images" in message
    assert "and 2 more" in message
    assert "6 (a.jpg, b.jpg, c.jpg, ...)" in message


@pytest.mark.fault("F15")
@pytest.mark.fault("F19")
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.jpg#2 no tab", "no tab"),
        ("a.jpg\tno number", "#number"),
        ("a.jpg#\tno number", "#number"),
        ("a.jpg#x\tno number", "#number"),
        ("a.jpg#-1\tno number", "#number"),
        ("#0\tno name", "#number"),
        (" #0\tno name", "#number"),
        ("\tno tag", "#number"),
        ("../../etc/passwd#0\tx", "#number"),
        ("C:\\x.jpg#0\tx", "#number"),
        ("/etc/passwd#0\tx", "#number"),
        ("a.jpg#1\tagain", "again, first on line 2"),
        ("image,caption", "no tab"),
    ],
)
def test_malformed_lines(root, line, fault):
    append(root / "Flickr8k.token.txt", line + "\nbroken too\n")
    message = refused(Flickr8k(root))
    assert "Flickr8k.token.txt has 2 problems" in message
    first, second = [line for line in message.split("\n") if "Flickr8k.token.txt:" in line]
    assert "Flickr8k.token.txt:13: " in first
    assert fault in first
    assert "Flickr8k.token.txt:14: no tab" in second


def test_a_hash_within_the_image_name(root):
    Image.new("RGB", (30, 8)).save(root / "images" / "g#1.jpg")
    append(root / "Flickr_8k.trainImages.txt", "g#1.jpg\n")
    append(root / "Flickr8k.token.txt", "g#1.jpg#0\tA cat .\n")
    assert Flickr8k(root).splits().train.captions(3) == ("a cat .",)


@pytest.mark.fault("F16")
def test_text_in_another_encoding(root):
    append(root / "Flickr8k.token.txt", "")
    data = (root / "Flickr8k.token.txt").read_bytes() + b"a.jpg#2\tA caf\xe9 .\n"
    (root / "Flickr8k.token.txt").write_bytes(data)
    message = refused(Flickr8k(root))
    assert f"Flickr8k.token.txt:13: byte offset {len(data) - 4}: 0xe9" in message
    assert Flickr8k(root, encoding="latin-1").splits().train.captions(0)[2] == "a café ."


@pytest.mark.fault("F15")
@pytest.mark.parametrize("name", ["Flickr8k.token.txt", "Flickr_8k.devImages.txt"])
def test_an_empty_file(root, name):
    (root / name).write_text("")
    assert f"{name} is empty" in refused(Flickr8k(root))
    (root / name).write_text("\n\n")
    assert "has no photo with a caption" in refused(Flickr8k(root))


@pytest.mark.fault("F15")
def test_captions_of_another_set(root):
    (root / "Flickr8k.token.txt").write_text(captions_of(["x.jpg"]))
    assert "Split train has no photo with a caption" in refused(Flickr8k(root))


def test_files_that_are_no_images_are_all_named_before_training(root):
    (root / "images" / "a.jpg").write_bytes(b"")
    (root / "images" / "e.jpg").write_bytes(b"<html>")
    message = refused(Flickr8k(root))
    assert "2 of 6 images cannot be used" in message
    assert "a.jpg is empty" in message
    assert "e.jpg is not an image" in message


def test_a_damaged_body_is_named_when_it_is_read(root):
    photo = root / "images" / "a.jpg"
    photo.write_bytes(photo.read_bytes()[:-4])
    train = Flickr8k(root).splits().train
    with pytest.raises(DataError, match=r"a\.jpg cannot be decoded"):
        train.image(0)
    train.image(1)


@pytest.mark.fault("F19")
def test_a_photo_that_links_out_of_the_folder(root, tmp_path):
    secret = tmp_path / "secret.jpg"
    (root / "images" / "a.jpg").rename(secret)
    (root / "images" / "a.jpg").symlink_to(secret)
    assert "leaves the folder" in refused(Flickr8k(root))


@pytest.mark.fault("F19")
def test_a_photo_replaced_by_a_link_after_the_check(root, tmp_path):
    train = Flickr8k(root).splits().train
    (root / "images" / "a.jpg").rename(tmp_path / "secret.jpg")
    (root / "images" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(DataError, match="leaves the folder"):
        train.image(0)


lines = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from(
            [b"a.jpg#7\tx", b"a.jpg", b"b.jpg#9\t", b"#1\t", b"\xff", b"\t\t", b"../a"]
        ),
    ),
    max_size=6,
).map(b"\n".join)


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@settings(max_examples=60)
@given(st.sampled_from(["Flickr8k.token.txt", "Flickr_8k.trainImages.txt"]), lines, st.booleans())
def test_any_bytes_in_a_text_file_are_read_or_refused(name, data, appended):
    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder) / "set") / name
        path.write_bytes(path.read_bytes() + data if appended else data)
        try:
            splits = Flickr8k(path.parent).splits()
        except DataError:
            return
        for split in (splits.train, splits.val, splits.test[""]):
            assert len(split)
            assert all(split.captions(i) and all(split.captions(i)) for i in range(len(split)))


# ------------------------------------------------------------------ the real files


def test_the_real_data_set(data_root):
    root = data_root / "flickr8k"
    if not root.is_dir():
        pytest.skip(f"needs {root}")
    splits = Flickr8k(root).splits()
    sets = {"train": splits.train, "val": splits.val, "test": splits.test[""]}
    assert len(list((root / "images").iterdir())) == 8091
    assert {name: len(split) for name, split in sets.items()} == {
        "train": 6000,
        "val": 1000,
        "test": 1000,
    }
    assert len({split.key(i) for split in sets.values() for i in range(len(split))}) == 8000
    for split in sets.values():
        assert all(len(split.captions(i)) == 5 for i in range(len(split)))
    dangling, unlisted, twins = splits.notes
    assert dangling.endswith("no image file, left out: 1 (2258277193_586949ec62.jpg.1)")
    assert unlisted.startswith("Captioned images in no split list, left out: 91 (")
    assert twins == (
        "Byte-identical photos within one split, kept: 1 "
        "(2851198725_37b6027625.jpg (train) = 3050606344_af711c726c.jpg (train))"
    )
    assert splits.train.key(0) == "2513260012_03d33305cf.jpg"
    assert splits.train.captions(0)[0] == "a black dog is running after a white dog in the snow ."
    assert splits.train.image(0).shape == (3, 224, 224)
