import lightning as L
import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.patches import ConvStem
from mmattn.training.freezing import Freeze, matching

pytestmark = pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training")


@pytest.fixture
def run(make_data, make_task, make_trainer):
    """Fit a model with batch norms; return its state before and after."""

    def fit(*callbacks, **options):
        data = make_data()
        task = make_task(data, patches=ConvStem([4, 4], [2, 2], 16), dropout=0.2)
        before = {name: value.clone() for name, value in task.model.state_dict().items()}
        make_trainer(*callbacks, **options).fit(task, datamodule=data)
        return before, task.model.state_dict()

    return fit


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_what_is_frozen_keeps_every_bit_and_the_rest_learns(run):
    names = changed(*run(Freeze(["vision.patches"])))
    assert not any(name.startswith("vision.patches.") for name in names)
    assert {"vision.position_table", "text.embedding.weight"} <= names


def test_without_it_batch_statistics_move_as_well(run):
    names = changed(*run())
    assert {"vision.patches.layers.1.running_mean", "vision.patches.layers.0.weight"} <= names


def test_frozen_parts_are_in_evaluation_while_the_rest_trains(run):
    class Look(L.Callback):
        modes: tuple = ()

        def on_train_batch_start(self, trainer, pl_module, *_):
            model = pl_module.model
            self.modes = (model.vision.training, model.vision.patches.training, model.text.training)

    look = Look()
    run(Freeze(["vision.patches"]), look, max_epochs=2)  # a validation comes between
    assert look.modes == (True, False, True)


def test_a_part_thaws_at_its_epoch(run):
    class Watch(L.Callback):
        def __init__(self):
            self.still = []

        def on_train_epoch_start(self, trainer, pl_module):
            self.before = pl_module.model.vision.patches.layers[0].weight.detach().clone()

        def on_train_epoch_end(self, trainer, pl_module):
            after = pl_module.model.vision.patches.layers[0].weight
            self.still.append(torch.equal(self.before, after))

    watch = Watch()
    run(Freeze(["vision"], until_epoch=2), watch, max_epochs=4)
    assert watch.still == [True, True, False, False]


def test_patterns_name_modules(make_data, make_task):
    model = make_task(make_data(), depth=2).model
    assert matching(model, ["vision.blocks.*.mlp"]) == [b.mlp for b in model.vision.blocks]
    assert matching(model, ["text", "vision.norm"]) == [model.text, model.vision.norm]
    assert matching(model, ["vision.blocks.[01]"]) == list(model.vision.blocks)


def test_a_pattern_that_matches_nothing_is_refused(run):
    with pytest.raises(ConfigError, match=r"nothing matches 'visio' in vision, text"):
        run(Freeze(["visio"]))


def test_thawing_on_several_devices_is_refused(make_data, make_task, make_trainer):
    trainer = make_trainer(strategy="ddp", devices=2)
    with pytest.raises(ConfigError, match="works on one device"):
        Freeze(["vision"], until_epoch=1).setup(trainer, make_task(make_data()), "fit")
