"""What a captioner writes of some images and attends to meanwhile, ready to be drawn and kept."""

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmattn.data.dataset import CaptionDataset
from mmattn.data.module import CaptionDataModule
from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps
from mmattn.maps.methods import MapMethod, evaluating
from mmattn.maps.words import group_words
from mmattn.recorder import Recorder
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.parts import probe_batch
from mmattn.training.placement import placement_of
from mmattn.training.probes import Probe

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
    batch = probe_batch(task, data, probe)
    recorder = Recorder(["text.*.cross", *SELF_ATTENTION * self_attention])
    with looking(task):
        image = task.model.encode_batch(batch, recorder)
        captions = [task.tokenizer.until_end(row) for row in task.decode(image).tokens.tolist()]
        written = batch.with_captions(captions, task.tokenizer.begin_id)
        task.model.decode(image, written.tokens, recorder)
        maps = [method(task.model, written)[:, 0].float().cpu().numpy() for method in methods]
    weights = {site: found.cpu().numpy() for site, found in recorder.maps.items()}
    records = []
    for b, (index, ids) in enumerate(zip(probe.indices, captions, strict=True)):
        text, spans = task.tokenizer.decode(ids), task.tokenizer.offsets(ids)
        picture = original(probe.dataset, index)
        size = (picture.shape[0], picture.shape[1])
        record = AttentionRecord(
            key=probe.dataset.key(index),
            caption=text,
            offsets=tuple(spans),
            words=tuple(group_words(text, spans)),
            cross=layers_of(weights, "text.*.cross", np.s_[b, :, : len(ids)]),
            grid=image.grid,
            prefix=image.prefix,
            image=picture,
            placement=placement_of(data.eval_transform, size),
            references=probe.dataset.captions(index),
            step=step,
            methods=tuple(
                MethodMaps(method.title, found[b, : len(ids)], method.signed)
                for method, found in zip(methods, maps, strict=True)
            ),
        )
        if self_attention:
            record = replace(
                record,
                vision_self=layers_of(weights, "vision.*.self", np.s_[b]),
                text_self=layers_of(weights, "text.*.self", np.s_[b, :, : len(ids), : len(ids)]),
            )
        records.append(record)
    return records


def layers_of(weights: dict[str, np.ndarray], pattern: str, part: Any) -> Layers:
    """Return a part of the weights of all sites that match `pattern`, layer by layer."""
    sites = tuple(fnmatch.filter(weights, pattern))
    return Layers(sites, np.stack([weights[site][part] for site in sites]))


def original(dataset: CaptionDataset, index: int) -> np.ndarray:
    """Return the image as the user knows it: uint8 [height, width, 3]."""
    picture: Tensor = dataset.image(index)
    return picture.permute(1, 2, 0).numpy()


@contextmanager
def looking(task: CaptioningTask) -> Iterator[None]:
    """Switch to evaluation without gradients, and back.

    Not to inference mode, and out of it: a method may need gradients of its own.
    """
    with evaluating(task), torch.inference_mode(False), torch.no_grad():
        yield
