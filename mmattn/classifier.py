"""The classifier: images, a text, or both to a score for every class of every head."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.batch import LabelBatch
from mmattn.blocks import BeforeBlock
from mmattn.fusion import Fused, Fusion, GatedFusion, Stream
from mmattn.fusion.stream import mean
from mmattn.taps import Listener
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

POOLS = ("mean", "class")


def bridge(encoder: VisionTransformer | TextTransformer | None, dim: int) -> nn.Module:
    """Return what brings an encoder's width to the one at which image and text meet."""
    if encoder is None or encoder.dim == dim:
        return nn.Identity()
    return nn.Linear(encoder.dim, dim)


class Classifier(nn.Module):
    """fuse image and text into one vector, and read every head's scores off it.

    Args:
        heads: the number of classes of each head. Several heads share all but their last layer.
        vision: the image encoder; None for texts alone.
        text: the text encoder, not causal; None for images alone.
        fusion: how they attend to each other; where there are both, and only there.
        word_heads: those of the heads that tell something of every word instead of the whole.
        pool: without a fusion, "mean" over all real tokens, or the "class" (or begin) token.
        images: how many images M an example has, at most.
        may_miss: modality ("image" or "text") -> how often it is withheld in training, from 0 to
            below 1. An example may lack a modality that is named here, and no other one.
        dropout: probability of dropping a value of the vector before the heads.

    Raises:
        ValueError: where these parts do not fit each other.
    """

    def __init__(
        self,
        heads: Mapping[str, int],
        *,
        vision: VisionTransformer | None = None,
        text: TextTransformer | None = None,
        fusion: Fusion | None = None,
        word_heads: Sequence[str] = (),
        pool: str = "mean",
        images: int = 1,
        may_miss: Mapping[str, float] | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vision, self.text, self.fusion = vision, text, fusion
        self.pool, self.images, self.dropout = pool, images, dropout
        self.word_heads, self.may_miss = tuple(word_heads), dict(may_miss or {})
        self._check(heads)
        if fusion is not None:
            self.dim = fusion.dim
        else:
            self.dim = vision.dim if vision is not None else getattr(text, "dim")  # noqa: B009
        self.heads = nn.ModuleDict(
            {name: nn.Linear(self.dim, classes) for name, classes in heads.items()}
        )
        for head in self.heads.values():
            nn.init.zeros_(getattr(head, "bias"))  # noqa: B009
        # An encoder that a gated fusion stands in has its width already (see `_check_parts`).
        self.image_bridge, self.text_bridge = (
            bridge(encoder, self.dim) for encoder in (vision, text)
        )
        # Tells the first image of an example from the second.
        several = vision is not None and images > 1
        self.image_places = nn.Parameter(torch.zeros(images, self.dim)) if several else None

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the encoders there are."""
        return tuple(name for name in ("vision", "text") if getattr(self, name) is not None)

    @property
    def reads(self) -> tuple[tuple[str, str], ...]:
        """Of which tokens the vector before the heads is made, as (stream, "first" or "mean")."""
        if self.fusion is not None:
            return self.fusion.reads
        return (("text" if self.vision is None else "image", self.pool.replace("class", "first")),)

    def forward(
        self, batch: LabelBatch, recorder: Listener | None = None
    ) -> dict[str, Float[Tensor, "B ..."]]:
        """Return each head's scores: [B, classes], or [B, W, classes] of a head that reads words.

        Raises:
            ValueError: for an example that lacks what the model needs.
        """
        return self.read(self.fuse(batch, recorder), batch)

    def fuse(self, batch: LabelBatch, recorder: Listener | None = None) -> Fused:
        """Return one vector an example, and its text's tokens."""
        self.check_nothing_lacks(batch)
        seen, read = self._withheld(batch)
        image = partial(self._image, batch, seen, recorder)
        text = partial(self._text, batch, read, recorder)
        if self.fusion is not None:
            return self.fusion(image, text, recorder)
        stream = image() if self.text is None else text()
        tokens = stream.spread()
        summary = tokens[:, 0] if self.pool == "class" else mean(tokens, stream.valid)
        return Fused(summary, None if self.text is None else tokens)

    def read(self, fused: Fused, batch: LabelBatch) -> dict[str, Float[Tensor, "B ..."]]:
        """Return the heads' scores of what came out of the fusion."""
        summary = F.dropout(fused.summary, self.dropout, self.training)
        scores = {}
        for name, head in self.heads.items():
            read = self._words(fused, batch) if name in self.word_heads else summary
            scores[name] = head(read)
        return scores

    def check_nothing_lacks(self, batch: LabelBatch) -> None:
        """Raise ValueError for an example without something that the model was not to miss."""
        for what, rows in batch.missing.items():
            has = self.vision if what == "image" else self.text
            if rows and has is not None and what not in self.may_miss:
                raise ValueError(
                    f"{batch.keys[rows[0]]} has no {what}, and this model was trained with one for "
                    f"every example: give it one, or train with model.may_miss.{what}=0.1"
                )
        if batch.image_rows.shape[1] > self.images:
            raise ValueError(
                f"{batch.keys[0]} is in a batch with {batch.image_rows.shape[1]} images an "
                f"example, and this model was made for {self.images}: set model.images"
            )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments that are plain values."""
        return {
            "heads": {name: getattr(head, "out_features") for name, head in self.heads.items()},  # noqa: B009
            "word_heads": list(self.word_heads),
            "pool": self.pool,
            "images": self.images,
            "may_miss": self.may_miss,
            "dropout": self.dropout,
        }

    def _withheld(self, batch: LabelBatch) -> tuple[Tensor | None, Tensor]:
        """Return which images [B, M] and tokens [B, T] there are, some withheld in training."""
        seen, read = batch.image_valid, batch.valid
        if self.training and any(self.may_miss.values()):
            drawn = torch.rand(len(read), device=read.device)
            of_image, of_text = (self.may_miss.get(what, 0.0) for what in ("image", "text"))
            if seen is None:
                seen = torch.ones_like(batch.image_rows, dtype=torch.bool)
            seen = seen & (drawn >= of_image)[:, None]
            keep = (drawn < of_image) | (drawn >= of_image + of_text)
            begin = torch.arange(read.shape[1], device=read.device) == 0
            read = read & (keep[:, None] | begin)
        return seen, read

    def _image(
        self,
        batch: LabelBatch,
        valid: Bool[Tensor, "B M"] | None,
        recorder: Listener | None,
        before: BeforeBlock | None = None,
    ) -> Stream:
        vision, rows = self.vision, batch.image_rows
        assert vision is not None
        examples, images = rows.shape
        if batch.images is None:
            dtype = next(vision.parameters()).dtype
            nothing = torch.zeros(examples, 1, self.dim, dtype=dtype, device=rows.device)
            return Stream(nothing, torch.zeros_like(nothing[..., 0], dtype=torch.bool))
        patches = (vision.project if batch.cached else vision.patches)(batch.images)
        if before is not None:  # what is put between the blocks is each example's own
            patches = patches[rows.flatten()]
            rows = torch.arange(rows.numel(), device=rows.device).view_as(rows)
        tokens = self.image_bridge(vision.encode_patches(patches, recorder, before).tokens)
        size = tokens.shape[1]
        if valid is not None:
            valid = valid.repeat_interleave(size, 1)
        if self.image_places is None:
            return Stream(tokens, valid, rows[:, 0])
        tokens = tokens[rows] + self.image_places[:images, None]
        return Stream(tokens.flatten(1, 2), valid)

    def _text(
        self,
        batch: LabelBatch,
        valid: Bool[Tensor, "B T"],
        recorder: Listener | None,
        before: BeforeBlock | None = None,
    ) -> Stream:
        assert self.text is not None
        hidden = self.text(batch.tokens, valid=valid, before_block=before, recorder=recorder)
        return Stream(self.text_bridge(hidden), valid)

    def _words(self, fused: Fused, batch: LabelBatch) -> Float[Tensor, "B W D"]:
        if batch.word_starts is None or fused.text is None:
            raise ValueError(
                f"the head {self.word_heads[0]!r} labels words: the batch's texts are not in words"
            )
        places = batch.word_starts[..., None].expand(-1, -1, fused.text.shape[-1])
        return F.dropout(fused.text.gather(1, places), self.dropout, self.training)

    def _check(self, heads: Mapping[str, int]) -> None:
        if not heads:
            raise ValueError("a classifier needs a head: name one with its number of classes")
        taken = [name for name in heads if not name or "." in name or hasattr(nn.ModuleDict, name)]
        if taken:
            raise ValueError(f"a head cannot be called {taken[0]!r} in torch: give it another name")
        empty = [name for name, classes in heads.items() if classes < 1]
        if empty:
            raise ValueError(f"the head {empty[0]!r} has no class")
        unknown = [name for name in self.word_heads if name not in heads]
        if unknown:
            raise ValueError(f"word_heads names {unknown[0]!r}; the heads are {', '.join(heads)}")
        if self.pool not in POOLS:
            raise ValueError(f"pool is {self.pool!r}; choose {' or '.join(POOLS)}")
        if self.images < 1:
            raise ValueError(f"images={self.images}: an example has one image or more")
        self._check_parts()
        self._check_withheld()

    def _check_parts(self) -> None:
        vision, text, fusion = self.vision, self.text, self.fusion
        if vision is None and text is None:
            raise ValueError("a classifier needs an image encoder, a text encoder, or both")
        if (fusion is None) == (vision is not None and text is not None):
            raise ValueError("a fusion is for an image and a text encoder: give all three, or one")
        if text is not None and (text.causal or text.context_dim is not None):
            raise ValueError("a classifier's text is an encoder: causal=false, context_dim=null")
        if self.pool == "class" and text is None and vision is not None and not vision.prefix:
            raise ValueError("pool=class needs a class token: set model.vision.class_token=true")
        words = text is not None if fusion is None else fusion.words
        if self.word_heads and not words:
            raise ValueError(
                f"the head {self.word_heads[0]!r} labels words, and this model has no state for "
                "each word: choose fusion=cross, co, merged, or gated into the text"
            )
        if isinstance(fusion, GatedFusion) and fusion.into == "image" and self.images > 1:
            raise ValueError("a fusion into the image cannot tell several images apart: images=1")
        if isinstance(fusion, GatedFusion):
            into = text if fusion.into == "text" else vision
            for what in ("depth", "dim"):
                theirs, ours = getattr(into, what), getattr(fusion, what)
                if theirs != ours:
                    raise ValueError(
                        f"fusion.{what}={ours}, and the {fusion.into} encoder that its layers "
                        f"stand in has {what}={theirs}: they must be the same"
                    )

    def _check_withheld(self) -> None:
        unknown = [what for what in self.may_miss if what not in ("image", "text")]
        if unknown:
            raise ValueError(f"may_miss names {unknown[0]!r}; choose image, text")
        shares = self.may_miss.values()
        if any(not 0 <= share < 1 for share in shares) or sum(shares) > 1:
            raise ValueError(
                f"may_miss is {self.may_miss}: give shares from 0 to below 1, together 1 at most"
            )
        if self.may_miss and self.fusion is None:
            raise ValueError("may_miss is for a model of image and text: of one there is no other")
