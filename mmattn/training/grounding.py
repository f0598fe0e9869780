"""Pointing and energy of accent words while validating and testing: numbers beside the pictures."""

import lightning as L
import torch
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.maps.quality.grounding import Grounding, ground
from mmattn.maps.recorded import CaptionAttention, attend_captions
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.parts import caption_data, captioning_task

FIELDS = 5  # sums of hit, pointing chance, energy, energy chance, and the count


class GroundingMeter(L.Callback):
    """Logs whether the map of a word falls on the region that the word names.

    Measured on the *reference* caption, teacher-forced, so that every accent counts whether or not
    the model wrote it. Logs `<set>/attention/pointing`, `pointing_chance`, `energy` and
    `energy_ratio`, and over all test sets together `attention/…`. Data sets without regions are
    left alone.

    Args:
        layer: the decoder layer whose mean over heads is measured; negative counts from the last.
    """

    def __init__(self, *, layer: int = -1):
        self.layer = layer
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
        chosen = [b for b, found in enumerate(regions) if found]
        if not chosen:
            return
        found = grounded_words(task, batch, chosen, [regions[b] for b in chosen], self.layer)
        sums = self._sums[prefix]
        for g in found:
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
    task: CaptioningTask,
    batch: CaptionBatch,
    chosen: list[int],
    regions: list[dict],
    layer: int,
) -> list[Grounding]:
    """Return how the words with a region do, for the first caption of the chosen images."""
    image = task.encode(batch)
    image = image._replace(tokens=image.tokens[chosen])
    captions = [
        task.tokenizer.until_end(batch.tokens[b, 0, batch.valid[b, 0]].tolist()) for b in chosen
    ]
    texts = [(task.tokenizer.decode(ids), task.tokenizer.offsets(ids)) for ids in captions]
    maps = attend_captions(task.model, image, captions, texts, task.tokenizer.begin_id)
    return [
        grounding
        for attention, masks in zip(maps, regions, strict=True)
        for grounding in word_groundings(attention, masks, layer)
    ]


def word_groundings(attention: CaptionAttention, masks: dict, layer: int) -> list[Grounding]:
    """Return one grounding for each word of the caption that has a mask."""
    maps = attention.word_maps(layer)
    return [
        ground(maps[i], masks[word.text])
        for i, word in enumerate(attention.words)
        if word.text in masks
    ]
