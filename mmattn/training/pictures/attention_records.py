"""What a captioner writes of some images and attends to meanwhile, ready to be drawn and kept."""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmattn.batch import ImageTokens
from mmattn.data.dataset import CaptionDataset
from mmattn.data.module import CaptionDataModule
from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps
from mmattn.maps.methods import MapMethod, evaluating
from mmattn.maps.words import group_words
from mmattn.placement import placement_of
from mmattn.recorder import Recorder
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.parts import probe_batch
from mmattn.training.pictures.probes import Probe

SELF_ATTENTION = ("vision.*.self", "text.*.self")


def attention_records(
    task: CaptioningTask,
    data: CaptionDataModule,
    probe: Probe,
    methods: Sequence[MapMethod],
    *,
    self_attention: bool = False,
    step: int | None = None,
) -> list[AttentionRecord]:
    """Caption a probe's images greedily; return what each caption attended to.

    The weights are those of one teacher-forced pass over the caption, exact, with the fused kernel
    on. The model is left as it was.

    Args:
        task: the model and its tokenizer.
        data: makes batches of the probe's images.
        probe: the images.
        methods: ways to get further maps, kept in this order.
        self_attention: keep the encoder's and the decoder's self-attention too.
        step: of the training, for the record.

    Raises:
        ConfigError: for a transform whose geometry is not known.
        ValueError: where the model lacks what a method asks for.
    """
    looked = look(task, data, probe, methods, self_attention=self_attention)
    return [record_of(task, data, probe, b, looked, step) for b in range(len(probe.indices))]


@dataclass(frozen=True)
class Looked:
    """What a model did with a probe's images: one caption each, B in all.

    `weights` are those of each site, [B, H, queries, keys]; `methods` have maps [B, T, h, w] of the
    longest caption's T tokens.
    """

    captions: list[list[int]]
    weights: dict[str, np.ndarray]
    methods: list[MethodMaps]
    image: ImageTokens


def look(
    task: CaptioningTask,
    data: CaptionDataModule,
    probe: Probe,
    methods: Sequence[MapMethod],
    *,
    self_attention: bool,
) -> Looked:
    """Caption the images, then record one teacher-forced pass over these captions."""
    batch = probe_batch(task, data, probe)
    recorder = Recorder(["text.*.cross", *SELF_ATTENTION * self_attention])
    with looking(task):
        image = task.model.encode_batch(batch, recorder)
        tokens = task.decode(image).tokens[:, 0].tolist()
        captions = [task.tokenizer.until_end(row) for row in tokens]
        written = batch.with_captions(captions, task.tokenizer.begin_id)
        task.model.decode(image, written.tokens, recorder)
        maps = [method(task.model, written)[:, 0].float().cpu().numpy() for method in methods]
    weights = {site: found.cpu().numpy() for site, found in recorder.maps.items()}
    titled = [
        MethodMaps(method.title, found, method.signed)
        for method, found in zip(methods, maps, strict=True)
    ]
    return Looked(captions, weights, titled, image)


def record_of(
    task: CaptioningTask,
    data: CaptionDataModule,
    probe: Probe,
    b: int,
    looked: Looked,
    step: int | None,
) -> AttentionRecord:
    """Return the record of a probe's image number `b`."""
    index, ids = probe.indices[b], looked.captions[b]
    text, spans = task.tokenizer.decode(ids), task.tokenizer.offsets(ids)
    picture = original(probe.dataset, index)
    layers = layers_by_kind(looked.weights, b, len(ids))
    return AttentionRecord(
        key=probe.dataset.key(index),
        caption=text,
        offsets=tuple(spans),
        words=tuple(group_words(text, spans)),
        grid=looked.image.grid,
        prefix=looked.image.prefix,
        image=picture,
        placement=placement_of(data.eval_transform, (picture.shape[0], picture.shape[1])),
        references=probe.dataset.captions(index),
        step=step,
        methods=tuple(replace(each, maps=each.maps[b, : len(ids)]) for each in looked.methods),
        cross=layers["cross"],
        text_self=layers.get("text_self"),
        vision_self=layers.get("vision_self"),
    )


def layers_by_kind(weights: dict[str, np.ndarray], b: int, length: int) -> dict[str, Layers]:
    """Return the recorded layers of image `b` and its caption, by their name in a record."""
    parts = {
        "cross": ("text.*.cross", np.s_[b, :, :length]),
        "vision_self": ("vision.*.self", np.s_[b]),
        "text_self": ("text.*.self", np.s_[b, :, :length, :length]),
    }
    return {
        kind: layers_of(weights, pattern, part)
        for kind, (pattern, part) in parts.items()
        if fnmatch.filter(weights, pattern)
    }


def layers_of(weights: dict[str, np.ndarray], pattern: str, part: Any) -> Layers:
    """Return a part of the weights of all sites that match `pattern`, layer by layer."""
    sites = tuple(fnmatch.filter(weights, pattern))
    return Layers(sites, np.stack([weights[site][part] for site in sites]))


def original(dataset: CaptionDataset, index: int) -> np.ndarray:
    """Return the image as the user knows it: uint8 [height, width, 3]."""
    picture: Tensor = dataset.image(index)
    return picture.permute(1, 2, 0).numpy()


@contextmanager
def looking(task: nn.Module) -> Iterator[None]:
    """Switch to evaluation without gradients, and back.

    Not to inference mode, and out of it: a method may need gradients of its own.
    """
    with evaluating(task), torch.inference_mode(False), torch.no_grad():
        yield
