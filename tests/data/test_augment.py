import contextlib
import random

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmattn.data.augment import SampleReader, keyed_rng
from mmattn.data.bad_samples import BadSamples
from mmattn.data.loader import StatefulLoader
from mmattn.errors import ConfigError, DataError, ReadError


class Pictures:
    """A `CaptionDataset` of small noise images; those in `bad` cannot be read."""

    def __init__(self, length=12, bad=()):
        noise = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(20, 200, (length, 3, 48, 56), generator=noise).byte()
        self.bad = set(bad)

    def __len__(self):
        return len(self.pixels)

    def key(self, index):
        return f"{index}.jpg"

    def captions(self, index):
        return tuple(f"caption {n} of {index}" for n in range(1 + index % 5))

    def image(self, index):
        if index in self.bad:
            raise DataError(f"/pictures/{index}.jpg: truncated")
        return self.pixels[index]


AUGMENT = v2.Compose(
    [
        v2.RandomResizedCrop(24),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        v2.TrivialAugmentWide(),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomErasing(),
    ]
)
# Every other random transform of torchvision that takes one image.
RANDOM_TRANSFORMS = [
    v2.AugMix(),
    v2.AutoAugment(),
    v2.ElasticTransform(),
    v2.GaussianBlur(3),
    v2.RandAugment(),
    v2.RandomAdjustSharpness(2.0),
    v2.RandomAffine(30, translate=(0.2, 0.2)),
    v2.RandomApply([v2.Grayscale(3)]),
    v2.RandomAutocontrast(),
    v2.RandomChannelPermutation(),
    v2.RandomChoice([v2.RandomInvert(), v2.RandomEqualize()]),
    v2.RandomCrop(32),
    v2.RandomGrayscale(0.5),
    v2.RandomOrder([v2.RandomInvert(), v2.RandomSolarize(100)]),
    v2.RandomPerspective(),
    v2.RandomPhotometricDistort(),
    v2.RandomPosterize(3),
    v2.RandomRotation(40),
    v2.RandomVerticalFlip(),
    v2.RandomZoomOut(),
    v2.ScaleJitter((64, 64)),
]


def reader(**options):
    return SampleReader(Pictures(), AUGMENT, seed=3, **options)


def equal(a, b):
    return a.key == b.key and a.captions == b.captions and torch.equal(a.image, b.image)


def stir():
    """Put every global generator into another state."""
    torch.rand(1)
    random.random()
    np.random.rand()


@pytest.mark.parametrize("transform", RANDOM_TRANSFORMS, ids=lambda t: type(t).__name__)
def test_a_random_transform_is_a_function_of_the_key_alone(transform):
    image = Pictures().pixels[0]
    drawn = []
    for key in (*range(8), *range(8)):
        stir()
        with keyed_rng() as reseed:
            reseed(key)
            drawn.append(transform(image).clone())
    first, again = drawn[:8], drawn[8:]
    assert all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(a.shape != first[0].shape or not torch.equal(a, first[0]) for a in first)


def test_random_transforms_leave_python_and_numpy_generators_alone():
    python, legacy = random.getstate(), np.random.get_state()[1].copy()
    with keyed_rng() as reseed:
        for key, transform in enumerate(RANDOM_TRANSFORMS):
            reseed(key)
            transform(Pictures().pixels[0])
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state()[1], legacy)


def test_keyed_rng_puts_the_global_state_back_even_after_an_exception():
    torch.manual_seed(11)
    torch.randn(1)  # leaves a cached normal behind, which is part of the state
    state = torch.get_rng_state()
    with contextlib.suppress(KeyError), keyed_rng() as reseed:
        reseed(5)
        assert not torch.equal(torch.get_rng_state(), state)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sample_does_not_depend_on_what_was_read_before():
    keys = [(epoch, index) for epoch in (0, 1) for index in range(12)]
    together = reader(captions_per_image=2).__getitems__(keys)
    stir()
    apart = {key: reader(captions_per_image=2)[key] for key in reversed(keys)}
    assert all(equal(a, apart[key]) for key, a in zip(keys, together, strict=True))


def test_seed_epoch_and_image_each_change_what_is_drawn():
    one_image = Pictures()
    one_image.pixels[:] = one_image.pixels[0].clone()
    base, other_seed = (SampleReader(one_image, AUGMENT, seed) for seed in (3, 4))
    a, *others = base[0, 1], base[1, 1], base[0, 2], other_seed[0, 1]
    assert not any(torch.equal(a.image, b.image) for b in others)


def test_reading_leaves_the_global_state_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    reader(captions_per_image=1).__getitems__([(0, 0), (0, 1)])
    assert torch.equal(torch.get_rng_state(), state)


def test_all_captions_come_in_their_own_order():
    samples = reader().__getitems__([(0, index) for index in range(12)])
    assert [s.captions for s in samples] == [Pictures().captions(i) for i in range(12)]


def test_each_caption_is_drawn_before_any_comes_twice():
    for sample in reader(captions_per_image=3).__getitems__([(4, index) for index in range(12)]):
        offered = Pictures().captions(int(sample.key.removesuffix(".jpg")))
        assert len(sample.captions) == 3
        assert len(set(sample.captions)) == min(3, len(offered))
        assert set(sample.captions) <= set(offered)


def test_all_captions_are_drawn_in_the_long_run():
    drawn = {reader(captions_per_image=1)[epoch, 4].captions[0] for epoch in range(40)}
    assert drawn == set(Pictures().captions(4))


def test_captions_and_image_are_drawn_apart():
    def lots(image):
        return torch.randperm(5)

    reader = SampleReader(Pictures(), lots, seed=3, captions_per_image=5)
    offered = Pictures().captions(4)
    samples = [reader[epoch, 4] for epoch in range(20)]
    alike = [s.captions == tuple(offered[i] for i in s.image.tolist()) for s in samples]
    assert sum(alike) < 3


def stream(num_workers, dataset):
    return list(
        StatefulLoader(
            dataset,
            batch_size=4,
            seed=1,
            collate_fn=list,
            shuffle=True,
            drop_last=False,
            num_workers=num_workers,
        )
    )


def test_workers_draw_what_this_process_draws():
    here = stream(0, reader(captions_per_image=2))
    there = stream(2, reader(captions_per_image=2))
    assert len(here) == len(there) == 3
    for a, b in zip(here, there, strict=True):
        assert all(equal(x, y) for x, y in zip(a, b, strict=True))


def bad_reader(bad, max_bad_fraction=None):
    kept = None if max_bad_fraction is None else BadSamples(12, max_bad_fraction)
    return reader_counting_in(kept, bad)


def reader_counting_in(kept, bad):
    return SampleReader(Pictures(bad=bad), AUGMENT, seed=3, bad=kept)


def test_a_bad_image_raises_by_default():
    with pytest.raises(DataError, match=r"/pictures/5\.jpg: truncated"):
        bad_reader({5})[0, 5]


def test_a_bad_image_is_replaced_by_the_same_one_in_any_company(caplog):
    options = {"max_bad_fraction": 0.5}
    replacing = bad_reader({5, 6}, **options)
    batch = replacing.__getitems__([(0, index) for index in range(12)])
    assert equal(batch[5], bad_reader({5, 6}, **options)[0, 5])
    assert {batch[5].key, batch[6].key}.isdisjoint({"5.jpg", "6.jpg"})
    whole = SampleReader(Pictures(), AUGMENT, seed=3)
    assert all(equal(batch[i], whole[0, i]) for i in range(12) if i not in (5, 6))
    assert equal(batch[5], whole[0, int(batch[5].key.removesuffix(".jpg"))])
    replacing.__getitems__([(1, index) for index in range(12)])
    named = [record.getMessage() for record in caplog.records]
    assert sum("/pictures/5.jpg" in line for line in named[:2]) == 1


def test_each_bad_image_is_logged_once_by_a_reader(caplog):
    replacing = bad_reader({5, 6}, max_bad_fraction=0.5)
    for epoch in range(3):
        replacing.__getitems__([(epoch, index) for index in range(12)])
    assert len(caplog.records) == 2


def test_bad_images_found_by_workers_are_counted_here():
    kept = BadSamples(12, 0.5)
    batches = stream(2, reader_counting_in(kept, {2, 9}))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert kept.count == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_bad_images_are_an_error_with_both_numbers(num_workers):
    replacing = bad_reader({1, 2, 3, 4}, max_bad_fraction=0.25)
    message = ""
    try:
        stream(num_workers, replacing)
    except DataError as error:
        message = str(error)
        error.__traceback__ = None  # torch made a cycle of it, and would wait 10 s for its workers
    assert "4 of 12 images" in message
    assert "max_bad_fraction=0.25" in message


class OnFailingDisk(Pictures):
    def image(self, index):
        raise ReadError(f"/pictures/{index}.jpg: Input/output error")


@pytest.mark.fault("F13")
@pytest.mark.parametrize("skip", [True, False])
def test_no_other_sample_stands_in_where_storage_failed(skip):
    bad = BadSamples(12, 0.9, skip=skip)
    with pytest.raises(ReadError, match=r"5\.jpg: Input/output error"):
        SampleReader(OnFailingDisk(), AUGMENT, seed=3, bad=bad)[0, 5]
    assert bad.count == 0


def test_a_set_of_bad_images_only_ends_in_the_error():
    with pytest.raises(DataError, match="of 12 images"):
        bad_reader(set(range(12)), max_bad_fraction=0.9)[0, 0]


def test_no_caption_cannot_be_drawn():
    with pytest.raises(ConfigError, match="captions_per_image=0"):
        reader(captions_per_image=0)
