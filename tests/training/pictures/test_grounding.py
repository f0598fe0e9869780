from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.grounding import averages, ground, totals
from mmattn.maps.words import group_words
from mmattn.placement import seen_regions
from mmattn.recorder import Recorder
from mmattn.training.pictures.grounding import GroundingMeter, grounded_words


def expected(task, data, dataset, layer):
    """The figures for the word "square" of every image, one by one and in plain steps."""
    found = []
    for index in range(len(dataset)):
        for word, mask in dataset.regions(index).items():
            ids = task.tokenizer.encode(dataset.captions(index)[0])
            recorder = Recorder(["text.*.cross"])
            batch = data.evaluation_batch(dataset, [index])
            tokens = torch.tensor([[[task.tokenizer.begin_id, *ids[:-1]]]])
            with torch.no_grad():
                task.model.eval().decode(task.encode(batch), tokens, recorder)
            weights = recorder.stack("text.*.cross")[layer, 0].mean(0).numpy()  # [T, S]
            text = task.tokenizer.decode(ids)
            (found_word,) = [
                w for w in group_words(text, task.tokenizer.offsets(ids)) if w.text == word
            ]
            map = weights[list(found_word.tokens)].mean(0).reshape(4, 4)
            found.append(ground(map, mask))
    return averages(totals(found))


@pytest.fixture
def tested(make_data, make_task, make_trainer):
    def run(layer=-1, tests=("a", "b"), **options):
        data = make_data(tests)
        task = make_task(data, depth=2)
        trainer = make_trainer(GroundingMeter(map=RawAttention([layer])), **options)
        trainer.validate(task, datamodule=data, verbose=False)
        logged = dict(trainer.callback_metrics)
        trainer.test(task, datamodule=data, verbose=False)
        return {k: float(v) for k, v in (logged | trainer.callback_metrics).items()}, task, data

    return run


@pytest.mark.parametrize("layer", [-1, 0])
def test_the_figures_of_each_set_are_those_of_its_words_one_by_one(tested, layer):
    logged, task, data = tested(layer)
    for name, dataset in {"val": data.splits.val, "test/a": data.splits.test["a"]}.items():
        plain = expected(task, data, dataset, layer)
        assert logged[f"{name}/attention/words"] == plain["words"]
        for key in ("pointing", "pointing_chance", "energy", "energy_ratio"):
            assert logged[f"{name}/attention/{key}"] == pytest.approx(plain[key], rel=1e-5), key


def test_all_test_sets_together_weigh_by_their_words(tested):
    logged, _, _ = tested()
    words = [logged[f"test/{name}/attention/words"] for name in "ab"]
    energies = [logged[f"test/{name}/attention/energy"] for name in "ab"]
    assert logged["attention/words"] == sum(words)
    mean = np.average(energies, weights=words)
    assert logged["attention/energy"] == pytest.approx(mean, rel=1e-5)
    assert logged["attention/pointing_chance"] == pytest.approx(4 / 16)


def test_a_single_unnamed_test_set_needs_no_name(tested):
    logged, _, _ = tested(tests=("",))
    assert logged["test/attention/words"] == logged["attention/words"] == 7  # of nine images
    assert not [key for key in logged if "//" in key]


def test_a_resize_alone_changes_no_figure(make_data, make_task, make_trainer):
    """A resize to the image's own size moves no pixel: the regions are where they were."""
    figures = []
    normalised = ToNormalised([0.5] * 3, [0.5] * 3)
    for transform in (normalised, v2.Compose([v2.Resize([16, 16]), normalised])):
        data = make_data(transform=transform)
        trainer = make_trainer(GroundingMeter())
        trainer.validate(make_task(data), datamodule=data, verbose=False)
        figures.append(trainer.callback_metrics)
    assert figures[0] == figures[1]
    assert "val/attention/words" in figures[0]
    assert "val/attention/unseen_words" not in figures[0]


class Moved:
    """The squares of a set, in images and with regions of their own."""

    def __init__(self, squares):
        self.squares, self.key, self.captions = squares, squares.key, squares.captions

    def __len__(self):
        return len(self.squares)


class Wide(Moved):
    """The squares with eight columns more on the left and on the right, which the crop cuts off.

    The regions of images 1 and 6 move into them; of image 2 half of the region does.
    """

    def image(self, index):
        return v2.functional.pad(self.squares.image(index), [8, 0, 8, 0])

    def regions(self, index):
        moved = {1: 16, 2: -4, 6: -8}.get(index, 0)
        return {
            word: np.roll(np.pad(mask, [(0, 0), (8, 8)]), moved, 1)
            for word, mask in self.squares.regions(index).items()
        }


def test_of_cropped_images_only_what_the_crop_shows_counts(
    make_data, make_task, make_trainer, monkeypatch
):
    normalised = ToNormalised([0.5] * 3, [0.5] * 3)
    data = make_data(transform=v2.Compose([v2.CenterCrop(16), normalised]))
    monkeypatch.setattr(data, "_splits", replace(data.splits, val=Wide(data.splits.val)))
    task = make_task(data)
    trainer = make_trainer(GroundingMeter())
    trainer.validate(task, datamodule=data, verbose=False)
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}

    class Cut(Moved):
        """What the crop shows: the same pixels, with regions that are cut by hand."""

        def image(self, index):
            return self.squares.image(index)

        def regions(self, index):
            masks = self.squares.regions(index)
            if index == 2:
                masks["square"][:, 4:] = False  # its left half is cut off, and the other moved
            return {} if index in (1, 6) else masks

    plain = make_data()
    found = expected(task, plain, Cut(plain.splits.val), -1)
    assert data.splits.val.image(0).shape == (3, 16, 32)
    assert logged["val/attention/words"] == found["words"] == 12 - 3 - 2
    assert logged["val/attention/unseen_words"] == 2
    for key in ("pointing", "pointing_chance", "energy", "energy_ratio"):
        assert logged[f"val/attention/{key}"] == pytest.approx(found[key], rel=1e-5), key


def test_a_transform_of_unknown_geometry_is_refused_before_anything_runs(
    make_data, make_task, make_trainer
):
    normalised = ToNormalised([0.5] * 3, [0.5] * 3)
    data = make_data(transform=v2.Compose([v2.RandomCrop(16), normalised]))
    trainer = make_trainer(GroundingMeter(), num_sanity_val_steps=1)
    with pytest.raises(ConfigError, match="where RandomCrop puts the pixels is not known"):
        trainer.fit(make_task(data), datamodule=data)
    assert trainer.global_step == 0


def test_the_keys_of_a_set_are_asked_for_once(make_data, make_task, make_trainer, monkeypatch):
    """Not with every batch: that would be quadratic in the length of the set."""
    data = make_data(batch_size=1)
    asked = []

    class Counting(Moved):
        def __init__(self, squares):
            super().__init__(squares)
            self.image, self.regions = squares.image, squares.regions
            self.key = lambda index: asked.append(index) or squares.key(index)

    reading = len(data.splits.val)  # each image's batch names it
    monkeypatch.setattr(data, "_splits", replace(data.splits, val=Counting(data.splits.val)))
    trainer = make_trainer(GroundingMeter())
    trainer.validate(make_task(data), datamodule=data, verbose=False)
    assert len(asked) == 2 * reading
    assert "val/attention/words" in trainer.callback_metrics


class Plain:
    """The same images, without a word on regions."""

    def __init__(self, dataset):
        self.key, self.captions, self.image = dataset.key, dataset.captions, dataset.image
        self.length = len(dataset)

    def __len__(self):
        return self.length


def test_sets_without_regions_log_nothing(make_data, make_task, make_trainer, monkeypatch):
    data = make_data()
    tests = {name: Plain(dataset) for name, dataset in data.splits.test.items()}
    monkeypatch.setattr(data, "_splits", replace(data.splits, test=tests))
    trainer = make_trainer(GroundingMeter())
    trainer.test(make_task(data), datamodule=data, verbose=False)
    assert not [key for key in trainer.callback_metrics if "attention" in key]


def test_images_without_a_region_are_passed_over(make_data, make_task):
    data = make_data()
    task, dataset = make_task(data), data.splits.val
    regions = [dataset.regions(index) for index in (0, 1, 2)]
    assert regions[0] == {}

    def found(*indices):
        batch = data.evaluation_batch(dataset, list(indices))
        seen = [seen_regions(regions[i], data.eval_transform) for i in indices]
        return grounded_words(task, batch, seen, RawAttention())

    both, alone = found(0, 1, 2), [*found(1), *found(2)]
    assert len(both) == 2
    assert found(0) == []
    for a, b in zip(both, alone, strict=True):
        assert (a.hit, a.chance) == (b.hit, b.chance)
        assert a.energy == pytest.approx(b.energy, rel=1e-5)
