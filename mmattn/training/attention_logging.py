"""At each validation: what the captioner attends to, for the same few images every time."""

import json
import logging
from pathlib import Path

import lightning as L
import numpy as np
import torch
from torch import Tensor

from mmattn.data.dataset import CaptionDataset, GroundedDataset
from mmattn.data.module import CaptionDataModule
from mmattn.errors import ConfigError
from mmattn.maps.recorded import CaptionAttention, attend_captions
from mmattn.maps.render import layer_head_grid, save_png, strip
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.image_logging import log_images
from mmattn.training.parts import caption_data, captioning_task

log = logging.getLogger(__name__)


class AttentionLogging(L.Callback):
    """Writes and logs the attention of a fixed probe set, on rank 0.

    For each probe image: the image, its references, the generated caption and one overlay per
    generated word (cross-attention of one layer, mean over heads); for the first with a word also a
    grid of every layer and head. Files go to `folder/step-…/`: PNG pictures, and NPZ with the
    numbers.

    Args:
        folder: where the files go.
        layer: the decoder layer to draw; negative counts from the last.
        probe_size: number of images, spread evenly over the validation set.
        every_n_validations: draw at every n-th validation only.
        test_images: number of images of each test set to draw when testing; 0 draws none.

    `examples` holds what was drawn of the test sets, as (image, references, caption).

    Raises:
        ConfigError: for a layer that the decoder does not have.
    """

    def __init__(
        self,
        folder: str,
        *,
        layer: int = -1,
        probe_size: int = 4,
        every_n_validations: int = 1,
        test_images: int = 4,
    ):
        self.folder, self.layer, self.probe_size = Path(folder), layer, probe_size
        self.every_n_validations, self.test_images = every_n_validations, test_images
        self._validations = 0
        self._probes: dict[str, list[int]] = {}
        self.examples: list[tuple[str, tuple[str, ...], str]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check the layer before anything is trained."""
        depth = captioning_task(pl_module).model.text.depth
        if not -depth <= self.layer < depth:
            raise ConfigError(
                f"callbacks.attention.layer={self.layer}, but the decoder has {depth} layers"
            )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the probe set."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._validations += 1
        if (self._validations - 1) % self.every_n_validations == 0:
            val = caption_data(trainer).splits.val
            self._draw(trainer, captioning_task(pl_module), val, "attention", self.probe_size)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw images of every test set."""
        if not trainer.is_global_zero or not self.test_images:
            return
        for name, dataset in caption_data(trainer).splits.test.items():
            key = f"attention/test/{name}".rstrip("/")
            maps = self._draw(trainer, captioning_task(pl_module), dataset, key, self.test_images)
            self.examples += [
                (dataset.key(index), dataset.captions(index), attention.text)
                for index, attention in zip(self._probes[key], maps, strict=True)
            ]

    def _draw(
        self,
        trainer: L.Trainer,
        task: CaptioningTask,
        dataset: CaptionDataset,
        key: str,
        count: int,
    ) -> list[CaptionAttention]:
        """Draw and log `count` images of a set; return what was drawn."""
        if key not in self._probes:
            self._probes[key] = probe(dataset, count)
        indices = self._probes[key]
        maps = caption_attention(task, caption_data(trainer), dataset, indices)
        below = key.removeprefix("attention").strip("/").replace("/", "-")
        folder = self.folder / f"step-{trainer.global_step:06d}" / below
        pictures = []
        for index, attention in zip(indices, maps, strict=True):
            picture = self._strip(dataset, index, attention)
            name = file_name(dataset.key(index))
            save_png(folder / f"{name}.png", picture)
            save_attention(folder / f"{name}.npz", attention)
            pictures.append(picture)
        log_images(trainer, key, pictures, [attention.text for attention in maps])
        for index, attention in zip(indices, maps, strict=True):
            if attention.words:  # the first caption that is not empty
                grid = self._grid(dataset, index, attention)
                save_png(folder / f"{file_name(dataset.key(index))}-heads.png", grid)
                log_images(trainer, f"{key}/heads", [grid], [attention.text])
                break
        return maps

    def _strip(
        self, dataset: CaptionDataset, index: int, attention: CaptionAttention
    ) -> np.ndarray:
        return strip(
            original(dataset, index),
            [word.text for word in attention.words],
            attention.word_maps(self.layer),
            caption=attention.text,
            references=dataset.captions(index),
        )

    def _grid(self, dataset: CaptionDataset, index: int, attention: CaptionAttention) -> np.ndarray:
        """Draw every layer and head for the caption's last word, its most specific one."""
        spoken = [word for word in attention.words if any(c.isalnum() for c in word.text)]
        word = (spoken or attention.words)[-1]  # not the full stop
        rows = attention.weights[:, :, list(word.tokens)].mean(2)
        return layer_head_grid(
            original(dataset, index),
            rows,
            attention.grid,
            prefix=attention.prefix,
            title=word.text,
        )


def probe(dataset: CaptionDataset, count: int) -> list[int]:
    """Return the same `count` indices every time, spread over the set.

    Where regions are known, images that have some are taken: a reader can check those maps.
    """
    candidates = list(range(len(dataset)))
    if isinstance(dataset, GroundedDataset):
        candidates = [i for i in spread(candidates, 50 * count) if dataset.regions(i)] or candidates
    return spread(candidates, count)


def spread(items: list[int], count: int) -> list[int]:
    """Return at most `count` of the items, evenly spaced."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]


@torch.no_grad()
def caption_attention(
    task: CaptioningTask,
    data: CaptionDataModule,
    dataset: CaptionDataset,
    indices: list[int],
) -> list[CaptionAttention]:
    """Caption the images at `indices` and return what each caption attended to."""
    training = task.training
    task.eval()
    image = task.encode(data.evaluation_batch(dataset, indices).to(task.device))
    captions = [task.tokenizer.until_end(row) for row in task.decode(image).tokens.tolist()]
    texts = [(task.tokenizer.decode(ids), task.tokenizer.offsets(ids)) for ids in captions]
    maps = attend_captions(task.model, image, captions, texts, task.tokenizer.begin_id)
    task.train(training)
    return maps


def original(dataset: CaptionDataset, index: int) -> np.ndarray:
    """Return the image as the user knows it: uint8 [height, width, 3]."""
    picture: Tensor = dataset.image(index)
    return picture.permute(1, 2, 0).numpy()


def file_name(key: str) -> str:
    """Return a sample's key as a file name."""
    return "".join(c if c.isalnum() or c in "+-_." else "-" for c in key).removesuffix(".jpg")


def save_attention(path: Path, attention: CaptionAttention) -> None:
    """Write the numbers of a caption's attention; `numpy.load` reads them without pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [{"text": w.text, "tokens": list(w.tokens)} for w in attention.words]
    np.savez_compressed(
        path,
        weights=attention.weights,
        grid=np.array(attention.grid),
        prefix=np.array(attention.prefix),
        caption=np.array(attention.text),
        words=np.array(json.dumps(words, ensure_ascii=False)),
    )
