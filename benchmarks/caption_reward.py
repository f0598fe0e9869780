"""CIDEr-D as a reward: captions a second, against pycocoevalcap's own scorer in the same run.

    MMATTN_DATA=/path/to/data uv run --extra meteor python benchmarks/caption_reward.py

5,000 images of COCO val2017: the first caption of each is scored against its others, all of them
split into words beforehand. pycocoevalcap counts the references' n-grams at every call; a reward
asks for the same images again and again, so `CiderScorer` counts them once. Both are shown, and so
is `cider_d`, which counts anew. Goal: scoring is at least 20 x as fast as pycocoevalcap's scorer.
"""

import argparse
import gzip
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from pycocoevalcap.cider.cider_scorer import CiderScorer as ReferenceScorer
from timing import interleaved

from mmattn.metrics import cider_d, tokenize
from mmattn.metrics.cider_scorer import CiderScorer

FILE = Path(os.environ.get("MMATTN_DATA", ""), "coco-eval", "captions_val2017.json.gz")


def read(path: Path, images: int) -> list[list[list[str]]]:
    """Return the words of each caption of so many images."""
    annotations = json.loads(gzip.decompress(path.read_bytes()))["annotations"]
    captions: dict[int, list[str]] = defaultdict(list)
    for each in annotations:
        captions[each["image_id"]].append(each["caption"])
    return [[tokenize(text) for text in captions[i]] for i in list(captions)[:images]]


def reference_scores(references: list[list[list[str]]], captions: list[list[str]]) -> np.ndarray:
    """Score with pycocoevalcap."""
    scorer = ReferenceScorer()
    for image, caption in zip(references, captions, strict=True):
        scorer += (" ".join(caption), [" ".join(words) for words in image])
    return scorer.compute_score()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=Path, default=FILE, help="COCO's JSON, gzipped")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    known = read(args.captions, args.images)
    captions, references = [image[0] for image in known], [image[1:] for image in known]
    scorer, places = CiderScorer(references), range(len(known))
    sides = {
        "pycocoevalcap": lambda: reference_scores(references, captions),
        "cider_d, counts anew": lambda: cider_d(references, captions)[1],
        "CiderScorer, made anew": lambda: CiderScorer(references)(places, captions),
        "CiderScorer": lambda: scorer(places, captions),
    }
    expected = sides["pycocoevalcap"]()
    seconds = interleaved(sides, args.repeats, warmup=1)
    print(f"| {len(known)} images | ms | x pycocoevalcap | largest difference |")
    print("|---|---|---|---|")
    for name, score in sides.items():
        difference = np.abs(np.asarray(score()) - expected).max()
        ratio = seconds["pycocoevalcap"] / seconds[name]
        print(f"| {name} | {1000 * seconds[name]:.1f} | {ratio:.1f} | {difference:.1g} |")


if __name__ == "__main__":
    main()
