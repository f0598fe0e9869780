"""One configuration, trained without a break and with several: what differs at the end."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import OmegaConf

from mmattn.errors import ConfigError
from mmattn.training.loggers.metrics_file import read_rows
from mmattn.training.trace import END, checkpoint_path, first_difference, largest_difference

# What the trial decides; the user's own values of these do not count.
OWN = ("hydra.run.dir", "ckpt_path", "logger", "test", "train", "controls", "print_config")
SHOWN = 20  # lines of a run that failed
TRACE = "trace"


@dataclass(frozen=True)
class Cut:
    """What came of a run that went on after `step`: the largest difference, and the first."""

    step: int
    largest: float
    first: str | None


@dataclass
class Trial:
    """What came of a configuration.

    `control` is the largest difference between the weights after the last two steps, which must not
    be 0: else nothing is learned, and that all runs agree means nothing.
    """

    workers: int
    ranks: int
    precision: str
    control: float
    cuts: list[Cut] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether every run was the same to the last bit, and they might have differed."""
        return self.control > 0 and not any(cut.first or cut.largest for cut in self.cuts)


def try_resuming(
    overrides: Sequence[str],
    folder: Path,
    steps: int,
    batches: int,
    cuts: Sequence[int],
    progress: Callable[[str], object] = lambda line: None,
) -> Trial:
    """Train `steps` steps in one go, and again with a cut after each of `cuts`; compare.

    Args:
        overrides: the user's command line.
        folder: an empty one, for all runs.
        steps: optimiser steps.
        batches: training batches of an epoch, at most.
        cuts: steps.
        progress: is told what happens.

    Raises:
        ConfigError: where a run fails, with the last lines that it printed.
    """
    shared = [*overrides_to_keep(overrides), *short(steps, batches)]
    progress(f"training {steps} steps")
    whole = train(folder / "whole", shared)
    progress(f"training again, to be killed after step {min(max(cuts) + 1, steps)}")
    killed = train(
        folder / "killed",
        [*shared, f"+callbacks.{TRACE}.cuts={list(cuts)}", f"+callbacks.{TRACE}.dies=true"],
        code=-signal.SIGKILL,
    )
    trial = described(whole)
    for step in cuts:
        progress(f"going on after step {step}")
        own = folder / f"from-{step}"
        shutil.copytree(killed, own)
        for path in (own / TRACE).glob("steps-*.jsonl"):
            path.unlink()
        train(own, [*shared, f"ckpt_path='{checkpoint_path(own / TRACE, step)}'"])
        trial.cuts.append(compared(whole, own, step))
        shutil.rmtree(own)
    return trial


def overrides_to_keep(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without those that the trial decides itself."""
    keys = [override.lstrip("+~").partition("=")[0] for override in overrides]
    return [
        override
        for override, key in zip(overrides, keys, strict=True)
        if key not in OWN and not key.startswith("logger.")
    ]


def short(steps: int, batches: int) -> list[str]:
    """Return the overrides that make a run short and let it log every step, to its own file."""
    return [
        *("train=true", "test=false", "controls=[]", "print_config=false", "logger=csv"),
        f"trainer.max_steps={steps}",
        "trainer.max_epochs=-1",
        f"trainer.limit_train_batches={batches}",
        "trainer.limit_val_batches=1",
        "trainer.check_val_every_n_epoch=1",
        "trainer.val_check_interval=1.0",
        "trainer.log_every_n_steps=1",
        "trainer.num_sanity_val_steps=0",
        "trainer.fast_dev_run=false",
        "trainer.enable_checkpointing=true",
        "trainer.enable_progress_bar=false",
        f"+callbacks.{TRACE}._target_=mmattn.training.trace.Trace",
    ]


def train(folder: Path, overrides: Sequence[str], code: int = 0) -> Path:
    """Train in a process of its own, in `folder`. Raises ConfigError unless it ends with `code`."""
    command = [sys.executable, "-m", "mmattn", "train", *overrides]
    command += [f"hydra.run.dir='{folder}'", f"+callbacks.{TRACE}.folder='{folder / TRACE}'"]
    folder.mkdir(exist_ok=True)
    said = folder.with_suffix(".log")
    with said.open("wb") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A process that is killed leaves its temporary files: they go with the folder.
            env=os.environ | {"MMATTN_RUN_TIME": folder.name, "TMPDIR": str(folder.parent)},
            check=False,
        )
    if done.returncode != code:
        lines = said.read_text("utf-8", "replace").splitlines()[-SHOWN:]
        raise ConfigError(
            f"the run {folder.name} of the trial ended with code {done.returncode}, not {code}; it "
            "said last:\n" + "\n".join(lines)
        )
    return folder


def described(whole: Path) -> Trial:
    """Return the trial of a run that was trained in one go, without any cut yet."""
    config = OmegaConf.load(whole / "config.yaml")
    weights = torch.load(whole / TRACE / END, weights_only=True)
    return Trial(
        workers=int(OmegaConf.select(config, "data.loader.num_workers") or 0),
        ranks=len(list((whole / TRACE).glob("steps-*.jsonl"))),
        precision=str(OmegaConf.select(config, "trainer.precision")),
        control=largest_difference(weights["last"], weights["before"])[0],
    )


def compared(whole: Path, own: Path, step: int) -> Cut:
    """Compare a run that went on after `step` with the one that was never cut."""
    ends = [torch.load(run / TRACE / END, weights_only=True)["end"] for run in (whole, own)]
    largest, where = largest_difference(*ends)
    first = first_difference(whole / TRACE, own / TRACE)
    if first is None and largest:
        first = f"{where} at the end"
    return Cut(step, largest, first or curve_difference(whole, own))


def curve_difference(whole: Path, own: Path) -> str | None:
    """Return the first row of metrics.csv that differs in a figure of training or validation."""
    curves = [
        [{key: x for key, x in row.items() if _figure(key)} for row in rows]
        for rows in (read_rows(run / "metrics.csv")[1] for run in (whole, own))
    ]
    for number, (ours, theirs) in enumerate(zip(*curves, strict=False), start=1):
        for key in ours | theirs:
            if ours.get(key) != theirs.get(key):
                return (
                    f"row {number} of metrics.csv: {key} is {theirs.get(key)}, not {ours.get(key)}"
                )
    lengths = [len(curve) for curve in curves]
    return (
        None if lengths[0] == lengths[1] else f"metrics.csv has {lengths[1]} rows, not {lengths[0]}"
    )


def table(trials: Sequence[Trial]) -> str:
    """Return what came of trials as a table in Markdown."""
    lines = ["| cut after step | workers | ranks | precision | largest difference | first |"]
    lines.append("|---|---|---|---|---|---|")
    for trial in trials:
        of = f"{trial.workers} | {trial.ranks} | {trial.precision}"
        for cut in trial.cuts:
            lines.append(f"| {cut.step} | {of} | {cut.largest:.3g} | {cut.first or 'none'} |")
        said = "must differ" if trial.control else "nothing was learned: the trial says nothing"
        lines.append(f"| control: the last two steps | {of} | {trial.control:.3g} | {said} |")
    return "\n".join(lines)


def _figure(key: str) -> bool:
    return key == "step" or key.startswith(("train/", "val/", "lr"))
