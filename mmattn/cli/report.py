"""What a run says at its end: the figures, and where to look."""

from pathlib import Path
from shlex import quote

import lightning as L
from rich.console import Console
from rich.table import Table

from mmattn.training.parts import callbacks_of
from mmattn.training.pictures.attention_logger import AttentionLogger


def examples(trainer: L.Trainer) -> Table:
    """Return a table of captions of unseen images, those whose attention was drawn."""
    table = Table("image", "generated", "reference", title="captions of unseen images")
    table.title_justify = "left"
    for callback in callbacks_of(trainer):
        if isinstance(callback, AttentionLogger):
            for record in callback.examples:
                same = record.caption in record.references
                table.add_row(
                    record.key, record.caption, "the same" if same else record.references[0]
                )
    return table


def report(results: dict[str, float], folder: Path, trainer: L.Trainer) -> None:
    """Print the results and where the pictures are."""
    console = Console()
    captions = examples(trainer)
    if captions.row_count:
        console.print(captions)
    table = Table("figure", "value", title="results", title_justify="left")
    table.columns[1].justify = "right"
    for key, value in results.items():
        if key.startswith(
            ("test/", "control/", "attention/", "train/seconds", "train/captions", "train/examples")
        ):
            table.add_row(key, f"{value:.4g}")
    if table.row_count:
        console.print(table)
    pictures = sorted(folder.glob("attention/step-*/"))
    if pictures:
        console.print(f"attention maps   {pictures[-1]}", soft_wrap=True)
        console.print(f"to explore them  mmattn view {quote(str(folder))}", soft_wrap=True)
    console.print(f"run directory    {folder}", soft_wrap=True)
