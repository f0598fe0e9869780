"""Every way to learn can be chosen by its name, for captioners and for joint models."""

import pytest

from mmattn.cli.arguments import check_arguments
from mmattn.cli.build import build
from mmattn.cli.targets import check_targets
from mmattn.errors import ConfigError

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


@pytest.mark.parametrize("experiment", ["glyphs_joint", "flickr8k_joint"])
def test_a_joint_model_has_no_self_critical_training(composed, experiment):
    config = composed(f"experiment={experiment}", "method=[self_critical]")
    with pytest.raises(ConfigError, match="joint models have no self-critical training") as raised:
        check_arguments(config.task)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "instead",
    [
        ["experiment=glyphs_joint", "model=captioner", "task=captioning"],
        ["experiment=flickr8k_frozen"],
    ],
)
def test_what_is_named_instead_has_it(composed, instead):
    config = composed(*instead, "method=[self_critical]", "task.self_critical.start_epoch=2")
    check_targets(config, [])
    check_arguments(config)
    assert build(config.task, "task").keywords["self_critical"].start_epoch == 2
