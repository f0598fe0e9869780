"""Pointing and energy of accent words while validating and testing: numbers beside the pictures."""

from collections.abc import Collection, Mapping, Sequence

import lightning as L
import numpy as np
import torch
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.data.module import CaptionDataModule
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.maps.methods import MapMethod, RawAttention
from mmattn.maps.quality.grounding import Grounding, averages, ground, totals
from mmattn.maps.words import Word, group_words, merge
from mmattn.placement import PlacedRegion, placement_of, seen_regions
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.parts import caption_data, captioning_task
from mmattn.training.pictures.attention_records import looking

FIELDS = 6  # the five totals, and how many words are unseen


class GroundingMeter(L.Callback):
    """Logs whether the map of a word falls on the region that the word names.

    Where the network sees a crop of the image, a region is what the crop shows of it. A word whose
    region lies wholly outside does not count; `unseen_words` says how many there are, if any.

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
        self._places: dict[str, dict[str, int]] = {}  # of each set, from key to index

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
        data = caption_data(trainer)
        if not data.is_repeat(data.splits.val, batch_idx):
            self._add(captioning_task(pl_module), data, data.splits.val, batch, "val")

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
        task, data = captioning_task(pl_module), caption_data(trainer)
        name = task.test_names[dataloader_idx]
        if not data.is_repeat(data.splits.test[name], batch_idx):
            self._add(task, data, data.splits.test[name], batch, f"test/{name}".rstrip("/"))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation set's figures."""
        self._log(trainer, captioning_task(pl_module))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log each test set's figures, and those of all of them together."""
        if self._sums:
            self._sums[""] = torch.stack(list(self._sums.values())).sum(0)
        self._log(trainer, captioning_task(pl_module))

    def _start(self, trainer: L.Trainer, datasets: dict[str, CaptionDataset]) -> None:
        """Start at zero on every rank, also where it will meet no region: all ranks add up.

        A transform of unknown geometry is refused here, before anything is computed.
        """
        data = caption_data(trainer)
        grounded = [name for name in datasets if isinstance(datasets[name], GroundedDataset)]
        if grounded:
            placement_of(data.eval_transform, data.image_size)
        if trainer.sanity_checking:
            grounded = []
        self._sums = {name: torch.zeros(FIELDS, dtype=torch.float64) for name in grounded}
        self._places = {name: _indices(datasets[name]) for name in grounded}

    def _add(
        self,
        task: CaptioningTask,
        data: CaptionDataModule,
        dataset: CaptionDataset,
        batch: CaptionBatch,
        prefix: str,
    ) -> None:
        if prefix not in self._sums or not isinstance(dataset, GroundedDataset):
            return
        places = self._places[prefix]
        masks = [dataset.regions(places[key]) for key in batch.keys]
        seen = [seen_regions(found, data.eval_transform) for found in masks]
        sums = self._sums[prefix]
        sums[:-1] += torch.from_numpy(totals(grounded_words(task, batch, seen, self.method)))
        for b, found in enumerate(masks):
            unseen = found.keys() - seen[b].keys()
            if unseen:
                tokens = reference(batch, b).tolist()
                sums[-1] += len(named_words(task.tokenizer, tokens, unseen))

    def _log(self, trainer: L.Trainer, task: CaptioningTask) -> None:
        for prefix, sums in self._sums.items():
            here = sums.to(task.device, torch.float32)  # Apple's GPUs have no float64
            total = trainer.strategy.reduce(here, reduce_op="sum")
            *measured, words, unseen = total.tolist()
            values = averages([*measured, words]) if words else {}
            if unseen:
                values["unseen_words"] = unseen
            name = f"{prefix}/attention" if prefix else "attention"
            named = {f"{name}/{figure}": value for figure, value in values.items()}
            task.log_dict(named, sync_dist=True)  # summed: the same on every rank
        self._sums.clear()
        self._places.clear()


def _indices(dataset: CaptionDataset) -> dict[str, int]:
    return {dataset.key(index): index for index in range(len(dataset))}


def grounded_words(
    task: CaptioningTask,
    batch: CaptionBatch,
    regions: Sequence[Mapping[str, PlacedRegion]],
    method: MapMethod,
) -> list[Grounding]:
    """Return how the words with a region do, for the first caption of each image.

    `regions` are word -> region, one mapping an image.
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
    task: CaptioningTask, tokens: Tensor, maps: np.ndarray, regions: Mapping[str, PlacedRegion]
) -> list[Grounding]:
    """Return one grounding for each word of a caption that has a region.

    Of a signed map its positive part counts; a map that is not finite, as of a model that diverged,
    is left out.

    `tokens` are the caption's ids, the begin token first; `maps` are [T, h, w], one for each token
    that was written.
    """
    words = named_words(task.tokenizer, tokens.tolist(), regions)
    return [
        ground(np.maximum(map, 0.0), own.mask, placement=own.placement)
        for map, own in zip(merge(maps, words), (regions[w.text] for w in words), strict=True)
        if np.isfinite(map).all()
    ]


def named_words(
    tokenizer: CaptionTokenizer, tokens: Sequence[int], names: Collection[str]
) -> list[Word]:
    """Return the words of a caption, given by its ids, that are among the `names`."""
    ids = tokenizer.until_end(tokens)
    words = group_words(tokenizer.decode(ids), tokenizer.offsets(ids))
    return [word for word in words if word.text in names]
