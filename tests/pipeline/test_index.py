"""An index on disk follows its folder, computes nothing twice, and survives being killed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import mmattn
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.embedder import ImageEmbedder
from mmattn.pipeline.image_files import image_files
from mmattn.pipeline.index_file import File, Stored, content_key, joined, read_index, write_index
from mmattn.pipeline.joint_pipeline import JointPipeline

SETTINGS = {"batch_size": 2, "threads": 2, "max_pixels": 10**6}


@pytest.fixture(scope="module")
def joint(make_joint):
    return JointPipeline(make_joint())


@pytest.fixture
def place(tmp_path):
    return tmp_path / "indexes" / "photos.index"


@pytest.fixture
def update(joint, place, folder):
    """Bring the index up to date with the folder, or with other files."""
    return lambda *wanted: joint.index_update(place, **SETTINGS)(
        list(wanted) or image_files(folder)
    )


@pytest.fixture
def embedded(monkeypatch):
    """How many pictures the model has seen."""
    counts, vectors = [], ImageEmbedder.vectors

    def count(self, images):
        counts.append(len(images))
        return vectors(self, images)

    monkeypatch.setattr(ImageEmbedder, "vectors", count)
    return lambda: [sum(counts), counts.clear()][0]


def paint(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def agrees(joint, found, folder):
    """Compare an index with the folder that it is of."""
    assert found.names == [str(path) for path in image_files(folder)]
    torch.testing.assert_close(found.stored.vectors, joint.embed(folder), atol=1e-6, rtol=0)


def leftovers(place):
    return sorted(path.name for path in place.parent.iterdir() if path != place)


def test_it_holds_what_the_model_says_and_nothing_is_done_twice(joint, update, folder, embedded):
    first = update()
    agrees(joint, first, folder)
    assert (first.new, first.dropped, embedded() > 0) == (6, 0, True)
    again = update()
    assert (again.new, again.dropped, embedded()) == (0, 0, 0)
    agrees(joint, again, folder)


def test_new_changed_moved_and_vanished_files(joint, update, folder, place, embedded):
    update()
    embedded()
    paint(folder / "new.png", 1)
    paint(folder / "photo 0.png", 2)
    (folder / "photo 2.png").unlink()
    (folder / "photo 4.png").rename(folder / "moved.png")
    os.utime(folder / "deep" / "er" / "photo 1.png", (1, 1))  # touched, not changed
    found = update()
    assert embedded() == 2  # what is moved or touched has its embedding already
    assert (found.new, found.dropped, found.unreadable) == (4, 2, [])
    agrees(joint, found, folder)
    paths = [file.path for file in read_index(place, joint.fingerprint).files]
    assert sorted(paths) == sorted(found.names)


def test_a_change_that_keeps_the_size_is_noticed(joint, update, folder):
    target = folder / "photo 0.bmp"
    paint(target, 1)
    update()
    size = target.stat().st_size
    paint(target, 2)
    assert target.stat().st_size == size
    assert update().new == 1


def test_files_that_are_not_wanted_now_stay(joint, update, folder, place, embedded):
    update()
    embedded()
    found = update(folder / "photo 2.png", folder / "photo 0.png")
    assert found.names == [str(folder / "photo 2.png"), str(folder / "photo 0.png")]
    assert found.stored.vectors.equal(joint.embed(found.names))
    assert (embedded(), found.dropped) == (2, 0)  # by `embed` above
    assert len(read_index(place, joint.fingerprint).files) == 6


def test_unreadable_files_are_told_and_tried_again(joint, update, folder):
    (folder / "bad.png").write_bytes(b"spoilt")
    os.mkfifo(folder / "pipe.png")
    wanted = [*image_files(folder), folder / "pipe.png", folder / "gone.png"]
    found = update(*wanted)
    told = {Path(one.name).name: str(one.error) for one in found.unreadable}
    assert told.keys() == {"bad.png", "pipe.png", "gone.png"}
    assert "is not a regular file" in told["pipe.png"]
    assert len(found.names) == 6
    paint(folder / "bad.png", 3)
    found = update(*wanted)
    assert len(found.names) == 7
    assert len(found.unreadable) == 2


def test_a_readable_file_that_is_spoilt_leaves_the_index(update, folder):
    update()
    (folder / "photo 0.png").write_bytes(b"spoilt")
    found = update()
    assert len(found.names) == 5
    assert [Path(one.name).name for one in found.unreadable] == ["photo 0.png"]


def test_where_nothing_can_be_read_there_is_no_index(update, folder, place):
    (folder / "bad.png").write_bytes(b"spoilt")
    found = update(folder / "bad.png")
    assert (found.names, len(found.unreadable)) == ([], 1)
    assert not place.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_it_loses_nothing(joint, update, folder, place, monkeypatch, embedded, error):
    vectors = ImageEmbedder.vectors
    batches = []

    def stop(self, images):
        batches.append(len(images))
        if len(batches) == 3:
            raise error
        return vectors(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ImageEmbedder, "vectors", stop)
        with pytest.raises(error):
            update()
    assert not place.exists()
    assert len(leftovers(place)) == 1
    embedded()
    found = update()
    assert embedded() == 2
    agrees(joint, found, folder)
    assert leftovers(place) == []


def test_a_killed_process_loses_what_is_after_its_last_piece(
    joint, update, folder, place, embedded
):
    """Every embedding is a piece of its own here; the process dies at the fourth."""
    code = f"""
import os, sys
from pathlib import Path
import mmattn
from mmattn.pipeline import index_update
from mmattn.pipeline.image_files import image_files
index_update.PIECE_SECONDS = -1.0
write, done = index_update.IndexUpdate.write_piece, []
def dying(self, *given):
    write(self, *given)
    done.append(1)
    if len(done) == 3:
        os.kill(os.getpid(), 9)
index_update.IndexUpdate.write_piece = dying
joint = mmattn.load({str(joint.save(folder.parent / "model"))!r})
joint.index_update(Path({str(place)!r}), batch_size=1, threads=1, max_pixels=10**6)(
    image_files({str(folder)!r})
)
"""
    root = str(Path(mmattn.__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert not place.exists()
    assert len(leftovers(place)) == 3
    embedded()
    found = update()
    assert embedded() == 3
    agrees(joint, found, folder)
    assert leftovers(place) == []


def test_another_models_index_is_refused_and_stays(joint, make_joint, update, place, folder):
    update()
    before = place.read_bytes()
    other = JointPipeline(make_joint(seed=1))
    with pytest.raises(ConfigError, match="another model made this index") as caught:
        other.index_update(place, **SETTINGS)(image_files(folder))
    assert str(place) in str(caught.value)
    assert "give another file with --index, or remove it" in str(caught.value)
    assert place.read_bytes() == before


def spoilt(place, name):
    """Spoil an index in one way."""
    tensors = load_file(place)
    with_model = {"format": "mmattn-index-1", "model": name}
    ways = {
        "text": lambda: place.write_text("no index"),
        "cut": lambda: place.write_bytes(place.read_bytes()[:-50]),
        "empty": lambda: place.write_bytes(b""),
        "weights": lambda: save_file(tensors, place, {"format": "pt"}),
        "short": lambda: save_file({**tensors, "sizes": tensors["sizes"][1:]}, place, with_model),
        "half": lambda: save_file(
            {**tensors, "embeddings": tensors["embeddings"].half()}, place, with_model
        ),
        "lacking": lambda: save_file(
            {k: v for k, v in tensors.items() if k != "keys"}, place, with_model
        ),
    }
    return ways


@pytest.mark.parametrize("way", ["text", "cut", "empty", "weights", "short", "half", "lacking"])
def test_a_file_that_is_no_index_is_named_and_stays(joint, update, place, way):
    update()
    spoilt(place, joint.fingerprint)[way]()
    before = place.read_bytes()
    with pytest.raises(DataError, match=r"is no index of|does not agree with itself") as caught:
        update()
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert place.read_bytes() == before


def test_names_of_any_letters_come_back(joint, place, folder):
    for name in ("ü 犬.png", "new\nline.png", os.fsdecode(b"\xff.png")):
        shutil.copy(folder / "photo 0.png", folder / name)
    found = joint.index_update(place, **SETTINGS)(image_files(folder))
    assert found.names == [str(path) for path in image_files(folder)]
    files = read_index(place, joint.fingerprint).files
    assert {file.path for file in files} == set(found.names)


def test_of_a_file_that_is_twice_the_last_counts_and_order_can_be_chosen():
    def stored(*files):
        return Stored(
            [File(f"/{name}", n, n, bytes(16)) for name, n in files],
            torch.tensor([[float(n)] for _, n in files]).view(-1, 1),
        )

    parts = [stored(("a", 1), ("b", 2)), stored(), stored(("b", 3), ("c", 4))]
    found = joined(parts, 1, first=["/c", "/nowhere", "/b"])
    assert [file.path for file in found.files] == ["/c", "/b", "/a"]
    assert found.vectors[:, 0].tolist() == [4, 3, 1]
    assert joined([], 5).vectors.shape == (0, 5)


def test_an_index_is_mapped_into_memory_and_comes_back(tmp_path):
    vectors = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0))
    files = [File(f"/{i}", i, i, i.to_bytes(16, "big")) for i in range(1000)]
    path = tmp_path / "a.index"
    write_index(path, Stored(files, vectors), "m")
    read = read_index(path, "m")
    assert read.files == files
    assert read.vectors.equal(vectors)
    assert str(path) in Path("/proc/self/maps").read_text()  # nothing was copied
    write_index(path, Stored(files[:1], vectors[:1]), "m")
    assert read.vectors.equal(vectors)  # a new file takes the place of the old one


def test_content_has_a_key(tmp_path):
    for name, data in (("a", b"x"), ("b", b"x"), ("c", b"y")):
        (tmp_path / name).write_bytes(data)
    a, b, c = (content_key(tmp_path / name) for name in "abc")
    assert a == b != c
    assert len(a) == 16
