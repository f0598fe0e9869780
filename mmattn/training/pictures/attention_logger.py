"""While training and testing: what the captioner attends to, for the same few images every time."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightning as L

from mmattn.errors import ConfigError, UserError
from mmattn.files import write_whole
from mmattn.maps.archive import AttentionRecord, save_attention
from mmattn.maps.methods import MapMethod, RawAttention
from mmattn.maps.png import save_png
from mmattn.maps.record_pictures import head_grid, strip_caption, word_strip
from mmattn.maps.viewer import viewer_html
from mmattn.training.best_effort import BestEffort
from mmattn.training.loggers.media import Media
from mmattn.training.parts import caption_data, captioning_task
from mmattn.training.pictures.attention_records import attention_records
from mmattn.training.pictures.every_nth import EveryNth
from mmattn.training.pictures.file_names import file_names
from mmattn.training.pictures.probes import OWN, Probe, Probes
from mmattn.training.processes.strategies import whole_model

log = logging.getLogger(__name__)
SHARE = 0.8  # of what one step may log; the head statistics have the rest
PAGE_MB = 1.5  # of an image in the HTML page


class AttentionLogger(L.Callback):
    """Writes and logs the attention of a fixed set of probe images, on rank 0.

    For each probe image: the image, its references, the generated caption and one overlay per
    generated word; for the first with a word also a grid of every layer and head. Files go to
    `folder/step-…/`: PNG pictures, NPZ with the numbers, and one HTML page to explore all of them.
    The model is left as it was, so a run with and without this callback learns the same. Nor does
    a disk that is full or gone end a run: it is warned of once.

    Args:
        folder: where the files go.
        map: how the drawn maps are made; the last layer's cross-attention, mean over heads, if
            None.
        further_maps: maps that are kept beside it, in the NPZ files and in the HTML page.
        probes: which images; four of the validation set if None.
        self_attention: keep the encoder's and the decoder's self-attention too.
        every_n_validations: draw at every n-th validation; at none if None or 0.
        every_n_steps: draw at every n-th training step; at none if None or 0.
        test_images: number of images of each test set to draw when testing; 0 draws none.
        viewer: write and log the HTML page.

    `examples` holds what was drawn of the test sets.
    """

    def __init__(
        self,
        folder: str,
        *,
        map: MapMethod | None = None,
        further_maps: Sequence[MapMethod] = (),
        probes: Probes | None = None,
        self_attention: bool = False,
        every_n_validations: int | None = 1,
        every_n_steps: int | None = None,
        test_images: int = 4,
        viewer: bool = True,
    ):
        self.folder = Path(folder)
        self.methods = [map or RawAttention(), *further_maps]
        self.probes, self.self_attention = probes or Probes(), self_attention
        self._every, self.every_n_steps = EveryNth(every_n_validations), every_n_steps
        self.test_images, self.viewer = test_images, viewer
        self.examples: list[AttentionRecord] = []
        self._chosen: list[Probe] = []
        self._media, self._effort = Media(SHARE), BestEffort()
        self._last_step: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the images and try everything on one, and all of the user's own, before training.

        Raises:
            ConfigError: for an image, a layer or a transform that does not exist or does not do.
        """
        data = caption_data(trainer)
        if stage == "fit":
            self._chosen = self.probes.choose(data.splits)
        for probe in self._chosen if stage == "fit" else self._test_probes(trainer):
            tried = probe.indices if probe.name == OWN else probe.indices[:1]
            some = Probe(probe.name, probe.dataset, tried)
            try:
                attention_records(captioning_task(pl_module), data, some, self.methods)
            except UserError:
                raise
            except (ValueError, RuntimeError) as error:
                raise ConfigError(f"callbacks.attention: {error}") from error

    @property
    def state_key(self) -> str:
        """What a checkpoint knows this callback by: with other maps or images it is another."""
        titles = [method.title for method in self.methods]
        return self._generate_state_key(maps=titles, probes=str(self.probes))

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there were, so that a resumed run draws every n-th of all."""
        return {"validations": self._every.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from those of a checkpoint."""
        self._every.seen = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the probe images, while averaged weights (EMA) are still in place."""
        if not trainer.sanity_checking and self._every.next():
            self._draw_chosen(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Draw the probe images where this many steps have passed."""
        step = trainer.global_step
        if self.every_n_steps and step and step % self.every_n_steps == 0:
            with whole_model(trainer):
                self._draw_chosen(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw images of every test set."""
        for probe in self._test_probes(trainer):
            self.examples += self._draw(trainer, pl_module, probe)

    def _test_probes(self, trainer: L.Trainer) -> list[Probe]:
        """Return some images of every test set."""
        splits = caption_data(trainer).splits
        names = [f"test/{name}".rstrip("/") for name in splits.test if self.test_images]
        return [Probes(name, self.test_images).choose(splits)[0] for name in names]

    def _draw_chosen(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._last_step == trainer.global_step:  # gradients accumulate, or a validation follows
            return
        self._last_step = trainer.global_step
        for probe in self._chosen:
            self._draw(trainer, pl_module, probe)

    def _draw(
        self, trainer: L.Trainer, pl_module: L.LightningModule, probe: Probe
    ) -> list[AttentionRecord]:
        """Draw, write and log some images on rank 0; return what was drawn."""
        records: list[AttentionRecord] = []
        if not trainer.is_global_zero:
            return records
        step = trainer.global_step
        folder = self.folder / f"step-{step:06d}" / probe.name.replace("/", "-")
        with self._effort.at(folder):  # an image may be gone by now
            records = attention_records(
                captioning_task(pl_module),
                caption_data(trainer),
                probe,
                self.methods,
                self_attention=self.self_attention,
                step=step,
            )
        key = f"attention/{probe.name}".rstrip("/")
        names = file_names([record.key for record in records])
        self._show_words(records, names, folder, key, trainer)
        self._show_heads(records, names, folder, key, trainer)
        if self.viewer and records:
            self._show_page(records, folder / "viewer.html", key, trainer)
        return records

    def _show_words(
        self,
        records: Sequence[AttentionRecord],
        names: Sequence[str],
        folder: Path,
        key: str,
        trainer: L.Trainer,
    ) -> None:
        """Write and log a strip of every caption's words; write all numbers."""
        pictures = [word_strip(record) for record in records]
        with self._effort.at(folder), ThreadPoolExecutor(2) as pool:  # compress without interpreter
            list(pool.map(save_png, [folder / f"{name}.png" for name in names], pictures))
            list(pool.map(save_attention, [folder / f"{name}.npz" for name in names], records))
        captions = [strip_caption(record) for record in records]
        self._media.images(trainer.loggers, trainer.global_step, key, pictures, captions)

    def _show_heads(
        self,
        records: Sequence[AttentionRecord],
        names: Sequence[str],
        folder: Path,
        key: str,
        trainer: L.Trainer,
    ) -> None:
        """Write and log every layer and head for a word of the first caption that has one."""
        for record, name in zip(records, names, strict=True):
            if record.words:
                grid, step = head_grid(record), trainer.global_step
                with self._effort.at(folder):
                    save_png(folder / f"{name}-heads.png", grid)
                self._media.images(trainer.loggers, step, f"{key}/heads", [grid], [record.caption])
                return

    def _show_page(
        self, records: Sequence[AttentionRecord], path: Path, key: str, trainer: L.Trainer
    ) -> None:
        """Write and log the HTML page; maps that are too many for one do not stop training."""
        try:
            page = viewer_html(records, budget_mb=PAGE_MB * len(records))
        except ValueError as error:
            log.warning("%s is left out: %s", path, error)
            return
        with self._effort.at(path):
            write_whole(path, page.encode())
        self._media.page(trainer.loggers, trainer.global_step, f"{key}/viewer", page)
