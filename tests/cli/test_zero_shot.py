"""`mmattn classify --labels` as typed: a joint model tells classes that are only named."""

import json
from pathlib import Path

import pytest

import mmattn

ASKED = ("photos", "--labels", "dog, red ball,cat")
NAMES = ["dog", "red ball", "cat"]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def classify(call, joint, photos):
    """Classify with a small joint model in a folder with photos/."""
    return lambda *typed: call("classify", *typed, "--model", joint, "--device", "cpu")


def test_every_image_has_the_labels_that_python_says(classify, joint):
    code, out, err = classify(*ASKED, "--top", 2)
    assert code == 0
    wanted = [one.to_dict() for one in mmattn.load(joint).classify("photos", NAMES, top=2)]
    found = lines(out)
    assert [line["image"] for line in found] == [line["image"] for line in wanted]
    for line, other in zip(found, wanted, strict=True):
        assert [each["label"] for each in line["top"]] == [each["label"] for each in other["top"]]
        assert line["probability"] == pytest.approx(other["probability"], abs=1e-5)
    assert err.startswith("8 images; ")


def test_labels_of_a_file_in_templates(classify, joint):
    Path("labels.txt").write_text("\n".join(NAMES) + "\n")
    templates = ["a {}", "two {}s"]
    flags = [part for template in templates for part in ("--template", template)]
    code, out, _ = classify("photos", "--labels-file", "labels.txt", *flags)
    assert code == 0
    wanted = mmattn.load(joint).classify("photos", NAMES, templates=templates)
    assert [line["label"] for line in lines(out)] == [one.label for one in wanted]
    said = [line["probability"] for line in lines(out)]
    assert said == pytest.approx([one.probability for one in wanted], abs=1e-5)


def test_a_job_goes_on_but_not_with_other_labels(classify, photos):
    (photos / "1.png").write_bytes(b"spoilt")
    typed = (*ASKED, "--out", "out.jsonl", "--batch-size", "auto")
    assert classify(*typed)[0] == 3
    before = Path("out.jsonl").read_text()
    code, _, err = classify(*typed)
    assert (code, err) == (3, '8 images; 8 done before; 1 could not be read: see "error"\n')
    code, _, err = classify("photos", "--labels", "bird,tree", "--out", "out.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert "which is none of those asked for" in err
    assert Path("out.jsonl").read_text() == before


def test_labels_of_other_lines_than_texts_are_refused(classify):
    Path("labels.jsonl").write_text('{"text": "dog"}\n{"image": "photos/1.png"}\n')
    code, _, err = classify("photos", "--labels-file", "labels.jsonl")
    assert (code, err) == (2, 'error: labels.jsonl:2: give a "text" alone\n')


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--labels", "dog,red ball"], "has the label 'cat', which is none of those asked for"),
        (["--labels", "dog,red ball,cat,bird"], 'has 3 labels in "top", and 4 are asked for'),
        ([*ASKED[1:], "--top", 2], 'has 3 labels in "top", and 2 are asked for'),
    ],
)
def test_a_file_of_other_labels_is_refused_whichever_it_tells_first(classify, typed, said):
    assert classify(*ASKED, "--out", "out.jsonl")[0] == 0
    code, _, err = classify("photos", *typed, "--out", "out.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert f"out.jsonl, line 1: {said}" in err


@pytest.mark.parametrize("said", ['"heads": {"a": {"label": "dog"}}', '"label": [], "words": []'])
def test_a_file_of_a_classifier_is_refused(classify, said):
    Path("out.jsonl").write_text(f'{{"image": "photos/1.png", {said}}}\n')
    code, _, err = classify(*ASKED, "--out", "out.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert "out.jsonl, line 1: is of a classifier, which has classes of its own" in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["photos"], "is a joint model, which has .caption(), .embed(), .retrieve() and"),
        ([*ASKED, "--text", "a"], "--text, --texts, --head and --truncate are of classifiers"),
        (["photos", "--template", "a {}"], "--template is of --labels or --labels-file"),
        ([*ASKED, "--template", "a"], "the template 'a' has no {} where the name could stand"),
        (["photos", "--labels", "a,b,a"], "the label 'a' is given twice"),
        (["photos", "--labels", "a" * 99], "tokens and the model reads 12"),
        (["photos", "--labels-file", "nowhere.txt"], "nowhere.txt"),
        (["photos", "--labels-file", "-"], "--labels-file is a file: stdin is for images"),
        (["--labels", "a"], "nothing to classify: name images"),
        ([*ASKED, "--top", "0"], "--top 0: give 1 or more"),
    ],
)
def test_a_mistake_is_one_line(classify, typed, said):
    code, out, err = classify(*typed)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_classifier_has_classes_of_its_own(call, classifier, photos):
    code, _, err = call("classify", *ASKED, "--model", classifier)
    assert (code, err.count("\n")) == (2, 1)
    assert "--labels is for joint models, which embed images and texts" in err
