"""Boolean ink masks [height, width]: grow them, move them, find one within another."""

import numpy as np


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Grow the mask by `radius` pixels to all sides (a square structuring element)."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, radius + 1):
            grown |= shift_along(mask, step, axis) | shift_along(mask, -step, axis)
        mask = grown
    return mask


def drop_specks(mask: np.ndarray, radius: int) -> np.ndarray:
    """Drop what is thinner than 2 * radius + 1 pixels; keep the rest with its outline.

    A morphological opening, after which the outline is grown back within the mask.
    """
    eroded = ~dilate(~mask, radius)
    return dilate(eroded, 2 * radius) & mask


def shift(mask: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move the mask; what leaves the canvas is lost and what enters is False."""
    return shift_along(shift_along(mask, down, 0), right, 1)


def shift_along(mask: np.ndarray, by: int, axis: int) -> np.ndarray:
    """Move the mask by `by` pixels along axis 0 or 1, filling with False."""
    moved = np.zeros_like(mask)
    source, target = (mask, moved) if axis == 0 else (mask.T, moved.T)
    kept = max(len(source) - abs(by), 0)
    target[max(by, 0) :][:kept] = source[max(-by, 0) :][:kept]
    return moved


def locate(part: np.ndarray, whole: np.ndarray, guess: int, reach: int) -> tuple[int, int]:
    """Return (down, right), the shift of `part` that puts most of its pixels onto `whole`.

    `down` is within `reach` of zero, `right` is anywhere; of equally good shifts the one nearest to
    (0, guess) wins. The overlap for every shift is a cross-correlation, done along the rows by
    Fourier transforms that are padded so that nothing wraps around.
    """
    width = whole.shape[1]
    inked = np.flatnonzero(part.any(axis=1))
    rows = slice(inked[0], inked[-1] + 1)
    part_rows = np.fft.rfft(part[rows], 2 * width, axis=1).conj()
    padded = np.pad(whole, ((reach, reach), (0, 0)))[rows.start : rows.stop + 2 * reach]
    whole_rows = np.fft.rfft(padded, 2 * width, axis=1)
    downs, rights = np.arange(-reach, reach + 1), np.arange(-width, width)
    windows = (whole_rows[k : k + len(part_rows)] for k in range(len(downs)))
    spectra = np.stack([np.einsum("rf,rf->f", part_rows, window) for window in windows])
    overlap = np.fft.irfft(spectra, 2 * width, axis=1)[:, rights].round()
    # A pixel of overlap outweighs any distance on the canvas.
    distance = np.hypot(downs[:, None], rights[None, :] - guess) / (4 * sum(whole.shape))
    row, column = np.unravel_index(np.argmax(overlap - distance), overlap.shape)
    return int(downs[row]), int(rights[column])
