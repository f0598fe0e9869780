"""What a picture of attention costs to draw and to write, per kind, on one thread.

    uv run python benchmarks/drawing.py

The inputs are those of the two usual cases: a glyph of 32 x 32 pixels with 8 x 8 patches, and a
photo of 500 x 375 pixels with 14 x 14 patches. "A logging" is what a validation of the default run
draws and writes: four strips of eight words and one grid of three layers and four heads.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from timing import interleaved

from mmattn.maps.comparison import Side, comparison
from mmattn.maps.head_history import head_history
from mmattn.maps.head_statistic import head_statistic
from mmattn.maps.heads import layer_head_grid
from mmattn.maps.png import save_png
from mmattn.maps.strip import strip
from mmattn.maps.token_matrix import token_matrix

WORDS = ["latin", "small", "letter", "e", "with", "circumflex", "and", "acute"]
LONG = [*WORDS, "box", "drawings", "light", "vertical", "and", "right", "greek", "capital"] * 2
PHOTO = ["a", "brown", "dog", "runs", "over", "wet", "grass", "with", "its", "red", "ball", "."]
RNG = np.random.default_rng(0)


def glyph() -> np.ndarray:
    """A letter, dark on light, as the built-in data set draws them."""
    image = Image.new("RGB", (32, 32), (250, 250, 250))
    ImageDraw.Draw(image).text((9, 3), "e", fill=(20, 20, 20), font_size=26)
    return np.asarray(image)


def photo() -> np.ndarray:
    """Noise of a photo's roughness; what it shows does not matter to the time."""
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)))


def attention(*shape: int) -> np.ndarray:
    """New weights float32 [*shape] that sum to 1 over the last axis, with a few strong ones."""
    logits = RNG.normal(0, 2, shape)
    weights = np.exp(logits)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def captioned(image: np.ndarray, words: list[str], side: int) -> np.ndarray:
    """A strip of new maps: what is printed is new each time, as while training."""
    maps, caption = attention(len(words), side * side).reshape(-1, side, side), " ".join(words)
    return strip(image, words, maps, caption=caption, references=[caption])


def pictures() -> dict[str, Callable[[], np.ndarray]]:
    small, large = glyph(), photo()
    return {
        "strip, glyph, 8 words": lambda: captioned(small, WORDS, 8),
        "strip, glyph, 24 words": lambda: captioned(small, LONG[:24], 8),
        "strip, photo, 12 words": lambda: captioned(large, PHOTO, 14),
        "grid, glyph, 3 x 4": lambda: layer_head_grid(
            small, attention(3, 4, 65), (8, 8), prefix=1, title="acute"
        ),
        "comparison, 8 words": lambda: comparison(
            [Side(name, small, attention(8, 64).reshape(8, 8, 8)) for name in ("a", "b")],
            WORDS,
            difference=True,
        ),
        "token matrix, 24": lambda: token_matrix(attention(24, 24), LONG[:24]),
        "statistic, 12 x 12": lambda: head_statistic(attention(12, 12), title="entropy"),
        "history, 3 x 4, 100": lambda: head_history(
            list(range(100)), attention(100, 3, 4), title="entropy"
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = pictures()
    with tempfile.TemporaryDirectory() as folder:
        drawn = {name: make() for name, make in draw.items()}
        paths = {name: Path(folder) / f"{i}.png" for i, name in enumerate(drawn)}
        write = {f"write {name}": lambda n=name: save_png(paths[n], drawn[n]) for name in drawn}
        seconds = interleaved({**draw, **write}, arguments.repeats)
        sizes = {name: path.stat().st_size for name, path in paths.items()}
    print(f"{'':24}   draw   write    file   pixels")
    for name, picture in drawn.items():
        times = f"{1000 * seconds[name]:7.1f} {1000 * seconds[f'write {name}']:7.1f}"
        height, width = picture.shape[:2]
        print(f"{name:24}{times} ms {sizes[name] / 1000:5.0f} kB {width} x {height}")
    short, grid = "strip, glyph, 8 words", "grid, glyph, 3 x 4"
    logging = sum(n * (seconds[k] + seconds[f"write {k}"]) for k, n in [(short, 4), (grid, 1)])
    print(f"a logging: {1000 * logging:.0f} ms")


if __name__ == "__main__":
    main()
