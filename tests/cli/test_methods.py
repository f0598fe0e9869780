"""Every way to learn can be chosen by its name, for captioners and for joint models."""

import pytest

from mmattn.cli.arguments import check_arguments
from mmattn.cli.build import build
from mmattn.cli.targets import check_targets

TEACHER = "task.cross_entropy.distillation.teacher=somewhere"
FURTHER = {
    "distillation": [TEACHER],
    "extra_captions": ["data.extra_captions.path=taught.jsonl"],
}
OF_A_LOSS = [
    *("drop_worst", "word_dropout", "scheduled_sampling", "parallel_prediction", "r_drop"),
    "distillation",
]


@pytest.mark.parametrize("task", ["captioning", "joint"])
@pytest.mark.parametrize("name", OF_A_LOSS)
def test_a_method_is_the_one_that_is_on(composed, task, name):
    config = composed(f"task={task}", f"method=[{name}]", *FURTHER.get(name, ()))
    check_targets(config, [])
    check_arguments(config.task)
    made = build(config.task, "task").keywords["cross_entropy"]
    on = [each for each in OF_A_LOSS if getattr(made, each) is not None]
    assert on == [name]


def test_methods_of_the_data_and_of_the_weights(composed):
    config = composed("method=[extra_captions,ema]", *FURTHER["extra_captions"])
    check_targets(config, [])
    check_arguments(config.data)
    assert build(config.data.extra_captions, "data.extra_captions").path == "taught.jsonl"
    assert config.callbacks.ema.decay == 0.999
    assert "variety" in config.callbacks
