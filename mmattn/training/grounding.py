"""Pointing and energy of accent words while validating and testing: numbers beside the pictures."""

from collections.abc import Mapping, Sequence

import lightning as L
import numpy as np
import torch
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.maps.methods import MapMethod, RawAttention
from mmattn.maps.quality.grounding import Grounding, ground
from mmattn.maps.words import group_words, merge
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.attention_records import looking
from mmattn.training.parts import caption_data, captioning_task

Regions = Mapping[str, np.ndarray]
FIELDS = 5  # sums of hit, pointing chance, energy, energy chance, and the count


class GroundingMeter(L.Callback):
    """Logs whether the map of a word falls on the region that the word names.

    Measured on the *reference* caption, teacher-forced, so that every accent counts whether or not
    the model wrote it. Logs `<set>/attention/pointing`, `pointing_chance`, `energy` and
    `energy_ratio`, and over all test sets together `attention/…`. Data sets without regions are
    left alone.

    Args:
        map: how the maps are made that are measured; the last layer's cross-attention, mean over
            heads, if None.
    """

    def __init__(self, *, map: MapMethod | None = None):
        self.method = map or RawAttention()
        self._sums: dict[str, Tensor] = {}

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the validation set's sums."""
        self._start(trainer, {"val": caption_data(trainer).splits.val})

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the sums of every test set."""
        tests = caption_data(trainer).splits.test
        self._start(trainer, {f"test/{name}".rstrip("/"): tests[name] for name in tests})

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: CaptionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one validation batch."""
        self._add(captioning_task(pl_module), caption_data(trainer).splits.val, batch, "val")

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: CaptionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one batch of a test set."""
        name = captioning_task(pl_module).test_names[dataloader_idx]
        prefix = f"test/{name}".rstrip("/")
        self._add(
            captioning_task(pl_module), caption_data(trainer).splits.test[name], batch, prefix
        )

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation set's figures."""
        self._log(trainer, captioning_task(pl_module))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log each test set's figures, and those of all of them together."""
        if self._sums:
            self._sums[""] = torch.stack(list(self._sums.values())).sum(0)
        self._log(trainer, captioning_task(pl_module))

    def _start(self, trainer: L.Trainer, datasets: dict[str, CaptionDataset]) -> None:
        """Start at zero on every rank, also where it will meet no region: all ranks add up."""
        self._sums = {
            name: torch.zeros(FIELDS, dtype=torch.float64)
            for name, dataset in datasets.items()
            if isinstance(dataset, GroundedDataset) and not trainer.sanity_checking
        }

    def _add(
        self, task: CaptioningTask, dataset: CaptionDataset, batch: CaptionBatch, prefix: str
    ) -> None:
        if prefix not in self._sums or not isinstance(dataset, GroundedDataset):
            return
        places = {dataset.key(i): i for i in range(len(dataset))}
        regions = [dataset.regions(places[key]) for key in batch.keys]
        sums = self._sums[prefix]
        for g in grounded_words(task, batch, regions, self.method):
            row = [g.hit, g.pointing_chance, g.energy, g.chance, 1.0]
            sums += torch.tensor(row, dtype=torch.float64)

    def _log(self, trainer: L.Trainer, task: CaptioningTask) -> None:
        for prefix, sums in self._sums.items():
            here = sums.to(task.device, torch.float32)  # Apple's GPUs have no float64
            total = trainer.strategy.reduce(here, reduce_op="sum")
            hit, pointing_chance, energy, chance, count = total.tolist()
            if count:
                name = f"{prefix}/attention" if prefix else "attention"
                values = {
                    f"{name}/pointing": hit / count,
                    f"{name}/pointing_chance": pointing_chance / count,
                    f"{name}/energy": energy / count,
                    f"{name}/energy_ratio": energy / chance,
                    f"{name}/words": count,
                }
                task.log_dict(values, sync_dist=True)  # summed: the same on every rank
        self._sums.clear()


def grounded_words(
    task: CaptioningTask, batch: CaptionBatch, regions: Sequence[Regions], method: MapMethod
) -> list[Grounding]:
    """Return how the words with a region do, for the first caption of each image.

    `regions` are word -> bool mask [height, width], one mapping an image.
    """
    chosen = [b for b, found in enumerate(regions) if found]
    if not chosen:
        return []
    with looking(task):
        maps = method(task.model, batch.select(chosen))[:, 0].float().cpu().numpy()
    return [
        grounding
        for b, found in zip(chosen, maps, strict=True)
        for grounding in word_groundings(task, reference(batch, b), found, regions[b])
    ]


def reference(batch: CaptionBatch, b: int) -> Tensor:
    """Return the ids of image b's first caption, without padding."""
    return batch.tokens[b, 0, batch.valid[b, 0]]


def word_groundings(
    task: CaptioningTask, tokens: Tensor, maps: np.ndarray, masks: Regions
) -> list[Grounding]:
    """Return one grounding for each word of a caption that has a mask.

    Of a signed map its positive part counts; a map that is not finite, as of a model that diverged,
    is left out.

    `tokens` are the caption's ids, the begin token first; `maps` are [T, h, w], one for each token
    that was written.
    """
    ids = task.tokenizer.until_end(tokens.tolist())
    text, spans = task.tokenizer.decode(ids), task.tokenizer.offsets(ids)
    words = group_words(text, spans)
    return [
        ground(np.maximum(map, 0.0), masks[word.text])
        for word, map in zip(words, merge(maps, words), strict=True)
        if word.text in masks and np.isfinite(map).all()
    ]
