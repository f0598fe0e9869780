"""Scores of odd corpora equal pycocoevalcap's, image by image; make_golden.py wrote them."""

import json
from pathlib import Path

import pytest

from mmattn.metrics.caption_metrics import caption_metrics

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_equal_the_reference(name):
    given, expected = GOLDEN[name], GOLDEN[name]["expected"]
    references = [[text.split() for text in image] for image in given["references"]]
    found = caption_metrics(references, [text.split() for text in given["predictions"]])
    for n in range(4):
        bleu = found[f"BLEU_{n + 1}"]
        assert bleu.score == pytest.approx(expected["BLEU"][n], abs=1e-9)
        assert bleu.per_image == pytest.approx(expected["BLEU_images"][n], abs=1e-9)
    for metric in ("ROUGE_L", "CIDEr"):
        assert found[metric].score == pytest.approx(expected[metric], abs=1e-9)
        assert found[metric].per_image == pytest.approx(expected[f"{metric}_images"], abs=1e-9)
