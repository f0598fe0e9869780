"""Measuring many maps of the same words at once: a row a word, a column a line of the report."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.maps.methods import MapMethod
from mmattn.maps.quality.caption_scores import CaptionScorer
from mmattn.maps.quality.grounding import hit_patches
from mmattn.maps.quality.perturbation import (
    PatchedImage,
    area,
    deletion,
    insertion,
    leave_one_out,
    patch_drops,
    road,
)
from mmattn.maps.quality.regions import dilated, energy, iou_at_mean, pointing, roc_auc
from mmattn.maps.words import Word, merge
from mmattn.placement import PlacedRegion
from mmattn.recorder import Recorder
from mmattn.reports.words import NamedRegions

POINTS = 10  # of a deletion or insertion curve, besides its start


@dataclass(frozen=True)
class Line:
    """One line of the report: what is measured.

    `methods` are one method, or several draws of one control, whose figures are averaged. A line of
    the model's own cross-attention has a `layer`, and a `head` where it is not their mean.
    """

    title: str
    methods: tuple[MapMethod, ...] = ()
    control: bool = False
    layer: int | None = None
    head: int | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured on n words: `values[figure]` is [n, lines].

    `texts` and `images` say which words they are, of which images of the set; `chance` and
    `near_chance` are the shares of patches that hold the region, without and with tolerance.
    """

    lines: tuple[Line, ...]
    texts: tuple[str, ...]
    images: np.ndarray
    chance: np.ndarray
    near_chance: np.ndarray
    values: dict[str, np.ndarray]


class MeasuredWord(NamedTuple):
    """One word: `figures` are [M] for M maps."""

    text: str
    image: int
    hits: np.ndarray
    figures: dict[str, np.ndarray]


class WordMaps(NamedTuple):
    """A word with a region, and M maps [M, h, w] of it; `row` is its image's place in the batch."""

    row: int
    image: int
    word: Word
    region: PlacedRegion
    maps: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """The patches [h, w] that hold the region."""
        return hit_patches(self.region.mask, self.grid, placement=self.region.placement)

    @property
    def grid(self) -> tuple[int, int]:
        """The patch grid (h, w)."""
        return self.maps.shape[-2], self.maps.shape[-1]


def measure_regions(
    model: Captioner, parts: Iterable[NamedRegions], lines: Sequence[Line], *, heads: bool = True
) -> Measured:
    """Measure how maps fall on regions; with `heads` also each layer's and head's attention."""
    own = head_lines(model) if heads else []
    words = []
    for part in parts:
        maps = method_maps(model, part.batch, lines)
        if heads:
            maps = np.concatenate([maps, head_maps(model, part.batch)], 2)
        for each in word_maps(part, maps):
            hits = each.hits
            figures = region_figures(each.maps, hits)
            words.append(MeasuredWord(each.word.text, each.image, hits, figures))
    return gathered([*lines, *own], words)


def measure_perturbations(
    model: Captioner, parts: Iterable[NamedRegions], lines: Sequence[Line], seed: int
) -> Measured:
    """Measure whether the model uses what maps show, by taking patches away."""
    words = []
    for part in parts:
        for each in word_maps(part, method_maps(model, part.batch, lines)):
            scorer = CaptionScorer.of(model, part.batch, each.row)
            picture = PatchedImage(part.batch.images[each.row], each.grid)
            figures = perturbation_figures(scorer, picture, each, seed + len(words))
            words.append(MeasuredWord(each.word.text, each.image, each.hits, figures))
    return gathered(lines, words)


def region_figures(maps: np.ndarray, hits: np.ndarray) -> dict[str, np.ndarray]:
    """Return the figures of maps [M, h, w] of a word whose region has the patches `hits` [h, w]."""
    return {
        "pointing": pointing(maps, hits),
        "pointing_near": pointing(maps, dilated(hits, 1)),
        "energy": energy(maps, hits),
        "iou": iou_at_mean(maps, hits),
        "auc": roc_auc(maps, hits),
    }


def perturbation_figures(
    scorer: CaptionScorer, picture: PatchedImage, word: WordMaps, seed: int
) -> dict[str, np.ndarray]:
    """Return the figures of the maps of a word of the caption that `scorer` scores."""
    score = partial(scorer.probability, places=word.word.tokens)
    log_prob = partial(scorer.log_prob, places=word.word.tokens)
    step = -(-picture.patches // POINTS)
    return {
        "deletion": np.array(
            [area(deletion(score, picture, map, step=step, seed=seed)) for map in word.maps]
        ),
        "insertion": np.array(
            [area(insertion(score, picture, map, step=step, seed=seed)) for map in word.maps]
        ),
        "road": np.array([road(score, picture, map, seed=seed) for map in word.maps]),
        "leave_one_out": leave_one_out(word.maps, patch_drops(log_prob, picture)),
    }


def method_maps(model: Captioner, batch: CaptionBatch, lines: Sequence[Line]) -> np.ndarray:
    """Return the maps [B, T, M, h, w] of all methods of all lines, for one caption an image."""
    maps = [method(model, batch)[:, 0] for line in lines for method in line.methods]
    return torch.stack([map.detach().float() for map in maps], 2).cpu().numpy()


def head_lines(model: Captioner) -> list[Line]:
    """Return the lines of `head_maps`."""
    heads = model.text.dim // model.text.head_dim
    return [
        Line("cross-attention", layer=layer, head=head)
        for layer in range(len(model.text.cross_layers))
        for head in (None, *range(heads))
    ]


@torch.no_grad()
def head_maps(model: Captioner, batch: CaptionBatch) -> np.ndarray:
    """Return [B, T, L·(1 + H), h, w]: of each layer the mean over heads, then each head."""
    recorder = Recorder(["text.*.cross"])
    image = model.encode_batch(batch)
    model.decode(image, batch.tokens, recorder)
    weights = recorder.stack("text.*.cross")[..., image.prefix :]  # [L, B, H, T, S]
    both = torch.cat([weights.mean(2, keepdim=True), weights], 2).permute(1, 3, 0, 2, 4)
    return both.flatten(2, 3).unflatten(-1, image.grid).float().cpu().numpy()


def word_maps(part: NamedRegions, maps: np.ndarray) -> Iterator[WordMaps]:
    """Yield every word with a region and its maps: of [B, T, M, h, w] the mean over its tokens."""
    for row, (image, words) in enumerate(zip(part.indices, part.words, strict=True)):
        merged = merge(maps[row], words)
        for word, region, own in zip(words, part.regions[row], merged, strict=True):
            yield WordMaps(row, image, word, region, own)


def gathered(lines: Sequence[Line], words: Sequence[MeasuredWord]) -> Measured:
    """Put the words under each other; the draws of a line become their mean."""
    draws = np.array([max(1, len(line.methods)) for line in lines])
    starts = np.cumsum(draws) - draws
    values = {
        figure: np.add.reduceat(np.stack([w.figures[figure] for w in words]), starts, 1) / draws
        for figure in (words[0].figures if words else ())
    }
    return Measured(
        lines=tuple(lines),
        texts=tuple(word.text for word in words),
        images=np.array([word.image for word in words], dtype=int),
        chance=np.array([word.hits.mean() for word in words]),
        near_chance=np.array([dilated(word.hits, 1).mean() for word in words]),
        values=values,
    )
