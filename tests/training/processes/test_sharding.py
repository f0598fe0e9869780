"""FSDP on two ranks of a CPU: parts while it trains, whole everywhere else, checkpoints of both."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from mmattn.errors import ConfigError
from mmattn.maps.gradient_methods import Chefer
from mmattn.training.averaged_weights import AveragedWeights
from mmattn.training.checkpoints.finding import read_checkpoint
from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.probes import Probes
from mmattn.training.processes.sharding import shard, skeleton
from mmattn.training.processes.strategies import DDP, FSDP
from mmattn.training.step_seed import StepSeed

pytestmark = [  # each run has its own folder, and only the first one draws
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]
LIMIT = 60.0  # seconds


class Holds(L.Callback):
    """What share of the weights this rank holds after its steps, and where it validates."""

    def __init__(self):
        self.training, self.validating = set(), set()

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.training.add(round(share(pl_module.model), 1))

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.validating.add(share(pl_module.model))


def share(model):
    """How much of a model's weights are here."""
    held = [p.to_local() if hasattr(p, "to_local") else p for p in model.parameters()]
    return sum(p.numel() for p in held) / sum(p.numel() for p in model.parameters())


def fit(argument, strategy, *callbacks, ckpt_path=None, **options):
    _, make_data, make_task, make_trainer = argument
    data = make_data()
    task = make_task(data, dropout=0.2)
    trainer = make_trainer(
        StepSeed(0), *callbacks, strategy=strategy, max_epochs=2, gradient_clip_val=0.1, **options
    )
    trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return task, trainer, data


def on_two_ranks(rank, argument):
    """Train in parts, go on from a checkpoint, train whole; return weights and figures."""
    folder, two = argument[0], {"devices": 2}

    def keep(name):
        return ModelCheckpoint(folder / name, "{step}", save_top_k=-1, every_n_train_steps=1)

    # Rank 0 draws alone, with and without a validation around it, and goes backward for it.
    place, probes = str(folder / f"maps-{rank}"), Probes(size=1)
    maps, held = AttentionLogger(place, map=Chefer(), probes=probes, every_n_steps=2), Holds()
    options = {"enable_checkpointing": True, **two}
    task, trainer, data = fit(argument, FSDP(LIMIT), keep("kept"), maps, held, **options)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(task, datamodule=data, verbose=False)
    ddp, plain, _ = fit(argument, DDP(LIMIT), keep("ddp"), **options)
    expected = {name: float(value) for name, value in plain.callback_metrics.items()}
    parts, whole = folder / "kept" / "step=2.ckpt", folder / "ddp" / "step=2.ckpt"
    again, _, _ = fit(argument, FSDP(LIMIT), keep("a"), ckpt_path=parts, **options)
    from_parts, _, _ = fit(argument, DDP(LIMIT), keep("b"), ckpt_path=parts, **options)
    from_whole, _, _ = fit(argument, FSDP(LIMIT), keep("c"), ckpt_path=whole, **options)
    refused = ""
    try:
        fit(argument, FSDP(LIMIT), AveragedWeights(decay=0.9), **two)
    except ConfigError as error:
        refused = str(error)
    return {
        "weights": listed(task),
        "resumed": listed(again),
        "ddp": listed(ddp),
        "from parts": listed(from_parts),
        "from whole": listed(from_whole),
        "whole": share(task.model),
        "training": sorted(held.training),
        "validating": sorted(held.validating),
        "figures": figures,
        "expected": expected,
        "tested": sorted(trainer.callback_metrics),
        "refused": refused,
    }


def listed(task):
    return {name: value.tolist() for name, value in task.state_dict().items()}


def close(found, expected):
    pairs = ((torch.tensor(found[name]), torch.tensor(expected[name])) for name in expected)
    return found.keys() == expected.keys() and all(
        torch.allclose(a, b, atol=1e-4) for a, b in pairs
    )


@pytest.mark.slow
def test_a_model_in_parts_trains_resumes_and_ends_as_a_whole_one_does(
    in_two_processes, make_data, make_task, make_trainer, tmp_path
):
    argument = (tmp_path, make_data, make_task, make_trainer)
    found = in_two_processes(on_two_ranks, [argument] * 2, timeout=500)
    for one in found:
        assert one["weights"] == one["resumed"]  # to the last bit
        assert all(close(one[name], one["ddp"]) for name in ("weights", "from parts", "from whole"))
        assert one["whole"] == 1.0
        assert one["training"] == [0.5]
        assert one["validating"] == [1.0]
        assert "callbacks.ema cannot average parts" in one["refused"]
        assert {"test/a/loss", "test/b/cider"} <= {*one["tested"]}
        for name in ("val/loss", "val/token_accuracy"):
            assert one["figures"][name] == pytest.approx(one["expected"][name], abs=1e-3)
    assert found[0]["weights"] == found[1]["weights"]
    drawn = {path.name for path in (tmp_path / "maps-0").iterdir()}
    assert {"step-000002", "step-000004", "step-000006"} <= drawn
    assert not (tmp_path / "maps-1").exists()

    # One process reads such a checkpoint as its own, safely.
    saved = read_checkpoint(tmp_path / "kept" / "step=6.ckpt")
    expected = {name: torch.tensor(value) for name, value in found[0]["weights"].items()}
    assert saved["state_dict"].keys() == expected.keys()
    assert all(torch.equal(saved["state_dict"][name], each) for name, each in expected.items())


def test_a_single_number_cannot_be_divided():
    model = nn.Linear(2, 2)
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(ConfigError, match="trainer=fsdp cannot divide scale, a single number"):
        shard(model, None)


def test_a_skeleton_has_no_weights_and_the_same_names(make_data, make_task):
    model = make_task(make_data()).model
    empty = skeleton(model)
    assert empty.state_dict().keys() == model.state_dict().keys()
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
