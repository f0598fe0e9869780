"""Images decoded once: the same pixels, whoever asks, whatever interrupted the making of them."""

import multiprocessing
import os
import pickle
import resource
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.augment import SampleReader
from mmattn.data.dataset import Splits
from mmattn.data.flickr import Photos
from mmattn.data.image_cache import ImageCache, usual_short_side
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError, ReadError

SIZES = [(20, 30), (31, 20), (20, 20), (64, 48), (50, 120), (24, 24), (33, 21), (20, 90), (40, 41)]
NAMES = tuple(f"{i}.png" for i in range(len(SIZES)))
SIDE = 32


def photos(folder, kind=Photos):
    return kind(folder, NAMES, tuple((f"number {i}",) for i in range(len(NAMES))))


class Counted(Photos):
    """Photos that leave a line in a file for each that is decoded."""

    def image(self, index):
        with (self.folder / "decoded").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super().image(index)


def decoded(folder):
    path = folder / "decoded"
    return path.read_text().split() if path.exists() else []


@pytest.fixture
def folder(tmp_path):
    """Nine photos of noise, one of them cut short."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for name, (height, width) in zip(NAMES, SIZES, strict=True):
        pixels = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    whole = (folder / NAMES[5]).read_bytes()
    (folder / NAMES[5]).write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def cache(tmp_path):
    return ImageCache(tmp_path / "cache", SIDE, threads=2)


def files(tmp_path):
    return sorted(path.suffix for path in (tmp_path / "cache").iterdir())


COMPLETE = [".lock", ".npy", ".rgb"]


def test_small_images_are_kept_as_they_are_and_large_ones_made_smaller(folder, cache):
    plain, cached = photos(folder), cache(photos(folder))
    assert len(cached) == len(plain)
    for i, (height, width) in enumerate(SIZES):
        assert (cached.key(i), cached.captions(i)) == (plain.key(i), plain.captions(i))
        if i == 5:
            continue
        wanted = plain.image(i)
        if min(height, width) > SIDE:
            wanted = v2.Resize(SIDE, antialias=True)(wanted)
            assert min(wanted.shape[1:]) == SIDE
        assert torch.equal(cached.image(i), wanted)


def test_a_damaged_image_stays_the_error_that_it_is(folder, cache):
    for _ in range(2):  # as the cache is made, and from it
        with pytest.raises(DataError, match=r"5\.png cannot be decoded"):
            cache(photos(folder)).image(5)


class Failing(Photos):
    def image(self, index):
        raise ReadError("/photos/0.png: Input/output error")


def test_storage_that_fails_while_a_cache_is_made_leaves_no_hole_in_it(folder, cache):
    with pytest.raises(ReadError, match="Input/output error"):
        cache(photos(folder, Failing))
    assert cache(photos(folder)).image(0).shape[0] == 3


def test_each_image_is_decoded_once(folder, cache):
    for _ in range(2):
        cached = cache(photos(folder, Counted))
        for i in (0, 1, 1):
            cached.image(i)
    assert len(decoded(folder)) == len(NAMES)


def in_place(image):
    return image.fill_(7)


@pytest.mark.parametrize("steps", [[], [v2.RandomResizedCrop((20, 30), scale=(1.0, 1.0))]])
def test_a_transform_that_writes_to_its_image_leaves_the_cache_alone(folder, cache, steps):
    cached = cache(photos(folder))
    kept = cached.image(0).clone()
    reader = SampleReader(cached, v2.Compose([*steps, v2.Lambda(in_place)]), seed=0)
    for _ in range(2):
        assert (reader[0, 0].image == 7).all()
    assert torch.equal(cached.image(0), kept)


def test_another_photo_name_or_side_is_another_cache(folder, cache, tmp_path):
    first = cache(photos(folder))
    Image.new("RGB", (30, 20), "red").save(folder / NAMES[0])
    assert cache(photos(folder)).image(0).float().mean((1, 2)).tolist() == [255, 0, 0]
    assert first.image(0).float().std() > 1  # the old file is left for whoever uses it
    ImageCache(tmp_path / "cache", SIDE + 1)(photos(folder))
    Photos.__init__(shorter := object.__new__(Photos), folder, NAMES[:3], ((), (), ()))
    cache(shorter)
    assert files(tmp_path) == sorted(COMPLETE * 4)


def test_only_a_photo_with_the_time_and_size_of_the_old_one_goes_unnoticed(folder, cache):
    """As the class says: to look at content, every file would have to be read at every start."""
    path = folder / NAMES[0]
    old = cache(photos(folder)).image(0)
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert torch.equal(cache(photos(folder)).image(0), old)


@pytest.mark.parametrize("harm", ["no index", "cut index", "cut pixels", "index of others"])
def test_files_that_do_not_belong_together_are_made_anew(folder, cache, tmp_path, harm):
    wanted = cache(photos(folder)).image(7)
    (pixels,) = (tmp_path / "cache").glob("*.rgb")
    index = pixels.with_suffix(".npy")
    if harm == "no index":
        index.unlink()
    elif harm == "index of others":
        np.save(index, np.zeros((3, 3), np.int64))
    else:
        harmed = index if harm == "cut index" else pixels
        harmed.write_bytes(harmed.read_bytes()[:-10])
    assert torch.equal(cache(photos(folder)).image(7), wanted)
    assert files(tmp_path) == COMPLETE


class Deadly(Photos):
    """Photos of which one kills the process that reads it."""

    def image(self, index):
        if index == 4:
            os._exit(9)
        return super().image(index)


def processes(number, work, *arguments):
    """Run a function in some processes at once; return their exit codes."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=work, args=arguments) for _ in range(number)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        for process in started:
            process.start()
    for process in started:
        process.join(timeout=300)
    return [process.exitcode for process in started]


def test_a_process_that_dies_while_it_makes_a_cache_leaves_nothing_that_lasts(
    folder, cache, tmp_path
):
    assert processes(1, cache, photos(folder, Deadly)) == [9]
    assert ".rgb" not in files(tmp_path)
    assert torch.equal(cache(photos(folder)).image(7), photos(folder).image(7))
    assert files(tmp_path) == COMPLETE


def test_of_several_processes_one_decodes_and_all_read(folder, cache, tmp_path):
    def work(dataset):
        cached = cache(dataset)
        assert all(torch.equal(cached.image(i), photos(folder).image(i)) for i in (0, 7))

    assert processes(3, work, photos(folder, Counted)) == [0, 0, 0]
    assert len(decoded(folder)) == len(NAMES)
    assert len(set(decoded(folder))) == 1
    assert files(tmp_path) == COMPLETE


def test_a_full_disk_is_one_message_and_leaves_nothing(folder, cache, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the photos have 30 kB
    try:
        with pytest.raises(ConfigError, match=r"cannot keep 9 images in .*image_cache=null"):
            cache(photos(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == [".lock"]


def test_a_folder_that_is_none_is_one_message(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"data.image_cache: .*file"):
        ImageCache(tmp_path / "file", SIDE)(photos(folder))


def test_no_pixels_are_sent_to_workers(folder, cache):
    cached = cache(photos(folder))
    cached.image(0)
    sent = pickle.dumps(cached)
    assert len(sent) < 2_000
    assert torch.equal(pickle.loads(sent).image(7), cached.image(7))


def test_the_usual_short_side():
    assert usual_short_side((224, 224)) == 256
    assert usual_short_side((224, 448)) == 512


# ------------------------------------------------------------------ in training


class Captioned:
    def __init__(self, folder, kind):
        self.photos = photos(folder, kind)

    def splits(self):
        return Splits(self.photos, self.photos, {"": self.photos})


class CountedStore(FolderStore):
    def image(self, name):
        with (self.root / "decoded").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super().image(name)


class Labelled:
    def __init__(self, folder):
        pairs = [(NAMES[i], NAMES[-1 - i]) for i in range(len(NAMES) - 1)]
        examples = [Example(str(i), {"a": "xy"[i % 2]}, pair) for i, pair in enumerate(pairs)]
        self.set = LabelledSet(examples, CountedStore(folder))

    def splits(self):
        return LabelledSplits(self.set, self.set, {"": self.set}, {"a": HeadSpec("single")})


@pytest.fixture(params=["captions", "labels"])
def make(request, folder):
    def build(image_cache, **options):
        Image.new("RGB", (24, 24), "green").save(folder / NAMES[5])
        captions = request.param == "captions"
        kind = CaptionDataModule if captions else LabelDataModule
        normalised = ToNormalised([0.5] * 3, [0.5] * 3)
        return kind(
            Captioned(folder, Counted) if captions else Labelled(folder),
            (16, 16),
            v2.Compose([v2.RandomResizedCrop(16), v2.RandomHorizontalFlip(), normalised]),
            v2.Compose([v2.Resize((16, 16)), normalised]),
            TokenizerOptions(None, 300, 1),
            LoaderOptions(3, 3, **options),
            max_length=16,
            seed=2,
            image_cache=image_cache,
            image_cache_side=None if image_cache is None else 200,
        )

    return build


def epoch(data):
    return [(batch.keys, batch.images) for batch in data.train_dataloader()]


def assert_same(one, two):
    for (keys, images), (others, other_images) in zip(one, two, strict=True):
        assert keys == others
        assert torch.equal(images, other_images)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_training_is_the_same_to_the_bit_and_decodes_no_file(make, folder, tmp_path, num_workers):
    plain = epoch(make(None))
    cached = make(str(tmp_path / "cache"), num_workers=num_workers)
    first = cached.train_dataloader()
    (folder / "decoded").unlink()
    for _ in range(2):  # the second epoch draws other crops of the same pixels
        batches = [(batch.keys, batch.images) for batch in first]
    assert not decoded(folder)
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(batches, plain, strict=True))
    assert_same(epoch(make(str(tmp_path / "cache"))), plain)


def test_a_run_with_a_cache_goes_on_where_it_stopped(make, tmp_path):
    folder = str(tmp_path / "cache")
    whole = epoch(make(folder))
    started = make(folder)
    next(iter(started.train_dataloader()))
    resumed = make(folder)
    resumed.load_state_dict(started.state_dict())
    assert_same(epoch(resumed), whole[1:])


def test_figures_are_of_the_files(make, folder, tmp_path):
    data = make(str(tmp_path / "cache"))
    loader = data.val_dataloader()
    (folder / "decoded").unlink()
    list(loader)
    assert len(decoded(folder)) >= len(NAMES)


def test_features_and_decoded_images_are_not_kept_both(make, tmp_path):
    with pytest.raises(ConfigError, match=r"data.image_cache=null, or feature_cache=null"):
        make(str(tmp_path / "cache")).use_features(lambda dataset: dataset)


def test_a_side_of_nothing_or_of_no_cache_is_refused(tmp_path):
    plain = ToNormalised([0.5] * 3, [0.5] * 3)
    parts = (None, (16, 16), plain, plain, TokenizerOptions(None, 300, 1), LoaderOptions(3, 3))
    for cache, said in ((str(tmp_path), "must be at least 1"), (None, r"data\.image_cache=…, or")):
        with pytest.raises(ConfigError, match=rf"data\.image_cache_side=0 .*{said}"):
            CaptionDataModule(*parts, max_length=16, seed=2, image_cache=cache, image_cache_side=0)


class Drawn:
    """Pictures of no file."""

    def __len__(self):
        return 1

    def key(self, index):
        return "drawn"

    def captions(self, index):
        return ("a drawing",)

    def image(self, index):
        return torch.zeros(3, 4, 4, dtype=torch.uint8)


def test_images_that_are_no_files_are_refused_unless_they_have_a_stamp(cache):
    with pytest.raises(ConfigError, match=r"those of Drawn are none, .* data.image_cache=null"):
        cache(Drawn())
    Drawn.stamp = lambda self, index: ("shard-0", 512)
    assert cache(Drawn()).image(0).shape == (3, 4, 4)
