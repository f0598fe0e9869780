"""What a captioner attended to while it wrote a caption: one exact teacher-forced pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.maps.geometry import patch_maps
from mmattn.maps.words import Span, Word, group_words, merge
from mmattn.recorder import Recorder


@dataclass(frozen=True)
class CaptionAttention:
    """The cross-attention of one caption.

    `weights` is float32 [L, H, T, P + S]; row t is the query that wrote token t, that is the one
    that stood at the token before it. `words` group the T tokens of `text`.
    """

    text: str
    words: tuple[Word, ...]
    weights: np.ndarray
    grid: tuple[int, int]
    prefix: int

    def token_maps(self, layer: int) -> np.ndarray:
        """Return [T, h, w] of one layer (negative ones count from the last), mean over heads."""
        return patch_maps(self.weights[layer].mean(0), self.grid, self.prefix)

    def word_maps(self, layer: int) -> np.ndarray:
        """Return [W, h, w]: the mean over the word's tokens of `token_maps`."""
        return merge(self.token_maps(layer), self.words)


@torch.no_grad()
def attend_captions(
    model: Captioner,
    image: ImageTokens,
    captions: Sequence[Sequence[int]],
    texts: Sequence[tuple[str, Sequence[Span]]],
    begin_id: int,
) -> list[CaptionAttention]:
    """Return the cross-attention of one caption for each of B encoded images.

    `captions` are token ids without begin and end tokens; `texts` are (text, character span of each
    token). The fused kernel stays on: the maps are recomputed from its own inputs.
    """
    longest = max((len(ids) for ids in captions), default=1) or 1
    tokens = torch.full((len(captions), 1, longest), begin_id, device=image.tokens.device)
    for row, ids in zip(tokens, captions, strict=True):
        row[0, 1 : len(ids)] = torch.tensor(list(ids[:-1]), dtype=torch.long)
    recorder = Recorder(["text.*.cross"])
    model.decode(image, tokens, recorder)
    weights = recorder.stack("text.*.cross").cpu().numpy()  # [L, B, H, T, P + S]
    return [
        CaptionAttention(
            text=text,
            words=tuple(group_words(text, spans)),
            weights=weights[:, b, :, : len(ids)],
            grid=image.grid,
            prefix=image.prefix,
        )
        for b, (ids, (text, spans)) in enumerate(zip(captions, texts, strict=True))
    ]
