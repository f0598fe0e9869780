"""The package's front door: captions as text in, the numbers of coco-caption out."""

import gzip
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.metrics import bleu_scores, cider_d, exact_match, rouge_l, score_captions, tokenize

caption = st.sampled_from(
    ["A dog runs.", "a dog runs", "Two cats sleep on a red sofa.", "", "!", "It's Mr. Smith."]
)
corpora = st.lists(st.tuples(st.lists(caption, min_size=1, max_size=3), caption), min_size=1)


@pytest.fixture(scope="module")
def coco(data_root):
    """4,982 images with five references and a prediction each, and what coco-caption makes of them.

    As (reference captions, predictions, expected scores).
    """
    folder = data_root / "coco-eval"
    with gzip.open(folder / "mscoco_magic_result.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    references = [row["captions"] for row in rows]
    return references, [row["prediction"] for row in rows], expected


def test_the_scores_of_a_published_system_are_reproduced(coco):
    references, predictions, expected = coco
    scores = score_captions(references, predictions)
    assert [scores[f"BLEU_{n}"] for n in range(1, 5)] == pytest.approx(expected["BLEU"], abs=1e-9)
    assert scores["ROUGE_L"] == pytest.approx(expected["ROUGE_L"], abs=1e-9)
    assert scores["CIDEr"] == pytest.approx(expected["CIDEr"], abs=1e-9)
    assert len(scores) == 6


def test_the_scores_of_its_first_captions_are_reproduced(coco):
    references, predictions, expected = coco
    reference_tokens = [[tokenize(caption) for caption in image] for image in references]
    predicted_tokens = [tokenize(caption) for caption in predictions]
    _, cider = cider_d(reference_tokens, predicted_tokens)
    _, rouge = rouge_l(reference_tokens[:5], predicted_tokens[:5])
    assert cider[:5] == pytest.approx(expected["CIDEr_first_5_images"], abs=1e-9)
    assert rouge == pytest.approx(expected["ROUGE_L_first_5_images"], abs=1e-9)


def test_scores_are_those_of_the_tokens():
    references = [["A dog's bone.", "The bone (of a dog)"], ["Two cats sleep on it!"]]
    predictions = ["a dog 's bone", "two cats sleep"]
    reference_tokens = [[tokenize(caption) for caption in image] for image in references]
    predicted_tokens = [tokenize(caption) for caption in predictions]
    bleus = bleu_scores(reference_tokens, predicted_tokens)[0]
    assert score_captions(references, predictions) == {
        **{f"BLEU_{n}": bleus[n - 1] for n in range(1, 5)},
        "ROUGE_L": rouge_l(reference_tokens, predicted_tokens)[0],
        "CIDEr": cider_d(reference_tokens, predicted_tokens)[0],
    }


@given(corpora)
def test_scores_stay_in_their_range(corpus):
    scores = score_captions(*zip(*corpus, strict=True))
    assert all(type(score) is float for score in scores.values())
    assert all(0 <= scores[key] <= 1 + 1e-9 for key in scores if key != "CIDEr")
    assert 0 <= scores["CIDEr"] <= 10 + 1e-9


@given(corpora, st.randoms())
def test_the_order_of_the_corpus_does_not_matter(corpus, chance):
    shuffled = chance.sample(corpus, len(corpus))
    first = score_captions(*zip(*corpus, strict=True))
    assert score_captions(*zip(*shuffled, strict=True)) == pytest.approx(first)


@pytest.mark.parametrize("empty", ["", " ", ".", "!"])
def test_empty_predictions_score_zero(empty):
    scores = score_captions([["A dog runs."], ["Two cats.", ""]], [empty, empty])
    assert set(scores.values()) == {0.0}


def test_an_exact_match_folds_spaces_but_not_case():
    references = [["a dog", "the dog"], ["red\tcar"], ["Yes"], ["no"]]
    assert exact_match(references, [" the  dog\n", "red car", "yes", "no."]) == 0.5
    assert exact_match([["a dog"], [""]], ["", ""]) == 0.5


def test_the_import_leaves_torch_alone():
    """So that scoring a file starts at once."""
    code = "import sys, mmattn.metrics, mmattn.metrics.meteor; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
