"""What every task shares: its optimiser, its schedule, and what its checkpoints hold and refuse."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError, ConfigError
from mmattn.tasks.migrations import SCHEMA, check_schema, migrate
from mmattn.tasks.optimisation import parameter_groups
from mmattn.tasks.weight_names import differences


class Task(L.LightningModule):
    """A model that learns: subclasses say what from, and what to measure.

    Args:
        model: the model; its `encoders` are the parts that `layer_decay` is about.
        tokenizer: of its texts, kept in every checkpoint; None for a model that reads none.
        optimizer: parameter groups -> optimiser, a partial that holds lr and weight_decay.
        scheduler: (optimiser, total steps) -> learning-rate schedule per step, or None.
        test_names: names of the test sets, in the order of their loaders.
        layer_decay: learning rate of each encoder layer over that of the next.
    """

    printed: Sequence[str] = ()  # the metrics of the line that each validation prints

    def __init__(
        self,
        model: nn.Module,
        tokenizer: CaptionTokenizer | None,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None,
        *,
        test_names: Sequence[str],
        layer_decay: float,
    ):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.test_names, self.layer_decay = list(test_names), layer_decay

    def check_cached(self) -> None:
        """Raise ConfigError where it cannot learn from the features of images alone.

        Asked before any are computed, which takes minutes.
        """

    def on_validation_end(self) -> None:
        """Print one line, which also an output without a moving progress bar shows."""
        found = self.trainer.callback_metrics
        shown = [f"{name} {float(found[name]):.4g}" for name in self.printed if name in found]
        if not self.trainer.sanity_checking:
            self.print(f"epoch {self.current_epoch}:", ", ".join(shown))

    def configure_optimizers(self) -> Any:
        """Build the optimiser over decaying and other parameters, and its schedule per step."""
        settings = getattr(self.make_optimizer, "keywords", {})
        if "lr" not in settings:
            raise ConfigError("optimizer.lr is missing: give a learning rate")
        try:
            groups = parameter_groups(
                self.model, settings["lr"], settings.get("weight_decay", 0.0), self.layer_decay
            )
            optimizer = self.make_optimizer(groups)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"optimizer: {error}") from error
        schedule = self.configure_schedule(optimizer)
        if schedule is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_schedule(self, optimizer: Optimizer) -> Any:
        """Build the schedule of the learning rate per step, None where it has none."""
        if self.make_scheduler is None:
            return None
        return self.make_scheduler(optimizer, total_steps=self.total_steps())

    def total_steps(self) -> int:
        """Return the optimiser steps of the run. Raises ConfigError where it has no end."""
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError(
                "a learning-rate schedule needs the run's length: set trainer.max_epochs or "
                "trainer.max_steps, or choose scheduler=none"
            )
        return int(steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, also those of a fused optimiser under bf16 autocast.

        A fused optimiser unscales gradients in its own step, after clipping, so Lightning refuses
        it under every autocast; but bf16 scales none.
        """
        plugin = self.trainer.precision_plugin
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (fused and isinstance(plugin, MixedPrecision)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif plugin.scaler is not None:
            raise ConfigError(
                "trainer.precision=16-mixed cannot clip the gradients of a fused optimizer: set "
                "optimizer.fused=false, or trainer.precision=bf16-mixed"
            )
        elif gradient_clip_val:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep with the weights what they mean, as plain values."""
        checkpoint["mmattn"] = {"schema": SCHEMA, **self.own_values()}

    def own_values(self) -> dict[str, Any]:
        """Return what a checkpoint says of the model besides its weights: plain values."""
        text = None if self.tokenizer is None else self.tokenizer.to_json()
        return {"tokenizer": text}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another tokenizer or architecture; bring an older one to date.

        Raises:
            CheckpointError: saying what differs.
        """
        checkpoint.update(migrate(checkpoint))  # in place: the trainer goes on with this very dict
        self.check_own_values(own_entry(checkpoint))
        check_same_shapes(checkpoint["state_dict"], self.state_dict())

    def check_own_values(self, saved: dict[str, Any]) -> None:
        """Raise CheckpointError where a checkpoint's values are not those of this task."""
        check_same_tokenizer(saved["tokenizer"], self.tokenizer)

    def test_prefix(self, index: int) -> str:
        """Return what the metrics of a test set are called: test/<name>, or test."""
        name = self.test_names[index]
        return f"test/{name}" if name else "test"


def own_entry(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what the task keeps in a checkpoint. Raises CheckpointError for another's."""
    own = checkpoint.get("mmattn")
    if not isinstance(own, dict) or not {"schema", "tokenizer"} <= own.keys():
        raise CheckpointError("this is not a checkpoint of a run of mmattn")
    check_schema(own["schema"])
    return own


def check_same_tokenizer(saved: str | None, tokenizer: CaptionTokenizer | None) -> None:
    """Raise CheckpointError where a checkpoint's tokenizer is not this one."""
    if saved == (None if tokenizer is None else tokenizer.to_json()):
        return
    if saved is None or tokenizer is None:
        raise CheckpointError(
            "the checkpoint is of a model that reads no text, and this one does"
            if saved is None
            else "the checkpoint is of a model that reads text, and this one does not"
        )
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_str(saved).get_vocab()
    ours = tokenizer.backend.get_vocab()
    differing = sorted(
        (token for token in theirs.keys() | ours.keys() if theirs.get(token) != ours.get(token)),
        key=lambda token: min(theirs.get(token, 1 << 30), ours.get(token, 1 << 30)),
    )
    first = f", first difference {differing[0]!r}" if differing else ", other merges or settings"
    raise CheckpointError(
        f"the checkpoint was trained with another tokenizer: {len(theirs)} tokens there, "
        f"{len(ours)} here{first}. Use the data and tokenizer settings of that run"
    )


def check_same_shapes(saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raise CheckpointError where a checkpoint's parameters are not this model's."""
    differing = [
        f"{name} is {tuple(saved[name].shape) if name in saved else 'missing'} in the checkpoint, "
        f"{tuple(own[name].shape) if name in own else 'missing'} in the model"
        for name in sorted(saved.keys() | own.keys())
        if name not in saved or name not in own or saved[name].shape != own[name].shape
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint is of another architecture: {len(differing)} of {len(own)} parameters "
            f"differ, first: {differing[0]}; {'; '.join(differences(saved, own))}. Use the model "
            "settings of that run"
        )
