"""A classifier's folder: what is read is what was written, and what was altered is named."""

import json

import pytest
import torch
from huggingface_hub import ModelCard

from mmattn.bundle import ClassifierBundle
from mmattn.data.labelled.classes import Classes
from mmattn.errors import CheckpointError
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.manifest import write_manifest

MISSING = ...  # see `set_at`
SEVERAL = {
    "answer": Classes("single", ("no", "perhaps", "yes")),
    "is it old?": Classes("multi", ("a|b", "ü\n")),
    "checkpoint": Classes("soft", ("1", "2"), open=True),  # heads may be called anything
}
KINDS = {
    "both": {"may_miss": {"text": 0.25}, "temperature": {"answer": 1.5}},
    "several heads": {"classes": SEVERAL, "temperature": {"checkpoint": 0.5}},
    "image": {"text": False, "pool": "mean"},
    "two images": {"images": 2},
    "text": {"vision": False},
    "words": {"classes": {"entity": Classes("words", ("O", "person"))}, "vision": False},
}


@pytest.fixture
def folder(make_classifier, tmp_path):
    return write_folder(make_classifier(), tmp_path / "model")


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_comes_back_bit_for_bit(make_classifier, tmp_path, kind):
    bundle = make_classifier(**KINDS[kind])
    folder = write_folder(bundle, tmp_path / "model")
    read = read_folder(folder)
    assert isinstance(read, ClassifierBundle)
    wanted, found = bundle.model.state_dict(), read.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    assert read.model.settings() == bundle.model.settings()
    assert list(read.classes.items()) == list(bundle.classes.items())
    given = {head: bundle.temperature.get(head, 1.0) for head in bundle.classes}
    assert read.temperature == given
    assert read.preprocessing == bundle.preprocessing
    assert (read.tokenizer is None) is (bundle.tokenizer is None)
    assert (folder / "tokenizer.json").exists() is (bundle.tokenizer is not None)
    assert (read.max_length, read.source) == (bundle.max_length, bundle.source)
    assert not read.model.training
    again = write_folder(read, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["task"], "caption", "decoding is missing; format 2 has a dict"),
        (["heads"], MISSING, "heads is missing; format 2 has a dict"),
        (["preprocessing"], 3, "preprocessing is 3; format 2 has a dict or null"),
        (["preprocessing"], None, "preprocessing is None, and the model sees pictures"),
        (["decoding"], {}, "format 2 has no key 'decoding'"),
        (["heads", "answer"], 3, "heads.answer is 3: give classes, kind, open, temperature"),
        (["heads", "answer", "later"], 3, "give classes, kind, open, temperature, and nothing"),
        (["heads", "answer", "kind"], "one", "heads.answer.kind is 'one'; known: single, multi"),
        (["heads", "answer", "kind"], "words", "kind is 'words', and the model's word_heads are"),
        (["heads", "answer", "classes"], ["a", "b"], "2 names of classes for the head 'answer'"),
        (["heads", "answer", "classes"], ["a", "b", "a"], "which names a class twice"),
        (["heads", "answer", "classes"], ["a", "b", 3], "not names of classes"),
        (["heads", "answer", "open"], 1, "heads.answer.open is 1: give true or false"),
        (["heads", "answer", "temperature"], 0, "temperature is 0: give a number above 0"),
        (["heads", "answer", "temperature"], "1", "temperature is '1': give a number above 0"),
        (["heads", "answer", "temperature"], True, "temperature is True: give a number above 0"),
        (["heads"], {}, "no names of classes for the head 'answer', and the model has 3 scores"),
        (["architecture", "fusion", "kind"], "sum", "fusion.kind is 'sum'; known: cross"),
        (["architecture", "fusion"], MISSING, "model has no section 'fusion'"),
        (["architecture", "fusion", "kind"], "../up", "fusion.kind is '../up', which is no name"),
        (["architecture", "pool"], "max", "pool is 'max'"),
        (["max_length"], 17, "max_length is 17, and the model has positions for 16 tokens"),
        (["tokenizer", "end"], 10**6, "tokenizer.end is 1000000, no token's id"),
    ],
)
def test_a_value_that_cannot_be_is_named(reconfigure, folder, place, value, said):
    reconfigure(folder, place, value)
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("temperature", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_temperature_that_is_no_number_is_named(folder, temperature):
    path = folder / "config.json"
    text = path.read_text()
    assert '"temperature": 1.0' in text
    path.write_text(text.replace('"temperature": 1.0', f'"temperature": {temperature}'))
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="config"):
        read_folder(folder)


def test_parts_that_no_encoder_uses_are_named(reconfigure, make_classifier, tmp_path):
    place = write_folder(make_classifier(vision=False), tmp_path / "text")
    other = write_folder(make_classifier(), tmp_path / "both")
    prepared = json.loads((other / "config.json").read_text())["preprocessing"]
    reconfigure(place, ["preprocessing"], prepared)
    with pytest.raises(CheckpointError, match="a preprocessing, and the model has nothing to use"):
        read_folder(place)


def test_a_tokenizer_that_is_gone_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        read_folder(folder)
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"does not name tokenizer\.json"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("kind", "tag", "title"),
    [
        ("image", "image-classification", "Classifier of images, "),
        ("text", "text-classification", "Classifier of texts, "),
        ("words", "token-classification", "Classifier of texts, "),
        ("both", "visual-question-answering", "Classifier of images and a text, "),
        ("two images", "visual-question-answering", "Classifier of up to 2 images and a text, "),
    ],
)
def test_its_card_says_what_it_is_and_the_hubs_library_reads_it(
    make_classifier, tmp_path, kind, tag, title
):
    bundle = make_classifier(**KINDS[kind])
    folder = write_folder(bundle, tmp_path / "model", results={"test/accuracy": 0.75})
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict()["pipeline_tag"] == tag
    assert f"\n# {title}" in card.text
    for said in ("model.classify(", "| test/accuracy | 0.75 |", "No licence is stated here"):
        assert said in card.text
    files = card.text.split("## Files")[1]
    assert ("tokenizer.json" in files) is (bundle.tokenizer is not None)
    assert ("## Preprocessing" in card.text) is (bundle.preprocessing is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_of_its_parts_add_up(make_classifier, tmp_path, kind):
    bundle = make_classifier(**KINDS[kind])
    card = (write_folder(bundle, tmp_path / "model") / "README.md").read_text()
    section = card.split("## Architecture\n")[1].split("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line][2:]
    numbers = {part: int(number.replace(",", "")) for part, _, number in cells}
    total = numbers.pop("all")
    assert total == sum(numbers.values()) == sum(p.numel() for p in bundle.model.parameters())
    assert all(numbers.values())


def test_classes_of_any_name_stand_in_one_row_of_the_card(make_classifier, tmp_path):
    many = Classes("single", tuple(f"class {i}" for i in range(20)))
    bundle = make_classifier(classes={**SEVERAL, "many": many})
    card = (write_folder(bundle, tmp_path / "model") / "README.md").read_text()
    assert "| is it old? | any number of classes | a\\|b, ü |\n" in card
    assert "class 11, … (20 in all) |\n" in card
