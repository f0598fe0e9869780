from dataclasses import replace

import numpy as np
import pytest
import torch

from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.grounding import ground, summarise
from mmattn.maps.words import group_words
from mmattn.recorder import Recorder
from mmattn.training.grounding import GroundingMeter, grounded_words


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
    return summarise(found)


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
        assert logged[f"{name}/attention/words"] == plain["count"]
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
        return grounded_words(task, batch, [regions[i] for i in indices], RawAttention())

    both, alone = found(0, 1, 2), [*found(1), *found(2)]
    assert len(both) == 2
    assert found(0) == []
    for a, b in zip(both, alone, strict=True):
        assert (a.hit, a.chance) == (b.hit, b.chance)
        assert a.energy == pytest.approx(b.energy, rel=1e-5)
