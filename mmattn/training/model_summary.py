"""The model at a glance: its parts, their sizes, and what of them learns."""

import lightning as L
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import nn

from mmattn.training.parts import learning_model


class ModelSize(L.Callback):
    """Prints the parameter counts of the captioner's parts before training.

    Args:
        max_depth: how many levels of modules to show.
    """

    def __init__(self, *, max_depth: int = 2):
        self.max_depth = max_depth

    @rank_zero_only
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table."""
        Console().print(size_table(learning_model(pl_module), self.max_depth))


def size_table(model: nn.Module, max_depth: int) -> Table:
    """Return a table of the modules that have parameters, to `max_depth` levels."""
    table = Table("module", "type", "parameters", "trainable", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for name, module in model.named_modules():
        depth = name.count(".") + 1 if name else 0
        total = sum(p.numel() for p in module.parameters())
        if total and depth <= max_depth:
            trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
            row = ["  " * depth + (name.rsplit(".", 1)[-1] or "model"), type(module).__name__]
            table.add_row(*row, f"{total:,}", f"{trainable:,}")
    return table
