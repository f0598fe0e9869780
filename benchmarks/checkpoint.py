"""How long training stands still for a checkpoint: in the background, at once, and Lightning's way.

    uv run python benchmarks/checkpoint.py
    uv run python benchmarks/checkpoint.py --steps 40 --saves 4      # in a hurry

The default captioner of `python train.py` is trained by a real Trainer on the built-in glyphs. The
ways of saving take turns in one process, every save on a step of its own with steps before and
after, so that what the background takes from the following steps is counted as well: the cost of a
save is the time of its stretch of steps, beyond that of a stretch without any. Goal: at one save
every 500 steps, the background costs at most 1 % of the time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import torch
from hydra import compose, initialize_config_dir
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from mmattn.cli import schema
from mmattn.cli.build import build, build_model, build_task
from mmattn.training.allocator import keep_freed_memory
from mmattn.training.checkpoints.io import CheckpointFiles

EVERY = 500  # steps between two checkpoints, for the share of time
WAYS = {
    "none": lambda: None,
    "mmattn, in the background": lambda: CheckpointFiles(asynchronous=True),
    "mmattn, at once": lambda: CheckpointFiles(asynchronous=False),
    "Lightning": TorchCheckpointIO,
    "Lightning, AsyncCheckpointIO": lambda: AsyncCheckpointIO(TorchCheckpointIO()),
}


class Stretches(L.Callback):
    """Times stretches of steps, each with one save at its start, of one way after the other.

    Args:
        length: steps of a stretch.
        rounds: stretches of each way, after one of each that is not counted.
        folder: where the checkpoints are written.
    """

    def __init__(self, length: int, rounds: int, folder: Path):
        self.length, self.folder = length, folder
        self.ways: dict[str, CheckpointIO | None] = {name: make() for name, make in WAYS.items()}
        self.turns = self._turns(rounds + 1)
        self.calls: dict[str, list[float]] = {name: [] for name in self.ways}
        self.stretches: dict[str, list[float]] = {name: [] for name in self.ways}
        self.now: str | None = None
        self.started = 0.0

    def _turns(self, rounds: int) -> Iterator[str]:
        for _ in range(rounds):
            yield from self.ways

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """End a stretch and begin the next one with a save."""
        if trainer.global_step % self.length:
            return
        self._end()
        self.now = next(self.turns, None)
        if self.now is None:
            trainer.should_stop = True
            return
        self.started = time.perf_counter()
        way = self.ways[self.now]
        if way is not None:
            trainer.strategy.checkpoint_io = way
            trainer.save_checkpoint(self.folder / f"{self.now}.ckpt", False)
        self.calls[self.now].append(time.perf_counter() - self.started)

    def _end(self) -> None:
        if self.now is None:
            return
        way = self.ways[self.now]
        if way is not None:
            way.teardown()  # a write that is still going on belongs to this stretch
        self.stretches[self.now].append(time.perf_counter() - self.started)

    def cost(self, name: str) -> tuple[float, float]:
        """Return seconds of a save's call, and of what it adds to its stretch; medians."""
        calls, stretches = self.calls[name][1:], self.stretches[name][1:]
        without = self.stretches["none"][1:]
        # Of neighbours in time: the machine's own ups and downs meet both.
        added = [a - b for a, b in zip(stretches, without, strict=True)]
        return statistics.median(calls), statistics.median(added)

    def step(self) -> float:
        """Return the seconds of a training step without any save; a median."""
        return statistics.median(self.stretches["none"][1:]) / self.length


def default_run() -> tuple[L.LightningModule, L.LightningDataModule]:
    """Return the task and the data of `python train.py`."""
    schema.register()
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        config = compose("train", ["paths.output_dir=unused"])
    data = build(config.data, "data")
    data.read()
    return build_task(config, build_model(config, data), data), data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="steps of a stretch")
    parser.add_argument("--saves", type=int, default=7, help="saves of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="on the disk that is meant; default: temporary")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a run does
    task, data = default_run()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        stretches = Stretches(arguments.steps, arguments.saves, Path(folder))
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1000,
            limit_val_batches=0,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            callbacks=[stretches],
        )
        trainer.fit(task, datamodule=data)
        size = (Path(folder) / "Lightning.ckpt").stat().st_size
    show(stretches, size)


def show(stretches: Stretches, size: int) -> None:
    """Print the table."""
    step = stretches.step()
    ours = stretches.cost("mmattn, in the background")
    print(f"a checkpoint of {size / 1e6:.1f} MB; a training step takes {1e3 * step:.1f} ms")
    print(f"{'':30}  pause  ratio   whole cost   share of {EVERY} steps")
    for name in WAYS:
        if name == "none":
            continue
        pause, added = stretches.cost(name)
        share = max(added, pause) / (EVERY * step)
        print(
            f"{name:30} {1e3 * pause:4.0f} ms {pause / ours[0]:5.2f} x {1e3 * added:8.0f} ms "
            f"{share:12.2%}"
        )


if __name__ == "__main__":
    main()
