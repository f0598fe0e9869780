"""Parts of the model that stand still, for a while or for good."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import lightning as L
from torch import nn

from mmattn.errors import ConfigError
from mmattn.training.parts import learning_model


class Freeze(L.Callback):
    """Freezes the modules of the model that match, and thaws them again if told so.

    A frozen module gets no gradient and stays in evaluation mode (batch norms keep their
    statistics, dropout is off).

    Args:
        modules: glob patterns of module names, such as "vision", "vision.blocks.[0-3]".
        until_epoch: thaw at the start of this epoch; never if None.

    Raises:
        ConfigError: at setup, for a pattern that no module matches.
    """

    def __init__(self, modules: Sequence[str], *, until_epoch: int | None = None):
        self.patterns, self.until_epoch = list(modules), until_epoch

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Freeze before the optimiser and any distributed wrapper see the parameters."""
        if stage != "fit":
            return
        if self.until_epoch is not None and trainer.world_size > 1:
            raise ConfigError(
                "callbacks.freeze.until_epoch works on one device: distributed training fixes at "
                "its start which parameters have gradients. Train frozen, then start a run with "
                "ckpt_path and no freezing"
            )
        self._set(learning_model(pl_module), trainable=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do the same where a run is resumed, for its epoch may have begun before."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Thaw when it is time; else put frozen modules back into evaluation mode."""
        if self.until_epoch is not None and trainer.current_epoch >= self.until_epoch:
            self._set(learning_model(pl_module), trainable=True)
        else:
            self._set(learning_model(pl_module), trainable=False)

    def _set(self, model: nn.Module, *, trainable: bool) -> None:
        for module in matching(model, self.patterns):
            module.requires_grad_(trainable)
            module.train(trainable)


def matching(model: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Return the modules whose names match. Raises ConfigError for a pattern that matches none."""
    names = dict(model.named_modules())
    found = []
    for pattern in patterns:
        modules = [module for name, module in names.items() if fnmatchcase(name, pattern)]
        if not modules:
            known = ", ".join(name for name in names if name.count(".") == 0 and name)
            raise ConfigError(f"callbacks.freeze.modules: nothing matches {pattern!r} in {known}")
        found += modules
    return found
