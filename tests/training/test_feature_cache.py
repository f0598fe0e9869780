import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.backbones import TimmPatches
from mmattn.data.augment import keyed_rng
from mmattn.data.dataset import Splits
from mmattn.data.flickr import Photos
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.order import stable_hash
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError
from mmattn.patches import LinearPatches
from mmattn.training.feature_cache import FeatureCache, drawn_view

SIZE = (64, 64)
TRANSFORM = ToNormalised([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


class Pictures:
    """Five random pictures; counts how often one is read. Those in `bad` cannot be."""

    def __init__(self, bad=()):
        self.read, self.bad = 0, bad

    def __len__(self):
        return 5

    def key(self, index):
        return f"picture-{index}"

    def captions(self, index):
        return (f"picture {index}",)

    def image(self, index):
        self.read += 1
        if index in self.bad:
            raise DataError(f"/pictures/{index}.jpg: truncated")
        generator = torch.Generator().manual_seed(index)
        return torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)


@pytest.fixture
def patches():
    torch.manual_seed(0)
    return TimmPatches("mobilenetv2_035", 16, SIZE, frozen=True)


def cache(folder, patches, transform=TRANSFORM, **options):
    device = torch.device("cpu")
    return FeatureCache(folder, patches, transform, batch_size=2, device=device, **options)


class Brighter:
    """Adds what it draws."""

    def __call__(self, image):
        return TRANSFORM(image) + torch.rand(())

    def __repr__(self):
        return "Brighter()"


def test_features_are_those_of_the_backbone_to_half_precision(tmp_path, patches):
    pictures = Pictures()
    features = cache(tmp_path, patches)(pictures)
    assert len(features) == len(pictures)
    for i in range(len(pictures)):
        expected = patches.features(TRANSFORM(pictures.image(i))[None])[0]
        assert features.image(i).dtype == torch.float32
        torch.testing.assert_close(features.image(i), expected, rtol=2e-3, atol=2e-3)
        assert (features.key(i), features.captions(i)) == (pictures.key(i), pictures.captions(i))


def test_a_second_run_reads_no_picture(tmp_path, patches):
    cache(tmp_path, patches)(Pictures())
    again = Pictures()
    features = cache(tmp_path, patches)(again)
    assert again.read == 0
    assert np.isfinite(features.image(4).numpy()).all()


def test_views_are_features_of_augmented_copies(tmp_path, patches):
    """Each by itself, whatever else is encoded with it; the same in every run."""
    kept = cache(tmp_path, patches, augmentation=Brighter(), views=3)
    features, pictures = kept.augmented(Pictures()), Pictures()
    for i in range(len(pictures)):
        with keyed_rng() as reseed:
            for view in range(3):
                reseed(stable_hash(pictures.key(i), view, "view"))
                expected = patches.features(Brighter()(pictures.image(i))[None])[0]
                found = features.image(i)[view].float()
                torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    again = Pictures()
    cache(tmp_path, patches, augmentation=Brighter(), views=3).augmented(again)
    cache(tmp_path, patches, augmentation=TRANSFORM, views=3).augmented(Pictures())
    assert again.read == 0
    kept(Pictures())  # as they are tested
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("views", [0, 2])
def test_mirrored_copies_stand_beside_the_others(tmp_path, patches, views):
    options = {"augmentation": Brighter(), "views": views}
    kept = cache(tmp_path, patches, mirrored=True, **options)
    both, pictures = kept.augmented(Pictures()), Pictures()
    alone = kept if not views else cache(tmp_path, patches, **options).augmented
    ways = alone(Pictures())
    for i in range(len(pictures)):
        found = both.image(i).float()
        assert len(found) == 2 * max(views, 1)
        torch.testing.assert_close(found[::2], ways.image(i).float().view_as(found[::2]))
    flipped = patches.features(TRANSFORM(pictures.image(0).flip(-1))[None])[0]
    if not views:
        torch.testing.assert_close(both.image(0)[1].float(), flipped, rtol=2e-3, atol=2e-3)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "at_once"),
    [({}, 5), ({"mirrored": True}, 4), ({"views": 4, "mirrored": True}, 8), ({"views": 9}, 9)],
)
def test_no_more_copies_than_a_batch_are_encoded_at_once(
    tmp_path, patches, monkeypatch, options, at_once
):
    sizes, features = [], patches.features
    monkeypatch.setattr(patches, "features", lambda x: sizes.append(len(x)) or features(x))
    options = {"augmentation": Brighter(), **options}
    device = torch.device("cpu")
    cache = FeatureCache(tmp_path, patches, TRANSFORM, batch_size=5, device=device, **options)
    found = cache.augmented(Pictures())
    assert max(sizes) == at_once
    assert sum(sizes) == 5 * len(found.image(0))


def test_other_weights_another_transform_or_other_pictures_are_encoded_anew(tmp_path, patches):
    cache(tmp_path, patches)(Pictures())
    other = Pictures()
    cache(tmp_path, patches, ToNormalised([0.4, 0.5, 0.5], [0.5, 0.5, 0.5]))(other)
    assert other.read == len(other)
    with torch.no_grad():
        next(iter(patches.backbone.parameters())).mul_(1.01)
    changed = Pictures()
    cache(tmp_path, patches)(changed)
    assert changed.read == len(changed)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.fixture
def labelled(tmp_path):
    """Examples of photos in a folder, two of them of one photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", SIZE, (80 * i, 0, 0)).save(folder / f"{i}.png")
    examples = [Example(str(i), {"a": "x"}, (f"{i % 3}.png",)) for i in range(4)]
    return LabelledSet(examples, FolderStore(folder))


def test_labelled_images_are_encoded_once_and_anew_when_a_file_changes(tmp_path, patches, labelled):
    folder = tmp_path / "features"
    features = labelled.with_pictures(cache(folder, patches)(labelled.pictures))
    for i in range(len(labelled)):
        expected = patches.features(TRANSFORM(labelled.images(i)[0])[None])[0]
        torch.testing.assert_close(features.images(i)[0], expected, rtol=2e-3, atol=2e-3)
    cache(folder, patches)(labelled.pictures)
    assert len(list(folder.iterdir())) == 1
    Image.new("RGB", SIZE, "white").save(labelled.store.root / "2.png")
    again = cache(folder, patches)(labelled.pictures)
    assert not torch.equal(again.image(2), features.images(2)[0])
    assert torch.equal(again.image(1), features.images(1)[0])


def test_a_file_with_the_time_and_size_of_the_old_one_goes_unnoticed(tmp_path, patches, labelled):
    """As the class says."""
    cache(tmp_path / "features", patches)(labelled.pictures)
    path = labelled.store.root / "0.png"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    cache(tmp_path / "features", patches)(labelled.pictures)
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_what_learns_can_still_be_trained_after_encoding(tmp_path, patches):
    features = cache(tmp_path, patches)(Pictures())
    patches.project(features.image(0)[None]).sum().backward()
    assert patches.project.weight.grad is not None
    assert all(parameter.grad is None for parameter in patches.backbone.parameters())


def test_an_interrupted_encoding_leaves_nothing(tmp_path, patches):
    class Broken(Pictures):
        def image(self, index):
            if index == 3:
                raise KeyboardInterrupt
            return super().image(index)

    with pytest.raises(KeyboardInterrupt):
        cache(tmp_path, patches)(Broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "unfit", [LinearPatches(8, 16), TimmPatches("mobilenetv2_035", 16, SIZE, frozen=False)]
)
def test_an_encoder_that_learns_is_refused(tmp_path, unfit):
    with pytest.raises(ConfigError, match="frozen"):
        cache(tmp_path, unfit)


# ------------------------------------------------------------------ images that cannot be read


@pytest.mark.fault("F13")
@pytest.mark.parametrize("bad", [(1,), (0, 1), (2, 4)])
def test_a_damaged_image_stays_the_error_that_it_is(tmp_path, patches, caplog, bad):
    whole = cache(tmp_path / "whole", patches)(Pictures())
    for warned in (True, False):  # as the file is made, and from it
        caplog.clear()
        features = cache(tmp_path / "features", patches)(Pictures(bad))
        assert (f"{len(bad)} of 5 images cannot be read and" in caplog.text) == warned
        assert features.unreadable == set(bad)
        for i in range(5):
            if i in bad:
                with pytest.raises(DataError, match=rf"^/pictures/{i}\.jpg: truncated$"):
                    features.image(i)
            else:
                torch.testing.assert_close(features.image(i), whole.image(i), rtol=2e-3, atol=2e-3)


def test_files_of_earlier_versions_and_of_whole_sets_are_one_array(tmp_path, patches):
    features = cache(tmp_path, patches)(Pictures())
    (path,) = tmp_path.iterdir()
    before = path.read_bytes()
    np.save(path, np.load(path))
    assert path.read_bytes() == before
    assert features.unreadable == set()


def test_an_image_that_was_mended_unseen_has_no_pixels_in_place_of_features(tmp_path, patches):
    """Its stamp tells where it has one; these pictures have none."""
    pictures = Pictures({3})
    features = cache(tmp_path, patches)(pictures)
    pictures.bad = ()
    with pytest.raises(DataError, match=r"picture-3 could not be read .*\.npy .* delete that file"):
        features.image(3)


def test_a_set_without_a_good_image_is_refused(tmp_path, patches):
    with pytest.raises(DataError, match=r"no image of 5 can be read.*/pictures/0\.jpg"):
        cache(tmp_path, patches)(Pictures(range(5)))
    assert list(tmp_path.iterdir()) == []


def test_no_features_are_sent_to_workers(tmp_path, patches):
    features = cache(tmp_path, patches)(Pictures({2}))
    kept = features.image(1)
    sent = pickle.dumps(features)
    assert len(sent) < 2_000
    assert torch.equal(pickle.loads(sent).image(1), kept)


class Source:
    """Photos with captions, or labelled ones: to train on, and others for figures."""

    def __init__(self, train, val, labels):
        self.sets, self.labels = [self.made(each, labels) for each in (train, val)], labels

    def made(self, folder, labels):
        names = tuple(sorted(path.name for path in folder.iterdir()))
        if not labels:
            return Photos(folder, names, tuple((f"photo {name}",) for name in names))
        examples = [Example(n, {"a": "xy"[i % 2]}, (n,), n) for i, n in enumerate(names)]
        return LabelledSet(examples, FolderStore(folder))

    def splits(self):
        train, val = self.sets
        if self.labels:
            return LabelledSplits(train, val, {"": val}, {"a": HeadSpec("single")})
        return Splits(train, val, {"": val})


@pytest.fixture
def folder(tmp_path):
    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(6):
            Image.new("RGB", SIZE, (40 * i, 0, 0)).save(folder / f"{i}.png")
        return folder

    return make


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.fixture(params=["captions", "labels"])
def make(request, folder, tmp_path, patches):
    """Make a data module of either kind with features of frozen patches, and a run's folder."""
    train, val = folder("train"), folder("val")

    def build(**loader):
        labels = request.param == "labels"
        data = (LabelDataModule if labels else CaptionDataModule)(
            *(Source(train, val, labels), SIZE, TRANSFORM, TRANSFORM),
            TokenizerOptions(None, 300, 1),
            LoaderOptions(2, 2, max_bad_fraction=0.2, **loader),
            max_length=32,
            seed=5,
        )
        data.trainer = SimpleNamespace(default_root_dir=tmp_path, global_rank=0, world_size=1)
        data.read()
        data.use_features(cache(tmp_path / "features", patches))
        return data

    build.train, build.val = train, val
    return build


def test_every_epoch_draws_a_view_by_seed_epoch_and_image(make, tmp_path, patches):
    """With any number of workers; validation sees the images as they are."""
    kept = cache(tmp_path / "features", patches, augmentation=Brighter(), views=4)
    all_drawn = []
    for workers in (0, 2):
        data = make(num_workers=workers)
        data.use_features(kept, kept.augmented, drawn_view)
        train, val = [getattr(each, "pictures", each) for each in data.source.sets]
        views = [kept.augmented(train).image(i).float() for i in range(6)]
        drawn = {}
        loader = data.train_dataloader()
        for epoch in range(3):
            for image in [image for batch in loader for image in batch.images]:
                (place,) = [
                    (i, v) for i in range(6) for v in range(4) if torch.equal(views[i][v], image)
                ]
                drawn[place[0], epoch] = place[1]
        all_drawn.append(drawn)
        assert torch.equal(next(iter(data.val_dataloader())).images[0], kept(val).image(0))
    assert all_drawn[0] == all_drawn[1]
    assert len(all_drawn[0]) == 18
    assert len(set(all_drawn[0].values())) == 4


@pytest.mark.fault("F13")
@pytest.mark.parametrize("policy", ["replace", "skip", "raise"])
def test_a_damaged_photo_does_with_features_what_it_does_without(make, policy, tmp_path):
    damage(make.train / "4.png")
    batches = iter(make(on_bad_sample=policy).train_dataloader())
    if policy == "raise":
        with pytest.raises(DataError, match=r"4\.png cannot be decoded"):
            list(batches)
        return
    batches = list(batches)
    keys = [key for batch in batches for key in batch.keys]
    assert len(keys) == (6 if policy == "replace" else 5)
    assert "4.png" not in keys
    assert all(batch.cached and batch.images.shape[1] > 3 for batch in batches)
    assert b"4.png," in (tmp_path / "bad_images.csv").read_bytes()


@pytest.mark.fault("F13")
def test_figures_stop_at_once_at_a_damaged_photo(make):
    damage(make.val / "5.png")
    data = make()
    assert len(list(data.train_dataloader())) == 3
    with pytest.raises(DataError, match=r"5\.png cannot be decoded"):
        data.val_dataloader()
    with pytest.raises(DataError, match=r"5\.png cannot be decoded"):
        data.test_dataloader()
