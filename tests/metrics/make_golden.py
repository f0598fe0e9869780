"""Write golden.json: what pycocoevalcap gives for captions of odd kinds.

Run it where pycocoevalcap is installed, without Java: python tests/metrics/make_golden.py. Captions
are tokens already, so its tokenizer has no part in it.
"""

import json
import random
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

# name: images, references of each (least, most), words of a caption (least, most), vocabulary
KINDS = {
    "one image": (1, (3, 3), (4, 9), 12),
    "two images": (2, (1, 2), (3, 8), 9),
    "many images": (24, (1, 5), (1, 14), 30),
    "repeated words": (6, (2, 3), (5, 16), 2),
    "many references": (4, (12, 20), (3, 10), 15),
    "short captions": (12, (1, 4), (1, 3), 5),
    "long captions": (3, (1, 2), (40, 70), 40),
}


def corpus(seed, images, references, words, vocabulary):
    chance = random.Random(seed)
    known = [f"w{i}" for i in range(vocabulary)]

    def caption():
        # Some words are said more often than others, as in any language.
        return " ".join(
            chance.choices(known, k=chance.randint(*words), weights=range(1, vocabulary + 1))
        )

    said = [[caption() for _ in range(chance.randint(*references))] for _ in range(images)]
    predicted = [caption() for _ in range(images)]
    return said, predicted


def scored(references, predictions):
    gts = dict(enumerate(references))
    res = {i: [text] for i, text in enumerate(predictions)}
    bleu, bleus = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    return {
        "BLEU": bleu,
        "BLEU_images": bleus,
        "ROUGE_L": float(rouge),
        "ROUGE_L_images": [float(each) for each in rouges],
        "CIDEr": float(cider),
        "CIDEr_images": [float(each) for each in ciders],
    }


def main():
    sets = {}
    for seed, (name, kind) in enumerate(KINDS.items()):
        references, predictions = corpus(seed, *kind)
        if name == "many images":  # one that is empty, one that is a reference, one said of all
            predictions[0], predictions[1] = "", references[1][0]
            predictions[2:6] = ["w1 w2 w3"] * 4
        sets[name] = {
            "references": references,
            "predictions": predictions,
            "expected": scored(references, predictions),
        }
    text = json.dumps(sets, indent=None, separators=(",", ":"))
    Path(__file__).with_name("golden.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
