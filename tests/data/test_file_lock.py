"""Locks on files: one process at a time, and a word where the file system has none."""

import errno
import fcntl

import numpy as np
import pytest
from PIL import Image

from mmattn.data.bad_samples import BadSamples
from mmattn.data.file_lock import lock
from mmattn.data.flickr import Photos
from mmattn.data.image_cache import ImageCache
from mmattn.errors import DataError


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, as Lustre is mounted by default."""

    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_lock_keeps_others_out_until_the_file_is_closed(tmp_path):
    """Two openings of a file have locks of their own, as those of two processes have."""
    path = tmp_path / "file"
    with path.open("a") as mine:
        assert lock(mine)
        with path.open("a") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("a") as other:
        assert lock(other)


def test_who_is_waited_for_is_said(tmp_path, monkeypatch, caplog):
    calls = []

    def flock(_, how):
        calls.append(how)
        if how & fcntl.LOCK_NB:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("fcntl.flock", flock)
    caplog.set_level("INFO")
    with (tmp_path / "file").open("a") as file:
        assert lock(file, "the other one")
    assert calls == [fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_EX]
    assert f"waiting for the other one ({tmp_path / 'file'})" in caplog.text


def test_a_file_system_without_locks_is_warned_of_once(tmp_path, no_locks, caplog):
    for _ in range(2):
        with (tmp_path / "file").open("a") as file:
            assert not lock(file)
    said = f"{tmp_path} cannot be locked (Function not implemented): keep other runs out of it"
    assert warnings(caplog) == [said]


def test_bad_images_are_reported_without_locks(tmp_path, no_locks):
    report = tmp_path / "bad_images.csv"
    BadSamples(9, 0.5, report=report).add(1, "a.jpg", DataError("cut"))
    assert report.read_text().splitlines() == ["image,reason", "a.jpg,cut"]


def test_decoded_images_are_kept_without_locks(tmp_path, no_locks):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos = Photos(tmp_path, ("a.png",), (("one",),))
    cached = ImageCache(tmp_path / "cache", 32)(photos)
    assert np.array_equal(cached.image(0).permute(1, 2, 0).numpy(), pixels)
    kept = [path.suffix for path in (tmp_path / "cache").iterdir()]
    assert sorted(kept) == [".lock", ".npy", ".rgb"]


def test_without_locks_each_process_writes_a_file_of_its_own(tmp_path, monkeypatch, no_locks):
    """What two processes of one machine wrote at once into one file would be of neither."""
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    names = []

    class Looking(Photos):
        def image(self, index):
            names.append({path.name for path in (tmp_path / "cache").glob("*.unfinished")})
            return super().image(index)

    for number in (11, 12):
        monkeypatch.setattr("os.getpid", lambda number=number: number)
        photos = Looking(tmp_path, ("a.png",), (("one",),))
        ImageCache(tmp_path / "cache", 32)(photos)
        for path in (tmp_path / "cache").glob("*.npy"):
            path.unlink()
    (first,), (second,) = names
    assert first != second
