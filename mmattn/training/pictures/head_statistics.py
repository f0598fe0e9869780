"""What every head does, over training: entropy, distance, sinks and dead heads as curves."""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from mmattn.batch import ImageTokens
from mmattn.errors import ConfigError
from mmattn.files import write_whole
from mmattn.maps.head_history import head_history
from mmattn.maps.head_statistic import head_statistic
from mmattn.maps.png import save_png
from mmattn.maps.scale import number
from mmattn.statistics import STATISTICS, HeadStatistics, StatisticsRecorder
from mmattn.training.best_effort import BestEffort
from mmattn.training.loggers.media import Media
from mmattn.training.parts import caption_data, captioning_task, probe_batch
from mmattn.training.pictures.attention_records import looking
from mmattn.training.pictures.probes import Probes

# What becomes a curve for every layer; the CSV file has all statistics.
CURVES = ("entropy", "information", "sink", "prefix_mass", "register_mass", "distance")
History = list[tuple[int, np.ndarray]]  # steps and [L, H] values
PICTURED = {"entropy": ", nats", "sink": "", "information": ", nats"}  # layers by heads, with unit
OUTLIER = 5.0  # times the median norm; registers are for tokens beyond it (Darcet et al. 2024)
SHARE = 0.2  # of what one step may log; the maps have the rest


class HeadStatisticsLogger(L.Callback):
    """Measures every attention head at each validation, on the same images, on rank 0.

    Measured on the first *reference* caption, teacher-forced, so that curves are of the heads and
    not of what was generated. Logs the mean of every layer as `attention/<statistic>/<site>`, how
    many heads of each kind are sinks and dead, and the share of image tokens with an outlying norm;
    each kind's entropies, sinks and information as pictures, layers by heads. `folder/heads.csv`
    has every head, and at the end `folder/entropy-….png` shows all entropies over training. A run
    that is resumed goes on with both.

    Args:
        folder: where the files go.
        sites: glob patterns of the attentions to measure.
        probes: on which images; 32 of the validation set if None.
    """

    def __init__(self, folder: str, *, sites: Iterable[str] = ("*",), probes: Probes | None = None):
        self.folder, self.sites = Path(folder), list(sites)
        self.path = self.folder / "heads.csv"
        self.probes = probes or Probes(size=32)
        self._media, self._effort = Media(SHARE), BestEffort()
        self._entropies: dict[str, History] = defaultdict(list)  # by kind of site

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Measure once before anything is trained. Raises ConfigError where that fails."""
        if stage == "fit":
            try:
                self._measure(trainer, pl_module)
            except ValueError as error:
                raise ConfigError(f"callbacks.heads: {error}") from error

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what an earlier run in this folder measured after the step this one goes on from.

        A run that was killed had measured more than its last checkpoint knows.
        """
        if trainer.is_global_zero and self.path.exists():
            with self._effort.at(self.path):
                write_rows(self.path, rows_before(self.path, trainer.global_step + 1))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure, log and write, while averaged weights (EMA) are still in place."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        step, loggers = trainer.global_step, trainer.loggers
        found, outliers = self._measure(trainer, pl_module)
        self._media.figures(loggers, step, {"attention/norm_outliers": outliers} | figures(found))
        with self._effort.at(self.path):
            write_rows(self.path, rows_before(self.path, step) + rows_of(step, found))
        for kind, statistics in found.items():
            before = [each for each in self._entropies[kind] if each[0] < step]
            self._entropies[kind] = [*before, (step, statistics.entropy.cpu().numpy())]
            for name, unit in PICTURED.items():
                values, title = getattr(statistics, name).cpu().numpy(), f"{name} of {kind}{unit}"
                picture = head_statistic(values.clip(0), title=title)  # rounding can go below 0
                key, caption = f"attention/heads/{name}/{kind}", f"{title}, {ends(values)}"
                self._media.images(loggers, step, key, [picture], [caption])

    @property
    def state_key(self) -> str:
        """What a checkpoint knows this callback by: with other images or sites it is another."""
        return self._generate_state_key(sites=self.sites, probes=str(self.probes))

    def state_dict(self) -> dict[str, Any]:
        """Return the entropies so far, as plain numbers: a checkpoint holds no other code."""
        return {
            kind: [[step, values.tolist()] for step, values in history]
            for kind, history in self._entropies.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the entropies of a checkpoint."""
        for kind, history in state_dict.items():
            self._entropies[kind] = [(step, np.array(values)) for step, values in history]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the entropies over training."""
        for kind, history in self._entropies.items():
            steps, values = [step for step, _ in history], np.stack([e for _, e in history])
            picture = head_history(steps, values, title=f"entropy of {kind}, nats")
            path = self.folder / f"entropy-{kind.replace('.*.', '-')}.png"
            with self._effort.at(path):
                save_png(path, picture)

    def _measure(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> tuple[dict[str, HeadStatistics], float]:
        """Return the statistics by kind of site, and the share of outlying image tokens."""
        task, data = captioning_task(pl_module), caption_data(trainer)
        probe = self.probes.choose(data.splits)[0]
        batch = probe_batch(task, data, probe)
        vision = task.model.vision
        registers = vision.prefix - int(vision.class_token)
        with looking(task):
            grid = vision.patches.grid(data.image_size)
            recorder = StatisticsRecorder(
                self.sites, grid=grid, prefix=vision.prefix, registers=registers
            )
            recorder.valid = batch.valid
            image = task.model.encode_batch(batch, recorder)
            task.model.decode(image, batch.tokens, recorder)
        return recorder.statistics(), norm_outliers(image)


def figures(found: dict[str, HeadStatistics]) -> dict[str, float]:
    """Return what is logged: means over the heads of each layer, sinks and dead heads by kind."""
    values: dict[str, float] = {}
    for kind, statistics in found.items():
        values[f"attention/sink_heads/{kind}"] = float(statistics.sink_heads().sum())
        values[f"attention/dead_heads/{kind}"] = float(statistics.dead_heads().sum())
        for name in CURVES:
            means = getattr(statistics, name).mean(1).tolist()
            values |= {
                f"attention/{name}/{site}": mean
                for site, mean in zip(statistics.sites, means, strict=True)
                if math.isfinite(mean) and (mean or not name.endswith("_mass"))
            }
    return values


def ends(values: np.ndarray) -> str:
    """Return the least and the largest value in words, of those that are finite."""
    finite = values[np.isfinite(values)]
    return f"{number(finite.min())} to {number(finite.max())}" if finite.size else "not finite"


def norm_outliers(image: ImageTokens) -> float:
    """Return the share of patch tokens whose norm is over `OUTLIER` times their median."""
    norms = image.tokens[:, image.prefix :].float().norm(dim=-1)
    return float((norms > OUTLIER * norms.median()).float().mean())


def rows_of(step: int, found: dict[str, HeadStatistics]) -> list[str]:
    """Return the line of every head in `heads.csv`."""
    lines = []
    for statistics in found.values():
        values = torch.stack([getattr(statistics, name) for name in STATISTICS], -1)
        for site, heads in zip(statistics.sites, values.tolist(), strict=True):
            for head, row in enumerate(heads):
                lines.append(",".join([str(step), site, str(head), *(f"{x:.6g}" for x in row)]))
    return lines


def rows_before(path: Path, step: int) -> list[str]:
    """Return the lines that a `heads.csv` has of earlier steps; none where there is no file."""
    lines = path.read_text("utf-8", "replace").splitlines()[1:] if path.exists() else []
    steps = [(line, line.partition(",")[0]) for line in lines]
    return [line for line, of in steps if of.isdecimal() and int(of) < step]


def write_rows(path: Path, lines: list[str]) -> None:
    """Write a `heads.csv`, whole."""
    header = ",".join(["step", "site", "head", *STATISTICS])
    write_whole(path, ("\n".join([header, *lines]) + "\n").encode())
