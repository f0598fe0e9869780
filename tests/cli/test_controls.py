"""Controls are the run without one of its inputs: they learn alike, and write nothing."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from mmattn.cli import schema
from mmattn.cli.controls import check_controls, named, right, share, without
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.groups import LabelledSet
from mmattn.errors import ConfigError


@pytest.fixture
def composed():
    schema.register()

    def compose_with(*overrides):
        with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
            return compose("train", ["experiment=glyphs_vqa", *overrides, "paths.output_dir=x"])

    return compose_with


def test_a_control_keeps_what_changes_learning_and_drops_what_writes(composed):
    config = composed("callbacks=[classification,freeze]", "logger=csv")
    control = without(config, "text")
    assert set(control.callbacks) == {"step_seed", "finite", "freeze"}
    assert control.logger is None
    assert not control.trainer.enable_checkpointing
    assert control.data.withhold == "text"
    assert control.model.may_miss == {"text": 0.0}
    same = ("optimizer", "scheduler", "task", "seed")
    assert all(control[key] == config[key] for key in same)
    assert control.trainer.max_epochs == config.trainer.max_epochs
    assert config.data.withhold is None  # the run's own is as it was
    assert "checkpoint" in config.callbacks


@pytest.mark.parametrize("overrides", [["callbacks=none"], ["callbacks=none", "logger=none"]])
def test_a_run_without_callbacks_has_controls_too(composed, overrides):
    assert dict(without(composed(*overrides), "image").callbacks) == {}


def test_what_the_run_may_miss_stays(composed):
    config = composed()
    with open_dict(config):
        config.model.may_miss = {"image": 0.3}
    assert without(config, "text").model.may_miss == {"image": 0.3, "text": 0.0}


def test_figures_are_named_by_test_set():
    found = named("control/chance", {"fonts": 0.5, "compositions": 0.4}, 0.4)
    assert found == {
        "control/chance/fonts": 0.5,
        "control/chance/compositions": 0.4,
        "control/chance": 0.4,
    }
    assert named("control/chance", {"": 0.5}, 0.5) == {"control/chance": 0.5}


def test_one_answer_for_all_is_right_as_often_as_it_is_given():
    labels = [{"answer": "yes"}, {"answer": "no"}, {"answer": "yes"}, {"other": "x"}]
    examples = LabelledSet([Example(str(i), each) for i, each in enumerate(labels)], None)
    assert right(examples, {"answer": "yes"}) == 2 / 3
    assert right(examples, {"answer": "yes", "other": "y"}) == 1 / 3


@pytest.mark.parametrize(
    ("label", "expected"),
    [("a", 1.0), ("b", 0.0), (("a", "b", "a", "a"), 0.75), ({"a": 0.6, "b": 1.0}, 0.6), ({}, 0.0)],
)
def test_how_right_an_answer_is(label, expected):
    assert share(label, "a") == expected


def test_controls_that_cannot_be():
    check_controls([], None)
    with pytest.raises(ConfigError, match="controls names 'colour'; choose image_only, text_only"):
        check_controls(["colour"], None)
    with pytest.raises(ConfigError, match="classifiers of image and text"):
        check_controls(["image_only"], None)
