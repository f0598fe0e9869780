"""What flows between data, model and task, and the letters that name its dimensions.

B images in a batch · N captions per image · T text tokens · S image tokens (S = h·w, prefix tokens
excluded) · P prefix tokens (class, registers) · D model width · C context width · H heads · K width
of one head · L layers · V vocabulary · W words.

Masks are boolean and True means "may attend"; `valid` is True on real tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    """

    keys: tuple[str, ...]
    images: Float[Tensor, "B C height width"]
    tokens: Int[Tensor, "B N T"]
    labels: Int[Tensor, "B N T"]
    valid: Bool[Tensor, "B N T"]
    references: tuple[tuple[str, ...], ...]
    cached: bool = False

    def to(self, device: torch.device | str) -> "CaptionBatch":
        """Return the batch with its tensors on `device`."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("images", "tokens", "labels", "valid")
        }
        return replace(self, **moved)

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
