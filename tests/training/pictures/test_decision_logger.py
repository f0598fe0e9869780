"""Decisions in a real run: the same probes over training, and the surest mistakes of each set."""

import json
import re
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torchvision.transforms import v2

from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError
from mmattn.maps.decision_archive import load_decision
from mmattn.maps.decision_sheet import decision_sheet
from mmattn.training.pictures.decision_logger import DecisionLogger
from mmattn.training.pictures.decision_records import example_batch
from mmattn.training.pictures.probes import Probes


@pytest.fixture
def fitted(make_label_data, make_label_task, make_trainer, tmp_path):
    """Fit and test; return the folder of the decisions, the task and the data."""

    def fit(of=("colour",), logger=False, epochs=1, data=None, **options):
        data = data or make_label_data(of)
        task = make_label_task(data)
        sizes = {"probes": Probes(size=2), "mistakes": 3, "test_mistakes": 2}
        callback = DecisionLogger(str(tmp_path / "decisions"), **(sizes | options))
        trainer = make_trainer(callback, logger=logger, max_epochs=epochs)
        trainer.fit(task, datamodule=data)
        trainer.test(task, datamodule=data, verbose=False)
        return tmp_path / "decisions", task, data

    return fit


def records(folder):
    paths = sorted(folder.rglob("*.npz"))
    for path in paths:  # a picture beside each
        picture = np.asarray(Image.open(path.with_suffix(".png")))
        np.testing.assert_array_equal(picture, decision_sheet(load_decision(path)))
    return [load_decision(path) for path in paths]


def surest(task, data, dataset, count):
    """The most confident mistakes, example by example."""
    found = []
    for example in dataset.examples:
        with torch.no_grad():
            scores = task.model.eval()(example_batch(task, data, dataset, [example.key]))["colour"]
        share, number = scores[0].softmax(-1).max(-1)
        if task.classes["colour"].names[int(number)] != example.labels["colour"]:
            found.append((float(share), example.key))
    return sorted(found, reverse=True)[:count]


def test_the_mistakes_are_those_that_the_model_is_surest_of(fitted):
    folder, task, data = fitted()
    step = "step-000004"
    for place, dataset, count in (
        ("val", data.splits.val, 3),
        ("test-a", data.splits.test["a"], 2),
        ("test-b", data.splits.test["b"], 2),
    ):
        shown = records(folder / place / step / "mistakes")
        expected = surest(task, data, dataset, count)
        assert len(shown) == len(expected) == count
        found = sorted(((one.classes[0].probability, one.key) for one in shown), reverse=True)
        assert [share for share, _ in found] == pytest.approx([s for s, _ in expected], rel=1e-4)
        assert {key for _, key in found} == {key for _, key in expected}
        for one in shown:
            assert one.wrong
            assert (one.set, one.why, one.step, *one.heads) == (
                place.replace("-", "/"),
                "mistake",
                4,
                "colour",
            )


def test_probes_are_the_same_at_every_validation_and_the_page_shows_all(fitted):
    folder, _, data = fitted(epochs=2, mistakes=0, test_mistakes=0)
    first, second = (records(folder / "val" / f"step-{step:06d}") for step in (4, 8))
    assert [one.key for one in first] == [one.key for one in second]
    examples = data.splits.val.examples
    assert {one.key for one in first} == {examples[0].key, examples[-1].key}
    page = (folder / "index.html").read_text("utf-8")
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    groups = json.loads(text)["groups"]
    assert [len(group["entries"]) for group in groups] == [2, 2]


def test_heads_of_every_kind_but_words_each_have_their_folder(fitted):
    folder, _, _ = fitted(("colour", "marks", "answer", "tags"), test_mistakes=1)
    step = folder / "val" / "step-000004"
    assert {path.name for path in (step / "probes").iterdir()} == {"colour", "marks", "answer"}
    for head in ("colour", "marks", "answer"):
        shown = records(step / "probes" / head)
        assert [list(one.heads) for one in shown] == [[head]] * 2


def test_examples_can_be_chosen_by_name_and_heads_too(fitted):
    probes = Probes("test/b", keys=["b/3/1", "b/0/0"])
    folder, _, _ = fitted(("colour", "place"), heads=["place"], probes=probes, mistakes=0)
    shown = records(folder / "test-b" / "step-000004" / "probes")
    assert sorted(one.key for one in shown) == ["b/0/0", "b/3/1"]
    assert {head for one in shown for head in one.heads} == {"place"}


def test_a_head_that_labels_words_alone_is_left_in_peace(fitted):
    folder, _, _ = fitted(("tags",))
    assert not folder.exists()


def test_a_run_learns_the_same_with_and_without(
    make_label_data, make_label_task, make_trainer, tmp_path
):
    def weights(*callbacks):
        data = make_label_data()
        task = make_label_task(data, dropout=0.2)
        torch.manual_seed(1)
        make_trainer(*callbacks, max_epochs=2).fit(task, datamodule=data)
        return task.state_dict()

    plain, drawn = weights(), weights(DecisionLogger(str(tmp_path / "d"), every_n_validations=2))
    assert [path.name for path in (tmp_path / "d" / "val").iterdir()] == ["step-000004"]
    assert all(torch.equal(plain[name], drawn[name]) for name in plain)


def test_loggers_show_them_and_one_that_fails_stops_nothing(fitted, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Fails(TensorBoardLogger):
        """A board that breaks at pictures."""

        experiment = MagicMock(**{"add_image.side_effect": ConnectionError("no route to host")})

    board = TensorBoardLogger(tmp_path, name="tb", version="", default_hp_metric=False)
    folder, _, _ = fitted(logger=[Fails(tmp_path, name="x", version=""), board])
    shown = set(EventAccumulator(str(tmp_path / "tb")).Reload().Tags()["images"])
    assert {"decisions/val/probes/1", "decisions/val/mistakes/2"} <= shown
    assert {"decisions/test/a/mistakes/1", "decisions/test/b/mistakes/1"} <= shown
    assert len(records(folder)) == 2 + 3 + 2 + 2


def test_a_disk_that_fails_is_warned_of_once(fitted, tmp_path, caplog):
    (tmp_path / "decisions").touch()
    fitted()
    assert len([line for line in caplog.messages if "is not written" in line]) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heads": ["mood"]}, "heads names 'mood'; the heads that give the whole .* are colour"),
        ({"probes": Probes(keys=["x"])}, "val has no example 'x'; its 18 .* val/0/0, val/0/1"),
        ({"probes": Probes("dev")}, "'dev'; there are: train, val, test/a, test/b"),
        ({"probes": Probes(size=0)}, "choose at least one example"),
        ({"probes": Probes(folder="/absent")}, "images there have no text and no label"),
        ({"mistakes": -1}, "mistakes=-1 and test_mistakes=2 must be 0 or more"),
        ({"at_once": 0}, "at_once=0 1 or more"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_training(fitted, options, said):
    with pytest.raises(ConfigError, match=said):
        fitted(**options)


def test_a_transform_of_unknown_geometry_is_refused(make_label_data, fitted):
    cropped = v2.Compose([v2.RandomCrop(16), ToNormalised([0.5] * 3, [0.5] * 3)])
    with pytest.raises(ConfigError, match="where RandomCrop puts the pixels is not known"):
        fitted(data=make_label_data(transform=cropped))


def test_the_state_is_the_number_of_validations():
    one, other = DecisionLogger("a"), DecisionLogger("a", heads=["colour"])
    assert one.state_key != other.state_key
    one.load_state_dict({"validations": 3})
    assert one.state_dict() == {"validations": 3}
