"""What a run went through, step by step, as digests: to show that another one is the same."""

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from mmattn.training.checkpoints.io import wait_for
from mmattn.training.processes.whole_tensor import whole_tensor

END = "end.pt"


class Trace(Checkpoint):
    """Notes every weight, the optimiser's state and the losses after each optimiser step.

    `steps-<rank>.jsonl` has a line a step with a digest of each tensor, and `end.pt` the weights
    and the optimiser's state at the end, with the learned weights after the last two steps. As a
    kind of checkpoint callback it comes after all others.

    Args:
        folder: where the files go.
        cuts: steps after which to write `step-<n>.ckpt`.
        dies: kill this process one step after the last of them, as an operator would with -9.
    """

    def __init__(self, folder: str, cuts: Sequence[int] = (), dies: bool = False):
        self.folder, self.cuts, self.dies = Path(folder), list(cuts), dies
        self._step = 0
        self._weights: dict[str, Tensor] = {}
        self._before: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._old: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the names of what the optimiser learns: the model at the end may be another one."""
        self._names = {id(of): name for name, of in pl_module.named_parameters()}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where the run begins, or goes on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._step, self._weights = trainer.global_step, weights_of(pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note which figures are at hand: Lightning keeps those that a later step does not log."""
        self._old = dict(trainer.callback_metrics)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note a step, write its checkpoint where one is wanted, or die."""
        if trainer.global_step == self._step:
            return  # gradients accumulate
        self._step = trainer.global_step
        self._before, self._weights = self._weights, weights_of(pl_module)
        self._note(trainer, pl_module)
        if self._step in self.cuts:
            # Of all, not the weights alone.
            trainer.save_checkpoint(checkpoint_path(self.folder, self._step), False)
            wait_for(trainer)
        if self.dies and self._step > max(self.cuts):
            die(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Die where there is no step after the last cut."""
        if self.dies:
            die(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the run ends with."""
        end = {**weights_of(pl_module), **optimizer_of(trainer, self._names)}
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            learned = [name for name, of in pl_module.named_parameters() if of.requires_grad]
            steps = {
                name: {key: of[key] for key in learned if key in of}
                for name, of in (("before", self._before), ("last", self._weights))
            }
            torch.save({"end": end, **steps}, self.folder / END)

    def _note(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        losses = {
            name: float(value).hex()
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/") and value is not self._old.get(name)
        }
        tensors = {**self._weights, **optimizer_of(trainer, self._names)}
        found = losses | {name: digest(tensor) for name, tensor in tensors.items()}
        path = self.folder / f"steps-{trainer.global_rank}.jsonl"
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self._step, "found": found}) + "\n")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where a trace keeps the checkpoint of a step."""
    return folder / f"step-{step}.ckpt"


def weights_of(module: L.LightningModule) -> dict[str, Tensor]:
    """Return copies of a module's weights and buffers, whole ones; all ranks call it."""
    return {name: copied(value) for name, value in module.state_dict().items()}


def optimizer_of(trainer: L.Trainer, names: Mapping[int, str]) -> dict[str, Tensor]:
    """Return copies of the optimisers' state, named by the weights that it is of.

    All ranks call it. `names` are those of the weights, by their `id`.
    """
    return {
        f"optimizer {key} of {names.get(id(parameter), '?')}": copied(torch.as_tensor(value))
        for optimizer in trainer.optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor | int | float)
    }


def copied(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor, all of it, in memory of the CPU."""
    return whole_tensor(tensor.detach()).cpu().clone()


def digest(tensor: Tensor) -> str:
    """Return a digest of a tensor's bits."""
    bits = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return blake2b(bits, digest_size=16).hexdigest()


def die(trainer: L.Trainer) -> None:
    """End this process at once, without any clean-up, when all ranks are here."""
    trainer.strategy.barrier()
    os.kill(os.getpid(), signal.SIGKILL)


def first_difference(whole: Path, resumed: Path) -> str | None:
    """Return the first step and tensor that differ between two traces; None where none does.

    `resumed` may lack the steps before it went on; it must have all others.
    """
    for ours in sorted(whole.glob("steps-*.jsonl")):
        theirs = resumed / ours.name
        steps, others = dict(_steps(ours)), dict(_steps(theirs)) if theirs.exists() else {}
        missing = [step for step in steps if step >= min(others, default=0) and step not in others]
        if missing and others:
            return f"step {missing[0]} is missing"
        for step in sorted(others):
            if step not in steps:
                return f"step {step} is one too many"
            for name in steps[step] | others[step]:
                if steps[step].get(name) != others[step].get(name):
                    return f"{name} at step {step}"
    return None


def largest_difference(whole: dict[str, Tensor], resumed: dict[str, Tensor]) -> tuple[float, str]:
    """Return the largest difference between tensors of the same names, and which one has it.

    It is infinite where one is missing, of another shape, or differs in bits that are no numbers.
    """
    worst, where = 0.0, ""
    for name in whole | resumed:
        found = _difference(whole.get(name), resumed.get(name))
        if found > worst:
            worst, where = found, name
    return worst, where


def _difference(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None or a.shape != b.shape:
        return float("inf")
    if digest(a) == digest(b):
        return 0.0
    found = float((a.double() - b.double()).abs().max())
    return found if found > 0 else float("inf")  # not finite, or two kinds of zero


def _steps(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for line in path.read_text("utf-8").splitlines():
        noted = json.loads(line)
        yield noted["step"], noted["found"]
