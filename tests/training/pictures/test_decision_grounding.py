"""Relevance of answers measured in training: the figures are those of the examples one by one."""

from functools import partial

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.split_module import LoaderOptions, TokenizerOptions
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.fusion import CrossFusion, GatedFusion
from mmattn.maps.decision import decision_relevance
from mmattn.maps.decision_attention import decision_attention
from mmattn.maps.quality.grounding import averages, ground, totals
from mmattn.maps.quality.randomisation import randomised
from mmattn.patches import LinearPatches
from mmattn.tasks.classification import ClassificationTask
from mmattn.tasks.losses import LossOptions
from mmattn.text import TextTransformer
from mmattn.training.pictures.decision_grounding import DecisionGrounding
from mmattn.vision import VisionTransformer

SIDE, HALF, COLOURS = 16, 8, ["red", "green", "blue"]
ASKED, SILENT = "which colour is it?", "is it a square?"
FIGURES = ("pointing", "pointing_chance", "energy", "energy_ratio", "examples")


class Squares:
    """Pictures of a square in one quarter; a question for its colour is about that quarter."""

    def image(self, name):
        index = int(name.split("/")[-1])
        image = torch.full((3, SIDE, SIDE), 30, dtype=torch.uint8)
        image[index % 3][torch.from_numpy(self.mask(index))] += 200
        return image

    def mask(self, index):
        mask = np.zeros((SIDE, SIDE), dtype=bool)
        top, left = divmod(index % 4, 2)
        mask[top * HALF : (top + 1) * HALF, left * HALF : (left + 1) * HALF] = True
        return mask

    def named_region(self, example):
        if example.text != ASKED:
            return None
        return self.mask(int(example.images[0].split("/")[-1]))


class Plain:
    """The same pictures, without a word on regions."""

    image, mask = Squares.image, Squares.mask


def squares(name, length, store):
    examples = []
    for i in range(length):
        image = (f"{name}/{i}",)
        examples.append(Example(f"{name}/{i}/a", {"answer": COLOURS[i % 3]}, image, ASKED))
        examples.append(Example(f"{name}/{i}/b", {"answer": "yes"}, image, SILENT))
    return LabelledSet(examples, store)


class Source:
    def __init__(self, tests, store):
        self.tests, self.store = tests, store

    def splits(self):
        heads = {"answer": HeadSpec("single", (*COLOURS, "yes"))}
        tests = {name: squares(name or "test", 5, self.store) for name in self.tests}
        train, val = squares("train", 8, self.store), squares("val", 7, self.store)
        return LabelledSplits(train, val, tests, heads)


def make_data(tests=("a", "b"), store=None, transform=None, **options):
    normalised = transform or ToNormalised([0.5] * 3, [0.5] * 3)
    data = LabelDataModule(
        Source(tests, store or Squares()),
        (SIDE, SIDE),
        normalised,
        normalised,
        TokenizerOptions(None, 280),
        LoaderOptions(4, 3),
        max_length=30,
        seed=0,
        **options,
    )
    data.read()
    return data


def make_task(data, fusion=None, vision=True):
    torch.manual_seed(0)
    block = BlockOptions(heads=2)
    text = TextTransformer(data.tokenizer.vocab_size, 16, 1, block, max_length=30, causal=False)
    model = Classifier(
        {"answer": 4},
        vision=VisionTransformer((SIDE, SIDE), LinearPatches(4, 16), 1, block) if vision else None,
        text=text,
        fusion=(fusion or CrossFusion(16, 1, block)) if vision else None,
        may_miss={"image": 0.0} if vision else None,
    )
    settings = data.task_settings()
    loss = LossOptions()
    return ClassificationTask(
        model, optimizer=partial(torch.optim.AdamW, lr=1e-3), scheduler=None, loss=loss, **settings
    )


def expected(model, data, dataset, explain):
    """The figures of every example with a region, one by one."""
    found = []
    for sample in groups(data, dataset):
        batch = data.collate([sample])
        for b, example in enumerate(sample.examples):
            region = dataset.store.named_region(example)
            if region is not None:
                map = explain(model, batch.select([b]))[0, 0].numpy()
                found.append(ground(map, region))
    return averages(totals(found))


def groups(data, dataset):
    reader = data.reader(dataset, data.eval_transform)
    return [reader[0, i] for i in range(len(dataset))]


def relevance(model, batch):
    return decision_relevance(model, batch, "answer", batch.targets["answer"]).image


@pytest.fixture
def run(make_trainer):
    def measure(data, task, what=("validate", "test"), **options):
        trainer, logged = make_trainer(DecisionGrounding(**options)), {}
        for name in what:
            getattr(trainer, name)(task, datamodule=data, verbose=False)
            logged |= {key: float(value) for key, value in trainer.callback_metrics.items()}
        return logged

    return measure


def check(logged, name, figures):
    for key in FIGURES:
        wanted = figures["words" if key == "examples" else key]
        assert logged[f"{name}/{key}"] == pytest.approx(wanted, rel=1e-4), (name, key)


def test_the_figures_of_each_set_are_those_of_its_examples_one_by_one(run):
    data = make_data()
    task = make_task(data)
    logged = run(data, task)
    splits, random = data.splits, randomised(task.model, 0)
    check(logged, "val/attention", expected(task.model, data, splits.val, relevance))
    for name in "ab":
        dataset, at = splits.test[name], f"test/{name}/attention"
        check(logged, at, expected(task.model, data, dataset, relevance))
        check(logged, f"{at}/randomised_weights", expected(random, data, dataset, relevance))
        raw = expected(task.model, data, dataset, decision_attention)
        check(logged, f"{at}/raw_attention", raw)
    assert logged["val/attention/examples"] == 7
    assert logged["val/attention/pointing_chance"] == pytest.approx(0.25)
    assert not [key for key in logged if key.startswith("val/attention/r")]


def test_the_other_question_is_that_of_the_same_image(run):
    """Here every other text is the one silent question, so what is drawn is known."""
    data = make_data()
    task, dataset = make_task(data), data.splits.test["a"]
    logged, found = run(data, task, ["test"]), []
    for sample in groups(data, dataset):
        batch = data.collate([sample])
        map = decision_relevance(task.model, batch.select([1]), "answer").image[0, 0].numpy()
        found.append(ground(map, dataset.store.named_region(sample.examples[0])))
    check(logged, "test/a/attention/other_question", averages(totals(found)))
    own = logged["test/a/attention/energy"]
    assert own != pytest.approx(logged["test/a/attention/other_question/energy"], rel=1e-3)


def test_all_test_sets_together_are_their_examples_together(run):
    data = make_data()
    logged = run(data, make_task(data), ["test"])
    for line in ("", "/randomised_weights", "/other_question", "/raw_attention"):
        energies = [logged[f"test/{name}/attention{line}/energy"] for name in "ab"]
        assert logged[f"attention{line}/examples"] == 10
        assert logged[f"attention{line}/energy"] == pytest.approx(np.mean(energies), rel=1e-5)


def test_no_more_than_the_asked_number_of_examples_is_measured(run):
    data = make_data(("",))
    logged = run(data, make_task(data), examples=3, at_once=1)
    assert logged["val/attention/examples"] == 3
    assert logged["test/attention/examples"] == logged["attention/examples"] == 3


def test_a_summary_that_does_not_attend_to_the_image_has_no_raw_line(run):
    data = make_data()
    task = make_task(data, GatedFusion("image", 16, 1, BlockOptions(heads=2)))
    logged = run(data, task, ["test"])
    assert "test/a/attention/energy" in logged
    assert not [key for key in logged if "raw_attention" in key]


@pytest.mark.parametrize("case", ["plain store", "no image", "no encoder"])
def test_where_nothing_is_known_of_regions_nothing_is_logged(run, case):
    options = {"plain store": {"store": Plain()}, "no image": {"withhold": "image"}}
    data = make_data(**options.get(case, {}))
    logged = run(data, make_task(data, vision=case != "no encoder"))
    assert "val/score" in logged
    assert not [key for key in logged if "attention" in key]


def test_training_goes_on_as_without_it(make_trainer):
    """Neither the weights nor what is drawn at random hears of the measurement."""
    weights = []
    for callbacks in ([], [DecisionGrounding()]):
        data = make_data()
        task = make_task(data)
        torch.manual_seed(1)
        make_trainer(*callbacks, max_epochs=2).fit(task, datamodule=data)
        weights.append([value.clone() for value in task.model.parameters()])
    for a, b in zip(*weights, strict=True):
        assert torch.equal(a, b)


def test_a_transform_of_unknown_geometry_and_an_unknown_head_are_refused(run):
    normalised = ToNormalised([0.5] * 3, [0.5] * 3)
    data = make_data(transform=v2.Compose([v2.RandomCrop(SIDE), normalised]))
    with pytest.raises(ConfigError, match="where RandomCrop puts the pixels is not known"):
        run(data, make_task(data), ["validate"])
    data = make_data()
    with pytest.raises(
        ConfigError, match=r"head is 'mood'; the heads of single classes are answer"
    ):
        run(data, make_task(data), ["validate"], head="mood")
    with pytest.raises(ConfigError, match="examples=0 and at_once=32 must both be 1 or more"):
        DecisionGrounding(examples=0)
