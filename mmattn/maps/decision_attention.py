"""Plain attention as a map of a decision: what relevance must beat."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.classifier import Classifier
from mmattn.fusion import GatedFusion, MergedFusion, PooledFusion
from mmattn.maps.methods import evaluating
from mmattn.maps.streams import Streams
from mmattn.recorder import Recorder


@torch.no_grad()
def decision_attention(model: Classifier, batch: LabelBatch) -> Float[Tensor, "B M h w"]:
    """Return what the summary attends to of the images, in the last layer, mean over heads.

    The weights of the text's begin token, or the mean of a `PooledFusion`'s queries; the same for
    every class. Through a pooler behind the image encoder they are followed to the patches. Zeros
    for an image that is missing.

    Raises:
        ValueError: where what is read for the decision does not attend to the image: without a
            fusion, and for one that brings the text into the image.
    """
    streams = Streams(model, batch)
    asked = _asked(model, streams)
    assert model.vision is not None
    pooler = model.vision.pooler if batch.images is not None else None
    recorder = Recorder([asked.site, *([] if pooler is None else ["vision.pool"])])
    with evaluating(model):
        model(batch, recorder)
    layers = [weights for name, weights in recorder.maps.items() if name != "vision.pool"]
    rows = layers[-1][:, :, asked.rows, asked.keys].mean((1, 2))
    shape = (*batch.image_rows.shape, *streams.grid)
    if batch.images is None:
        return rows.new_zeros(shape)
    own = rows.unflatten(1, (shape[1], -1))
    if pooler is not None:
        held = recorder.maps["vision.pool"].mean(1)[batch.image_rows]  # [B, M, Q, P + S]
        own = (own[:, :, None] @ held)[:, :, 0]
    return own[..., streams.prefix :].reshape(shape)


def attends_to_images(model: Classifier) -> bool:
    """Return whether there is plain attention from what is read to the images."""
    fusion = model.fusion
    return fusion is not None and not (isinstance(fusion, GatedFusion) and fusion.into == "image")


class _Asked(NamedTuple):
    """Which rows and columns of which site's weights are the summary's view of the images."""

    site: str
    rows: slice
    keys: slice


def _asked(model: Classifier, streams: Streams) -> _Asked:
    fusion, image = model.fusion, streams.image
    if not attends_to_images(model):
        what = "there is no fusion" if fusion is None else "the image attends to the text"
        raise ValueError(
            f"plain attention is no map of this model's decision: {what}, so that nothing which is "
            "read for it attends to the image; decision_relevance explains every model"
        )
    columns = slice(0, image.stop - image.start)
    if isinstance(fusion, PooledFusion):
        return _Asked("fusion.queries.*.cross", slice(None), columns)
    if isinstance(fusion, MergedFusion):
        first = columns.stop
        return _Asked("fusion.both.*.self", slice(first, first + 1), columns)
    return _Asked("fusion.text.*.cross", slice(0, 1), columns)
