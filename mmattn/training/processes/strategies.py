"""Training in several processes: each with the whole model, or each with a part of it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer

from mmattn.errors import ConfigError
from mmattn.training.parts import callbacks_of
from mmattn.training.processes.launcher import Launcher
from mmattn.training.processes.sharded_state import (
    optimizer_state,
    set_optimizer_state,
    set_weights,
)
from mmattn.training.processes.sharding import Divided, step


class DDP(DDPStrategy):
    """A copy of the model in every process; gradients are averaged (Li et al. 2020).

    Args:
        timeout: seconds that ranks wait for one that does not answer before all end. Whatever one
            rank does alone, such as drawing or writing a checkpoint, must take less.
        find_unused_parameters: look in every step for parameters without a gradient, at some cost;
            for models of which steps leave parts out.
        process_group_backend: "nccl" or "gloo"; what suits the device if None.

    Raises:
        ConfigError: for a timeout that is not positive.
    """

    def __init__(
        self,
        timeout: int | float,
        *,
        find_unused_parameters: bool = False,
        process_group_backend: str | None = None,
        **options: Any,
    ):
        super().__init__(
            timeout=limit(timeout),
            find_unused_parameters=find_unused_parameters,
            process_group_backend=process_group_backend,
            **options,
        )

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Meet the other ranks."""
        self.set_world_ranks()
        assert isinstance(self._launcher, Launcher)
        assert self._timeout is not None
        backend, ranks = self._get_process_group_backend(), (self.global_rank, self.world_size)
        self._launcher.join(backend, *ranks, self._timeout, self.root_device)
        super().setup_distributed()


class FSDP(ModelParallelStrategy):
    """A part of the weights, gradients and optimiser state in every process (Zhao et al. 2023).

    Checkpoints hold the whole weights in one file, as those of one process do: each can go on from
    the other's. While it validates, and in tests, every process has the whole weights.

    Args:
        timeout: see `DDP`.
        process_group_backend: "nccl" or "gloo"; what suits the device if None.

    Raises:
        ConfigError: for a timeout that is not positive.
    """

    _divided: Divided | None = None
    _trained: Divided | None = None  # after training: whose parts the optimiser knows

    def __init__(self, timeout: int | float, *, process_group_backend: str | None = None):
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=limit(timeout),
        )

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def _setup_distributed(self) -> None:
        self.set_world_ranks()
        assert isinstance(self._launcher, Launcher)
        assert self._timeout is not None
        backend, ranks = self._get_process_group_backend(), (self.global_rank, self.world_size)
        self._launcher.join(backend, *ranks, self._timeout, self.root_device)
        super()._setup_distributed()
        self._data_parallel_size = self.world_size

    def connect(self, model: L.LightningModule) -> None:
        """Take a task, whose model is to be divided when it trains."""
        super().connect(model)
        if any(isinstance(each, WeightAveraging) for each in callbacks_of(model.trainer)):
            raise ConfigError("callbacks.ema cannot average parts of weights: use trainer=ddp")
        # Not a method of our tasks: Lightning would take each for one that divides its own model.
        model.configure_model = partial(self._divide_model, model)

    def _divide_model(self, task: L.LightningModule) -> None:
        if task.trainer.state.fn == TrainerFn.FITTING and self._divided is None:
            self._divided = Divided(task, self.device_mesh["data_parallel"])
            self._trained = None

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Do the task's training step as what FSDP knows as the model's forward pass."""
        assert self._divided is not None
        return step(self._divided.parts, partial(super().training_step, **kwargs), *args)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether a checkpoint is taken up late: no, as callbacks look at it in `on_fit_start`."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning hands the state of the optimiser back: it does, see below."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read a checkpoint as every other strategy does, by the trainer's plugin."""
        return super(ModelParallelStrategy, self).load_checkpoint(checkpoint_path, weights_only)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return the whole weights on rank 0, as one process would have them."""
        with in_place(self._divided):
            return super().lightning_module_state_dict()

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each rank its part of a checkpoint's weights."""
        assert self.model is not None
        self.model_to_device()  # where the parts are already
        set_weights(self.model, checkpoint["state_dict"], strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the whole state of an optimiser on rank 0, as one process would have it."""
        assert self.model is not None
        with in_place(self._divided or self._trained):
            return optimizer_state(self.model, getattr(optimizer, "optimizer", optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its part of the state of the optimisers."""
        assert self.model is not None
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state(self.model, optimizer, state)

    def whole(self) -> AbstractContextManager[None]:
        """Let every rank have the whole weights in a block, which all ranks enter."""
        return nullcontext() if self._divided is None else self._divided.whole()

    def on_validation_start(self) -> None:
        """Let every rank have the whole weights."""
        if self._divided is not None:
            self._divided.gather()

    def on_validation_end(self) -> None:
        """Go back to parts."""
        if self._divided is not None:
            self._divided.divide()

    def on_train_end(self) -> None:
        """Give the task a model with whole weights, as any other that was trained."""
        self._make_whole()

    def teardown(self) -> None:
        """Do so, too, where there was nothing left to train; not where a rank may be gone."""
        assert self.lightning_module is not None
        if not self.lightning_module.trainer.interrupted:
            self._make_whole()
        super().teardown()

    def _make_whole(self) -> None:
        if self._divided is not None:
            self._divided.gather()
            # What is left to do after training may save the optimiser's state.
            self._divided, self._trained = None, self._divided


def in_place(divided: Divided | None) -> AbstractContextManager[None]:
    """Let the parts be the task's model in a block, where there are any."""
    return nullcontext() if divided is None else divided.in_place()


def whole_model(trainer: Any) -> AbstractContextManager[None]:
    """Let every rank have the whole weights in a block, which all ranks enter, by any strategy."""
    strategy = getattr(trainer, "strategy", None)
    return strategy.whole() if isinstance(strategy, FSDP) else nullcontext()


def limit(seconds: int | float) -> timedelta:
    """Return a time-out. Raises ConfigError unless it is positive."""
    if seconds <= 0:
        raise ConfigError(f"trainer.strategy.timeout={seconds}: give a positive number of seconds")
    return timedelta(seconds=seconds)
