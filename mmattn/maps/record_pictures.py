"""The pictures of one caption's attention, and what is written below them in a dashboard."""

from collections.abc import Iterable

import numpy as np

from mmattn.maps.archive import AttentionRecord
from mmattn.maps.geometry import patch_maps
from mmattn.maps.heads import layer_head_grid
from mmattn.maps.scale import number, scales
from mmattn.maps.strip import strip
from mmattn.maps.words import Word, merge


def word_strip(record: AttentionRecord) -> np.ndarray:
    """Draw the first method's map of every word."""
    method = record.methods[0]
    return strip(
        record.image,
        [word.text for word in record.words],
        merge(method.maps, record.words),
        caption=record.caption,
        references=record.references,
        signed=method.signed,
        placement=record.placement,
    )


def head_grid(record: AttentionRecord) -> np.ndarray:
    """Draw every layer and head for the caption's last word, its most specific one."""
    word = last_word(record)
    return layer_head_grid(
        record.image,
        head_weights(record, word),
        record.grid,
        prefix=record.prefix,
        title=word.text,
        placement=record.placement,
    )


def last_word(record: AttentionRecord) -> Word:
    """Return the last word that is one, not the full stop."""
    spoken = [word for word in record.words if any(c.isalnum() for c in word.text)]
    return (spoken or record.words)[-1]


def head_weights(record: AttentionRecord, word: Word) -> np.ndarray:
    """Return a word's cross-attention in every layer and head [L, H, P + S]."""
    return record.cross.weights[:, :, list(word.tokens)].mean(2)


def strip_caption(record: AttentionRecord) -> str:
    """Say what a strip shows, for a dashboard that scales and crops pictures."""
    method = record.methods[0]
    maps = merge(method.maps, record.words)
    return f"{record.caption} | {method.title}, {in_numbers(maps, method.signed)}"


def grid_caption(record: AttentionRecord) -> str:
    """Say what a grid of layers and heads shows."""
    word = last_word(record)
    maps = patch_maps(head_weights(record, word), record.grid, record.prefix)
    numbers = in_numbers(maps.reshape(-1, *record.grid), signed=False)
    return f"{record.caption} | every layer and head at {word.text!r}, {numbers}"


def in_numbers(maps: np.ndarray, signed: bool) -> str:
    """Return the ends of the colour scales of some maps [N, h, w] and their sums over patches."""
    finite = maps[np.isfinite(maps).all((1, 2))]
    parts: list[str] = []
    if len(finite):
        ends = between([scale.vmax for scale in scales(finite, "each", signed)])
        name = "sum" if signed else "mass on patches"
        parts = [
            f"scale {'±' if signed else '0 to '}{ends}",
            f"{name} {between(finite.sum((1, 2)))}",
        ]
    if len(finite) < len(maps):
        parts.append(f"not finite: {len(maps) - len(finite)} of {len(maps)} maps")
    return ", ".join(parts) or "no word"


def between(values: Iterable[float]) -> str:
    """Return the least and the largest of some values, or the one that all are."""
    found = list(values)
    least, largest = number(min(found)), number(max(found))
    return least if least == largest else f"{least} … {largest}"
