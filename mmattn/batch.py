"""What flows between data, model and task, and the letters that name its dimensions.

B images in a batch · N captions per image · T text tokens · S image tokens (S = h·w, prefix tokens
excluded) · P prefix tokens (class, registers) · D model width · C context width · H heads · K width
of one head · L layers · V vocabulary · W words.

Masks are boolean and True means "may attend"; `valid` is True on real tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORE = -100  # the label of a position that has no target; cross-entropy leaves it out


class ImageTokens(NamedTuple):
    """An encoded image: prefix tokens first, then the patches row by row.

    tokens: [B, P + S, D]; grid: (h, w) with h * w = S; prefix: P. Of an encoder with a pooler the
    tokens are its Q ones, which are of no place: the pooler's own attention says of which.
    """

    tokens: Float[Tensor, "B _ D"]
    grid: tuple[int, int]
    prefix: int


@dataclass  # not frozen: for half precision, Lightning copies it and sets its fields
class CaptionBatch:
    """Images with N captions each, padded on the right to T tokens.

    `images` holds pixels, or the frozen features of them where a feature cache is in use
    (`cached`). `tokens` start with the begin-of-text token; `labels` are the same captions shifted
    by one place, with `IGNORE` on padding. An image with fewer than N captions has empty rows, that
    is rows without a valid token.

    `references` are the captions of these rows; `known` are all that the images have, from which
    training may have drawn them: what else is true of an image is in no way wrong of it.
    """

    keys: tuple[str, ...]
    images: Float[Tensor, "B C height width"]
    tokens: Int[Tensor, "B N T"]
    labels: Int[Tensor, "B N T"]
    valid: Bool[Tensor, "B N T"]
    references: tuple[tuple[str, ...], ...]
    cached: bool = False
    known: tuple[tuple[str, ...], ...] = ()

    def to(self, device: torch.device | str) -> "CaptionBatch":
        """Return the batch with its tensors on `device`; a GPU's copy is not waited for."""
        return self._with_each(_mover(device))

    def pin_memory(self) -> "CaptionBatch":
        """Return the batch in page-locked memory, as torch's loader asks where it is to pin."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "CaptionBatch":
        names = ("images", "tokens", "labels", "valid")
        return replace(self, **{name: change(getattr(self, name)) for name in names})

    def select(self, chosen: Sequence[int]) -> "CaptionBatch":
        """Return the batch of some of the images."""
        rows = list(chosen)
        return replace(
            self,
            keys=tuple(self.keys[b] for b in rows),
            images=self.images[rows],
            tokens=self.tokens[rows],
            labels=self.labels[rows],
            valid=self.valid[rows],
            references=tuple(self.references[b] for b in rows),
            known=tuple(self.known[b] for b in rows) if self.known else (),
        )

    def draw_captions(self, count: int) -> "CaptionBatch":
        """Return the batch with so many captions of each image, drawn by torch's global generator.

        An image with fewer keeps what it has, and empty rows beside it.
        """
        there = self.valid.any(-1)
        order = (torch.rand(there.shape) - there.cpu().float()).argsort(1)[:, :count]
        chosen = order.tolist()
        picked = torch.arange(len(order))[:, None], order
        return replace(
            self,
            tokens=self.tokens[picked],
            labels=self.labels[picked],
            valid=self.valid[picked],
            references=tuple(
                tuple(texts[n] for n in rows if n < len(texts))
                for texts, rows in zip(self.references, chosen, strict=True)
            ),
            known=self.known or self.references,
        )

    def with_captions(self, captions: Sequence[Sequence[int]], begin_id: int) -> "CaptionBatch":
        """Return the batch with one other caption for each image: token ids, written one by one.

        `captions` have no begin token; what an image's caption says is in no reference.
        """
        longest = max((len(ids) for ids in captions), default=0) or 1
        tokens = torch.full((len(captions), 1, longest), begin_id)
        labels = torch.full((len(captions), 1, longest), IGNORE)
        for b, ids in enumerate(captions):
            written = torch.tensor(list(ids), dtype=torch.long)
            tokens[b, 0, 1 : len(ids)] = written[:-1]
            labels[b, 0, : len(ids)] = written
        tokens, labels = tokens.to(self.images.device), labels.to(self.images.device)
        return replace(self, tokens=tokens, labels=labels, valid=labels != IGNORE)


@dataclass  # not frozen: see `CaptionBatch`
class LabelBatch:
    """Examples of images, a text, or both, with their labels.

    `images` are the U different images of the batch, pixels or cached features, None without any;
    `image_rows` says which M of them each example has, in order (any number where it has none), and
    `image_valid` which of these there are, None for all. `tokens` begin with the begin token and
    are padded on the right; a text that is missing is the begin token alone. `missing` names the
    examples without an image and those without a text. `word_starts` is the place of the first
    token of each word, where words have labels.

    `targets` has one entry a head: classes [B] or, of words, [B, W], with `IGNORE` where there is
    no label and -1 for one that is no class; or scores [B, classes].
    """

    keys: tuple[str, ...]
    images: Float[Tensor, "U C height width"] | None
    image_rows: Int[Tensor, "B M"]
    image_valid: Bool[Tensor, "B M"] | None
    tokens: Int[Tensor, "B T"]
    valid: Bool[Tensor, "B T"]
    targets: dict[str, Tensor]
    word_starts: Int[Tensor, "B W"] | None = None
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cached: bool = False

    def to(self, device: torch.device | str) -> "LabelBatch":
        """Return the batch with its tensors on `device`; a GPU's copy is not waited for."""
        return self._with_each(_mover(device))

    def pin_memory(self) -> "LabelBatch":
        """Return the batch in page-locked memory, as torch's loader asks where it is to pin."""
        return self._with_each(Tensor.pin_memory)

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> "LabelBatch":
        names = ("images", "image_rows", "image_valid", "tokens", "valid", "word_starts")
        there = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(
            self,
            targets={head: change(target) for head, target in self.targets.items()},
            **{name: change(tensor) for name, tensor in there.items()},
        )

    def select(self, chosen: Sequence[int]) -> "LabelBatch":
        """Return the batch of some of the examples; their images are those of this batch."""
        rows = list(chosen)

        def picked(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        places = {row: place for place, row in enumerate(rows)}
        names = ("image_rows", "image_valid", "tokens", "valid", "word_starts")
        return replace(
            self,
            keys=tuple(self.keys[b] for b in rows),
            targets={head: target[rows] for head, target in self.targets.items()},
            missing={
                what: tuple(places[b] for b in of if b in places)
                for what, of in self.missing.items()
            },
            **{name: picked(getattr(self, name)) for name in names},
        )


def _mover(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """Return what puts a tensor on a device.

    Lightning leaves it to a batch whether its copies are waited for. Those from page-locked memory
    to a GPU need not be: what the GPU computes comes after them. One to this machine's memory does,
    for a processor that reads it at once would see what was there before.
    """
    waits = torch.device(device).type in ("cpu", "mps")
    return lambda tensor: tensor.to(device, non_blocking=not waits)
