"""Where the tokens of every stream of a classifier stand, once all are put into one row."""

from typing import NamedTuple

from mmattn.batch import LabelBatch
from mmattn.classifier import Classifier
from mmattn.fusion import GatedFusion, PooledFusion


class Site(NamedTuple):
    """What one attention call was: which stream asked which, and in which layer of a fusion.

    `layer` is None outside a fusion.
    """

    queries: slice
    keys: slice
    layer: int | None

    @property
    def own(self) -> bool:
        """Whether a stream attends to itself."""
        return self.queries == self.keys


class Streams:
    """The joint index set of an example's J tokens: patches, pooled tokens, text, queries.

    Attributes:
        patches: the tokens of the M images, one image after the other, its prefix tokens first.
        image: what the text can attend to of them: the same, or the tokens of a pooler behind them.
        text, queries: the tokens of the text, and the learned queries of a `PooledFusion`.
        grid: (h, w) of an image's patches; prefix: its P prefix tokens.
        size: J.

    A stream that the model lacks is empty. A batch without any image has the one token, which
    nobody attends to, that the classifier puts in its place.
    """

    def __init__(self, model: Classifier, batch: LabelBatch):
        vision, fusion = model.vision, model.fusion
        self.grid, self.prefix = _grid(model, batch), 0 if vision is None else vision.prefix
        images, pooled = batch.image_rows.shape[1], 0
        patches = images * (self.prefix + self.grid[0] * self.grid[1])
        if vision is not None and batch.images is None:
            patches = 1
        elif vision is not None and vision.pooler is not None:
            pooled = images * len(vision.pooler.queries)
        text = 0 if model.text is None else batch.tokens.shape[1]
        queries = len(fusion.queries) if isinstance(fusion, PooledFusion) else 0
        ends = (patches, patches + pooled, patches + pooled + text)
        self.patches, self.text = slice(0, ends[0]), slice(ends[1], ends[2])
        self.image = slice(*ends[:2]) if pooled else self.patches
        self.queries, self.size = slice(ends[2], ends[2] + queries), ends[2] + queries
        inside = isinstance(fusion, GatedFusion) and fusion.into == "image"
        # A fusion within the image encoder works on what its pooler has not met yet.
        self._fused_image = self.patches if inside else self.image

    @property
    def both(self) -> slice:
        """The image's tokens and, right behind them, the text's."""
        return slice(self.image.start, self.text.stop)

    def of(self, stream: str) -> slice:
        """Return the tokens of a stream as `Classifier.reads` names it."""
        return {"image": self.image, "text": self.text, "queries": self.queries}[stream]

    def site(self, name: str) -> Site:
        """Return what the attention call of a site was, by its name."""
        stack, *path = name.split(".")
        if stack == "vision":
            queries = self.image if path == ["pool"] else self.patches
            return Site(queries, self.patches, None)
        if stack == "text":
            return Site(self.text, self.text, None)
        stream, layer, kind = path
        here, there = {
            "image": (self._fused_image, self.text),
            "text": (self.text, self.image),
            "both": (self.both, self.both),
            "queries": (self.queries, self.both),
        }[stream]
        return Site(here, here if kind == "self" else there, int(layer))


def _grid(model: Classifier, batch: LabelBatch) -> tuple[int, int]:
    """Return the grid of patches of a batch's images; that of the model where there are none."""
    if model.vision is None:
        return (0, 0)
    if batch.images is None:
        return model.vision.grid
    size = (batch.images.shape[-2], batch.images.shape[-1])
    return size if batch.cached else model.vision.patches.grid(size)
