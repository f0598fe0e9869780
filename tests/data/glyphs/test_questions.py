"""Questions about glyphs: true, and balanced so that neither side alone answers them."""

from collections import Counter, defaultdict

import pytest

from mmattn.data.glyphs import GlyphLabels, GlyphQuestions, Glyphs
from mmattn.data.glyphs.questions import WHICH, balanced_pairs
from mmattn.data.glyphs.traits import traits
from mmattn.errors import ConfigError

SMALL = {"size": 24, "fonts": ["DejaVuSans", "DejaVuSerif"], "scripts": ["LATIN"]}


@pytest.fixture(scope="module")
def splits():
    return GlyphQuestions(Glyphs(**SMALL, categories=["Lu", "Ll"])).splits()


def sets(splits):
    return {"train": splits.train, "val": splits.val, **splits.test}


def kind_of(example) -> str:
    return example.key.split("/")[-2].partition("-")[0]


def test_yes_and_no_are_as_frequent_for_every_picture_and_every_wording(splits):
    for dataset in sets(splits).values():
        by_picture, by_wording = defaultdict(Counter), defaultdict(Counter)
        for example in dataset.examples:
            if kind_of(example) not in WHICH:
                answer = example.labels["answer"]
                by_picture[example.key.rpartition("/")[0]][answer] += 1
                by_wording[example.text][answer] += 1
        assert by_picture
        assert all(found == {"yes": 1, "no": 1} for found in by_picture.values())
        assert all(found["yes"] == found["no"] for found in by_wording.values())


@pytest.mark.parametrize("kind", WHICH)
def test_every_answer_of_which_is_as_frequent_where_it_is_measured(splits, kind):
    for dataset in (splits.val, *splits.test.values()):
        asked = [example for example in dataset.examples if kind_of(example) == kind]
        found = Counter((example.text, example.labels["answer"]) for example in asked)
        assert len({text for text, _ in found}) == len(WHICH[kind])
        assert len(set(found.values())) == 1


def test_in_training_every_picture_of_a_mark_is_asked_for_it(splits):
    names = {e.images[0] for e in splits.train.examples}
    marks = {name: traits(chr(int(name.partition("U+")[2], 16))).mark for name in names}
    asked = [e for e in splits.train.examples if kind_of(e) == "which_mark"]
    answers = {e.labels["answer"] for e in asked}
    assert len(answers) == 8
    assert {e.images[0] for e in asked} == {name for name in names if marks[name] in answers}


def test_repeats_ask_about_other_traits_in_training_alone(splits):
    glyphs = Glyphs(**SMALL, categories=["Lu", "Ll"])
    again = GlyphQuestions(glyphs, repeats={"letter": 3, "which_mark": 2}).splits()
    assert [e.key for e in again.val.examples] == [e.key for e in splits.val.examples]
    wrong, texts = defaultdict(set), defaultdict(Counter)
    for example in again.train.examples:
        if kind_of(example) == "letter":
            texts[example.text][example.labels["answer"]] += 1
            if example.labels["answer"] == "no":
                wrong[example.images[0]].add(example.text)
    assert all(found["yes"] == found["no"] for found in texts.values())
    assert sum(len(found) == 3 for found in wrong.values()) > 0.9 * len(wrong)
    kinds = [Counter(map(kind_of, each.train.examples)) for each in (splits, again)]
    assert kinds[1]["which_mark"] == 2 * kinds[0]["which_mark"]
    assert kinds[1]["case"] == kinds[0]["case"]
    keys = [example.key for example in again.train.examples]
    assert len(set(keys)) == len(keys)


def test_answers_are_true(splits):
    for example in splits.test["fonts"].examples:
        known = traits(chr(int(example.images[0].partition("U+")[2], 16)))
        kind, answer, text = kind_of(example), example.labels["answer"], example.text
        if kind in WHICH:
            assert answer == (known.mark if kind == "which_mark" else known.letter)
            continue
        said = {
            "case": f" {known.case} letter?",
            "letter": f" letter {known.letter}?",
            "mark": f" {known.mark}",
            "name": f" name {known.name} fit?",
        }[kind]
        assert (said in text) == (answer == "yes")


def test_all_kinds_are_asked_and_the_marks_are_where_the_store_says(splits):
    kinds = {kind_of(example) for example in splits.train.examples}
    assert kinds == {"case", "letter", "mark", "name", "which_letter", "which_mark"}
    asked = [e for e in splits.train.examples if kind_of(e) == "which_mark"]
    named = [e.labels["answer"] in splits.train.store.regions(e.images[0]) for e in asked]
    assert sum(named) / len(named) > 0.7


@pytest.mark.parametrize(
    ("character", "expected"),
    [
        ("É", ("latin", "uppercase letter", "capital", "e", "acute")),
        ("ế", ("latin", "lowercase letter", "small", "e", None)),
        ("x", ("latin", "lowercase letter", "small", "x", None)),
        ("я", ("cyrillic", "lowercase letter", "small", "ya", None)),
        ("ή", ("greek", "lowercase letter", "small", "eta", "tonos")),
        ("7", ("digit", "decimal number", None, None, None)),
    ],
)
def test_traits(character, expected):
    found = traits(character)
    assert (found.script, found.category, found.case, found.letter, found.mark) == expected


@pytest.mark.parametrize("turn", [0.0, 0.5, 0.99])
def test_another_trait_is_drawn_as_often_as_the_own_one(turn):
    having = {"a": list("1234567"), "b": ["8", "9"], "c": ["x"]}
    pairs = list(balanced_pairs(having, turn))
    assert all(true != false for _, true, false in pairs)
    assert Counter(true for _, true, _ in pairs) == Counter(false for *_, false in pairs)
    assert Counter(true for _, true, _ in pairs) == {"a": 3, "b": 2, "c": 1}


def test_nothing_is_asked_of_a_single_trait():
    assert list(balanced_pairs({"a": ["1", "2"]})) == []
    assert list(balanced_pairs({})) == []


def test_labels_of_pictures_have_what_there_is_to_tell():
    chosen = Glyphs(**SMALL | {"scripts": ["LATIN", "DIGIT"]}, categories=["Lu", "Nd"])
    found = GlyphLabels(chosen, ["script", "case", "mark"]).splits()
    labels = {e.images[0].partition("U+")[2]: e.labels for e in found.train.examples}
    assert labels["0041"] == {"script": "latin", "case": "capital"}
    assert labels["0037"] == {"script": "digit"}
    assert labels["00C1"] == {"script": "latin", "case": "capital", "mark": "acute"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g: GlyphQuestions(g, ["colour"]), "'colour' is no kind of question; choose case"),
        (lambda g: GlyphQuestions(g, []), "questions is empty"),
        (lambda g: GlyphQuestions(g, marks=1), "marks=1"),
        (lambda g: GlyphQuestions(g, repeats={"colour": 2}), "'colour' is no kind of question"),
        (lambda g: GlyphQuestions(g, repeats={"case": 0}), "ask every kind once or more"),
        (lambda g: GlyphLabels(g, ["colour"]), "choose of script, category, case, mark"),
    ],
)
def test_what_cannot_be_asked_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make(Glyphs(**SMALL))
