"""COCO's captions: files in the exact official form, and each fault with its entry."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.data.coco import CocoCaptions
from mmattn.data.dataset import CaptionSource
from mmattn.data.problems import PartlyReadError
from mmattn.errors import ConfigError, DataError

FILES = {
    "train": "annotations/captions_train2017.json",
    "test": "annotations/captions_val2017.json",
}
FOLDERS = {"train": "train2017", "test": "val2017"}


def document(ids, captions=2):
    """A file as COCO has it, with all fields of the release."""
    images = [
        {
            "license": 4,
            "file_name": f"{i:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2017/{i:012d}.jpg",
            "height": 8,
            "width": 9,
            "date_captured": "2013-11-14 17:02:52",
            "flickr_url": "http://farm7.staticflickr.com/x.jpg",
            "id": i,
        }
        for i in ids
    ]
    annotations = [
        {"image_id": i, "id": 100 * i + n, "caption": f"A Dog {n} of picture {i}. "}
        for n in range(captions)
        for i in reversed(ids)
    ]
    info = {"description": "COCO 2017 Dataset", "year": 2017}
    return {"info": info, "licenses": [], "images": images, "annotations": annotations}


def build(root, train=range(1, 7), test=range(7, 9)):
    (root / "annotations").mkdir(parents=True)
    for split, ids in (("train", train), ("test", test)):
        write(root, split, document(list(ids)))
        (root / FOLDERS[split]).mkdir()
        for i in ids:
            Image.new("RGB", (9, 8), (i, 0, 0)).save(root / FOLDERS[split] / f"{i:012d}.jpg")
    return root


def write(root, split, value):
    (root / FILES[split]).write_text(json.dumps(value))


def source(root, **options):
    return CocoCaptions(root, FILES, FOLDERS, **({"val_fraction": 0.4} | options))


def refused(root, **options):
    with pytest.raises(DataError) as caught:
        source(root, **options).splits()
    return str(caught.value)


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "coco")


def test_the_official_files(root):
    read: CaptionSource = source(root)
    splits = read.splits()
    assert [len(splits.train), len(splits.val), len(splits.test[""])] == [4, 2, 2]
    assert splits.test[""].key(0) == "val2017/000000000007.jpg"
    assert splits.test[""].captions(1) == ("a dog 0 of picture 8.", "a dog 1 of picture 8.")
    assert splits.train.image(0).shape == (3, 8, 9)
    assert len(splits.notes) == 1  # which images are held out
    kept = source(root, lower_case=False).splits()
    assert kept.test[""].captions(0)[0] == "A Dog 0 of picture 7."


def test_held_out_images_depend_on_the_seed_alone(root):
    keys = [
        [val.key(i) for i in range(len(val))]
        for val in (source(root, seed=seed).splits().val for seed in (0, 0, 1, 2, 3))
    ]
    assert keys[0] == keys[1]
    assert any(other != keys[0] for other in keys[2:])


def test_files_of_ones_own(root):
    files = {"train": FILES["train"], "dev": FILES["test"]}
    splits = CocoCaptions(root, files, {"train": "train2017", "val": "val2017"}).splits()
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 2, 0)
    assert splits.notes == ("There is no test set: nothing is tested after training",)


@pytest.mark.fault("F17")
def test_empty_captions_and_images_without_any_are_left_out_and_told(root):
    value = document([7, 8])
    for entry in value["annotations"]:
        if entry["image_id"] == 7 or entry["id"] == 800:
            entry["caption"] = " \u200b\n"
    write(root, "test", value)
    splits = source(root).splits()
    assert splits.test[""].captions(0) == ("a dog 1 of picture 8.",)
    assert splits.notes[0] == (
        f"{FILES['test']}: empty captions, left out: 3 "
        "(annotations[0], annotations[1], annotations[3])"
    )
    assert "Split test: images without a caption, left out: 1 (val2017/000000000007" in "".join(
        splits.notes
    )


CHANGES = {
    "images[1]: no field 'file_name' (nearest: 'filename')": lambda v: v["images"][1].update(
        filename=v["images"][1].pop("file_name")
    ),
    "images[0]: 'id' is a text, where an integer": lambda v: v["images"][0].update(id="1"),
    "images[2]: the id 1 again, first images[0]": lambda v: v["images"][2].update(id=1),
    "images[1]: the file_name '000000000001.jpg' again, first images[0]": lambda v: v["images"][
        1
    ].update(file_name="000000000001.jpg"),
    "images[0]: null, where an object": lambda v: v["images"].__setitem__(0, None),
    "annotations[3]: 'caption' is null, where a text": lambda v: v["annotations"][3].update(
        caption=None
    ),
    "annotations[0]: there is no image with the id 77": lambda v: v["annotations"][0].update(
        image_id=77
    ),
    "annotations[5]: the id 600 again, first annotations[0]": lambda v: v["annotations"][5].update(
        id=600
    ),
    "annotations[4]: a text, where an object": lambda v: v["annotations"].__setitem__(4, "x"),
    "half a surrogate pair": lambda v: v["annotations"][0].update(caption="\ud83d"),
    "no field 'annotations'": lambda v: v.pop("annotations"),
    "'images' is an object, where a list": lambda v: v.update(images={}),
    "the file name 'train2017/../../etc/passwd' holds '..'": lambda v: v["images"][0].update(
        file_name="../../etc/passwd"
    ),
    "holds a backslash": lambda v: v["images"][0].update(file_name="C:\\x.jpg"),
    "holds a NUL": lambda v: v["images"][0].update(file_name="a\0.jpg"),
    "'absent.jpg' is no file": lambda v: v["images"][0].update(file_name="sub/absent.jpg"),
}


@pytest.mark.fault("F15")
@pytest.mark.fault("F18")
@pytest.mark.fault("F19")
@pytest.mark.parametrize("said", CHANGES)
def test_a_fault_is_told_with_its_entry(root, said):
    value = document(list(range(1, 7)))
    CHANGES[said](value)
    write(root, "train", value)
    message = refused(root)
    assert said.replace("'absent", "'train2017/sub/absent") in message
    assert "captions_train2017.json" in message


@pytest.mark.fault("F15")
def test_all_faults_of_all_files_are_one_error(root):
    value = document(list(range(1, 7)))
    value["annotations"][0]["caption"] = 3
    value["images"][0]["id"] = "1"
    write(root, "train", value)
    (root / FILES["test"]).write_bytes(b'{"images": [\n}')
    (root / "train2017" / "000000000002.jpg").unlink()
    with pytest.raises(PartlyReadError) as caught:
        source(root).splits()
    problems = "\n".join(caught.value.problems)
    assert "train2017.json:images[0]: 'id' is a text" in problems
    assert "train2017.json:annotations[0]: 'caption' is an integer" in problems
    assert "captions_val2017.json:2: no JSON" in problems
    assert "train2017.json:images[1]: 'train2017/000000000002.jpg' is no file in" in problems
    assert len(caught.value.splits.train) + len(caught.value.splits.val) == 4


@pytest.mark.fault("F18")
def test_an_image_in_training_and_test_is_refused(root):
    same = {"train": FILES["train"], "test": FILES["train"]}
    with pytest.raises(DataError, match=r"is in split test, and in train \(annotations"):
        CocoCaptions(root, same, dict.fromkeys(same, "train2017")).splits()


@pytest.mark.fault("F19")
def test_links_that_leave_the_folder_are_refused(root, tmp_path):
    photo = root / "train2017" / "000000000001.jpg"
    photo.rename(tmp_path / "secret.jpg")
    photo.symlink_to(tmp_path / "secret.jpg")
    assert "leaves the folder" in refused(root)
    photo.unlink()
    photo.symlink_to("000000000002.jpg")
    source(root).splits()
    photo.unlink()
    photo.symlink_to("nowhere.jpg")
    assert "is a link to nothing" in refused(root)
    (root / "val2017").rename(tmp_path / "elsewhere")
    (root / "val2017").symlink_to(tmp_path / "elsewhere")
    assert "leaves the folder" in refused(root)


@pytest.mark.fault("F13")
def test_headers_are_read_where_asked_for(root):
    (root / "train2017" / "000000000001.jpg").write_bytes(b"<html>")
    source(root).splits()
    assert "images[0]: " in refused(root, check_headers=True)


def test_missing_files_say_how_to_get_the_data(tmp_path, root):
    assert "annotations_trainval2017.zip" in refused(tmp_path / "nowhere")
    (root / FILES["test"]).unlink()
    assert "captions_val2017.json: files.test" in refused(root)


def test_settings_that_cannot_be(root):
    with pytest.raises(ConfigError, match="a folder of images for each file"):
        CocoCaptions(root, FILES, {"train": "train2017"})
    with pytest.raises(ConfigError, match=r"files\.tain is no split"):
        CocoCaptions(root, {"tain": "x.json"}, FOLDERS)
    with pytest.raises(ConfigError, match="val_fraction is 0"):
        source(root, val_fraction=0.0).splits()


@pytest.mark.fault("F15")
@pytest.mark.fault("F16")
@settings(max_examples=25)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_bytes_are_read_or_refused(data, at):
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "set", range(1, 3), range(3, 4))
        path = root / FILES["train"]
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + data + whole[at + len(data) :])
        try:
            splits = source(root, val_fraction=0.5).splits()
        except DataError:
            return
        assert len(splits.train)
