"""No step with numbers that are not finite: what a run does about them, and whose batch it was."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import lightning as L
import torch
from jaxtyping import Bool
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from mmattn.errors import ConfigError, TrainingError
from mmattn.training.processes.strategies import FSDP
from mmattn.training.processes.whole_tensor import whole_tensor
from mmattn.training.rollback import last_checkpoint, roll_back
from mmattn.training.running_statistics import RunningStatistics

log = logging.getLogger(__name__)
Policy = Literal["skip", "stop", "rollback"]


@dataclass
class Window:
    """The batches of one optimiser step, and their losses on this rank: [] each."""

    step: int = 0
    epoch: int = 0
    keys: list[str] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)


@dataclass
class Pending:
    """A step that a GPU has been told of, and that the CPU knows nothing of yet."""

    window: Window
    bad: Tensor  # [] boolean, on its way to the CPU
    arrived: torch.cuda.Event


class FiniteSteps(L.Callback):
    """Leaves out every optimiser step whose loss or gradients are not finite on any rank.

    Weights, the optimiser's moments and running statistics of normalisation stay as they were, and
    the learning-rate schedule goes on. A loss that is not finite makes its rank's gradients so, and
    DDP adds up gradients, so all ranks find the same without exchanging anything; other strategies
    exchange one number a step, FSDP the norm of the gradients of which each rank has a part.

    The GPU decides by itself where the optimiser is fused, and the CPU hears of it one step later,
    so it does not have to wait; not so with "rollback", where that step would be computed with the
    weights from before. With `trainer.precision=16-mixed` the gradient scaler leaves steps
    out already, as a matter of course, and this callback does nothing.

    Args:
        policy: "skip" such steps, while there are few; "stop" at the first; or "rollback": skip it,
            and go on from the weights and the optimiser of the run's last checkpoint, with the
            batches that follow.
        in_a_row: how many may follow one another, before training stops.
        in_all: how many a run may have, before it stops.
    """

    def __init__(self, policy: str = "skip", *, in_a_row: int = 3, in_all: int = 20):
        if policy not in get_args(Policy):
            raise ConfigError(f"policy={policy!r}: choose one of {', '.join(get_args(Policy))}")
        if min(in_a_row, in_all) < 1:
            raise ConfigError(f"in_a_row={in_a_row} and in_all={in_all} must both be 1 or more")
        self.policy, self.in_a_row, self.in_all = policy, in_a_row, in_all
        self.found = self.row = 0
        self._trainer: L.Trainer | None = None
        self._window = Window()
        self._pending: Pending | None = None
        self._statistics = RunningStatistics(())

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find what a forward pass changes."""
        self._trainer, self._window = trainer, Window()
        self._statistics = RunningStatistics(pl_module.modules())

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember which examples the step is about to learn from."""
        if not self._window.keys:
            self._statistics.keep()
        keys = getattr(batch, "keys", None)  # a method of those that are dictionaries
        self._window.keys += keys if isinstance(keys, tuple) else (f"batch {batch_idx}",)

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Let a loss that is not finite show in every gradient, on every rank."""
        value = loss.detach()
        self._window.losses.append(value)
        if loss.requires_grad:
            loss.register_hook(lambda grad: torch.where(value.isfinite(), grad, torch.nan))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Leave the step out where it would not be finite."""
        window, self._window = self._window, Window()
        window.step, window.epoch = trainer.global_step + 1, trainer.current_epoch
        plugin = trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is not None:
            return
        bad = not_finite(optimizer)
        if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy | FSDP):
            distributed.all_reduce(bad_number := bad.float(), distributed.ReduceOp.MAX)
            bad = bad_number > 0
        self._statistics.give_back(bad)
        self._settle()
        if self.policy != "rollback" and decides_itself(optimizer, bad):
            # A fused optimiser's own way to leave a step out, made for gradient scalers.
            setattr(optimizer, "found_inf", bad.float())  # noqa: B010
            self._pending = on_its_way(window, bad)
        elif bad:
            optimizer.zero_grad(set_to_none=True)  # no optimiser moves what has no gradient
            self._leave_out(window)
        else:
            self.row = 0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hear of the last step."""
        self._settle()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hear of the last step."""
        self._settle()

    def state_dict(self) -> dict[str, int]:
        """Return how many steps were left out: plain integers."""
        self._settle()
        return {"found": self.found, "row": self.row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on counting."""
        self.found, self.row = state_dict["found"], state_dict["row"]

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to save weights that are not finite: an earlier checkpoint is worth more."""
        broken = broken_weights(pl_module)
        if broken is not None:
            raise TrainingError(
                f"the weights {broken} are not finite after step {trainer.global_step}, so they "
                "are not saved: the learning rate is too high, or they were not to begin with"
            )

    def _settle(self) -> None:
        """Hear what became of the step before, where that was left to a GPU."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        pending.arrived.synchronize()
        if pending.bad:
            self._leave_out(pending.window)
        else:
            self.row = 0

    def _leave_out(self, window: Window) -> None:
        """Count a step, say whose it was, and do what the policy says."""
        assert self._trainer is not None
        self.found, self.row = self.found + 1, self.row + 1
        what = description(window, self._trainer)
        if self.policy == "stop":
            raise TrainingError(f"{what}. callbacks.finite.policy=skip leaves such steps out")
        if self.row > self.in_a_row or self.found > self.in_all:
            counts = f"{self.row} in a row and {self.found} in all"
            raise TrainingError(
                f"{what}. That is {counts}, more than callbacks.finite allows: lower optimizer.lr, "
                "look at these examples, or allow more with in_a_row and in_all"
            )
        path = last_checkpoint(self._trainer) if self.policy == "rollback" else None
        if path is not None:
            roll_back(self._trainer, path)
        if self._trainer.is_global_zero:
            allowed = (
                f"{self.row} of {self.in_a_row} in a row, {self.found} of {self.in_all} in all"
            )
            back = "" if path is None else f"; weights and optimiser are those of {path} again"
            log.warning("%s. The step is left out (%s)%s", what, allowed, back)


def decides_itself(optimizer: Optimizer, bad: Bool[Tensor, ""]) -> bool:
    """Whether an optimiser leaves a step out where a flag of the GPU says so, unheard by a CPU."""
    return bad.is_cuda and getattr(optimizer, "_step_supports_amp_scaling", False)


def not_finite(optimizer: Optimizer) -> Bool[Tensor, ""]:
    """Whether any gradient is not finite, or all together are too large to be squared.

    Of divided gradients it is about all parts, and all ranks call it.
    """
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return ~whole_tensor(norm).isfinite()


def broken_weights(module: nn.Module) -> str | None:
    """Return the name of the first parameter that is not finite; None where all are.

    Of a divided module all ranks call it.
    """
    parameters = dict(module.named_parameters())
    norm = torch.nn.utils.get_total_norm([p.detach() for p in parameters.values()])
    if whole_tensor(norm).isfinite():
        return None
    # One of them is not, or all together are too large to be squared.
    finite = ((name, whole_tensor(p.detach()).isfinite().all()) for name, p in parameters.items())
    return next((name for name, is_so in finite if not is_so), None)


def on_its_way(window: Window, bad: Bool[Tensor, ""]) -> Pending:
    """Start copying a flag from a GPU, and return what tells when it is here."""
    here = torch.empty((), dtype=torch.bool, pin_memory=True)
    here.copy_(bad, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return Pending(window, here, arrived)


def description(window: Window, trainer: L.Trainer) -> str:
    """Say which numbers were not finite and from which examples, on all ranks; all must call it."""
    own = (trainer.global_rank, [float(loss) for loss in window.losses], window.keys)
    all_ranks: list[Any] = [own]
    if trainer.world_size > 1:
        all_ranks = [None] * trainer.world_size
        distributed.all_gather_object(all_ranks, own)
    place = f"step {window.step} of epoch {window.epoch}"
    broken = [rank for rank in all_ranks if not torch.tensor(rank[1]).isfinite().all()]
    if not broken:
        return f"{place}: gradients are not finite; the examples were {named(all_ranks)}"
    where = f" on rank {', '.join(str(rank[0]) for rank in broken)}" * (trainer.world_size > 1)
    return f"{place}: the loss is not finite{where}; the examples were {named(broken)}"


def named(ranks: Sequence[tuple[int, list[float], list[str]]]) -> str:
    """Return the keys of the examples of some ranks."""
    return ", ".join(key for _, _, keys in ranks for key in keys)
