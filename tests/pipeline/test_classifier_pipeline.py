"""`classify`: every input gets what the model itself would say, and a mistake is one line."""

import numpy as np
import pytest
import torch
from PIL import Image

import mmattn
from mmattn.data.labelled.classes import Classes
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.label_batch import label_batch
from mmattn.pipeline.labeller import Labeller

QUESTIONS = ["is it a dog?", "which colour has the ball?", "is it red?"]
SEVERAL = {
    "answer": Classes("single", ("no", "perhaps", "yes")),
    "traits": Classes("multi", ("old", "small")),
    "said": Classes("soft", ("a", "b", "c", "d")),
}
ENTITIES = {"entity": Classes("words", ("O", "person", "place"))}


@pytest.fixture(scope="module")
def asking(make_classifier):
    """A model of pictures and questions."""
    return ClassifierPipeline(make_classifier())


@pytest.fixture(scope="module")
def seeing(make_classifier):
    """A model of pictures, with three heads."""
    return ClassifierPipeline(make_classifier(text=False, classes=SEVERAL))


@pytest.fixture(scope="module")
def reading(make_classifier):
    """A model that labels words."""
    return ClassifierPipeline(make_classifier(vision=False, classes=ENTITIES))


@pytest.fixture(scope="module")
def comparing(make_classifier):
    """A model of two pictures and a text."""
    bundle = make_classifier(images=2)
    with torch.no_grad():
        bundle.model.image_places.normal_(generator=torch.Generator().manual_seed(3))
    return ClassifierPipeline(bundle)


@pytest.fixture
def batches(monkeypatch):
    """How many inputs, and how many pictures, each batch had."""
    seen, classifications = [], Labeller.classifications

    def count(self, asked):
        batch = label_batch(asked, 0, words=False)
        seen.append((len(asked), 0 if batch.images is None else len(batch.images)))
        return classifications(self, asked)

    monkeypatch.setattr(Labeller, "classifications", count)
    return seen


def alike(found, wanted):
    """Compare classifications; numbers may differ by rounding."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.answers.keys() == other.answers.keys()
        for head, answer in one.answers.items():
            assert answer.label == other[head].label
            assert answer.probability == pytest.approx(other[head].probability, abs=1e-5)


@torch.no_grad()
def test_it_says_what_the_model_says_at_its_temperature(make_classifier, photos):
    """The whole way by hand: transform, encode, compute, divide, softmax."""
    bundle = make_classifier(temperature={"answer": 2.5})
    pipeline = ClassifierPipeline(bundle)
    (found,) = pipeline.classify(photos[0], QUESTIONS[0], top=2)
    pixels = bundle.preprocessing.transform()(torch.from_numpy(photos[0]).permute(2, 0, 1))
    text = bundle.tokenizer
    ids = [text.begin_id, *text.encode(QUESTIONS[0]), text.end_id]
    batch = mmattn.batch.LabelBatch(
        keys=("a",),
        images=pixels[None],
        image_rows=torch.zeros(1, 1, dtype=torch.long),
        image_valid=None,
        tokens=torch.tensor([ids]),
        valid=torch.ones(1, len(ids), dtype=torch.bool),
        targets={},
    )
    wanted = (bundle.model(batch)["answer"][0] / 2.5).softmax(-1)
    order = wanted.argsort(descending=True)[:2].tolist()
    assert [one.label for one in found.top] == [("no", "perhaps", "yes")[i] for i in order]
    assert [one.probability for one in found.top] == pytest.approx(wanted[order].tolist(), abs=1e-6)
    assert (found.label, found.probability) == found.top[0]
    assert (found.images, found.text) == (("image-0",), QUESTIONS[0])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_and_threads_change_nothing(asking, photos, batch_size, threads):
    texts = [QUESTIONS[i % 3] for i in range(12)]
    alone = [asking.classify(photo, text)[0] for photo, text in zip(photos, texts, strict=True)]
    together = asking.classify(photos, texts, batch_size=batch_size, threads=threads)
    alike(together, alone)
    assert len({one.probability for one in together}) > 6


def test_one_text_is_for_all_images_and_one_image_for_all_texts(asking, photos, batches):
    alike(
        asking.classify(photos[:3], QUESTIONS[0]),
        [asking.classify(photo, QUESTIONS[0])[0] for photo in photos[:3]],
    )
    batches.clear()
    found = asking.classify(photos[0], QUESTIONS * 3, batch_size=4, threads=1)
    assert batches == [(4, 1), (4, 1), (1, 1)]  # the picture is encoded once a batch
    alike(found[:3], [asking.classify([photos[0]], text)[0] for text in QUESTIONS])
    assert [one.text for one in found] == QUESTIONS * 3


def test_files_are_named_by_their_paths(asking, folder):
    found = asking.classify(folder, "is it red?")
    assert len(found) == 6
    assert found[0].images == (str(folder / "deep" / "er" / "photo 1.png"),)
    assert found[0].to_dict() == {
        "image": found[0].images[0],
        "text": "is it red?",
        "label": found[0].label,
        "probability": found[0].probability,
        "top": [{"label": one.label, "probability": one.probability} for one in found[0].top],
    }


def test_the_kinds_of_heads(seeing, photos):
    (found,) = seeing.classify(photos[0], top=2)
    assert list(found.answers) == list(SEVERAL)
    assert found.label == found["answer"].label
    one, many, soft = (found[head] for head in SEVERAL)
    assert len(one.top) == len(many.top) == len(soft.top) == 2
    assert one.labels == (one.label,)
    assert many.labels == tuple(name for name, p in many.top if p >= 0.5)
    (whole,) = seeing.classify(photos[0], top=99)
    assert sum(p for _, p in whole["answer"].top) == pytest.approx(1)
    for head in ("traits", "said"):  # each class has a probability of its own
        assert sum(p for _, p in whole[head].top) != pytest.approx(1, abs=1e-3)
        numbers = [p for _, p in whole[head].top]
        assert numbers == sorted(numbers, reverse=True)
    values = found.to_dict()
    assert values.keys() == {"image", "heads"}
    assert values["heads"]["traits"]["labels"] == list(many.labels)


def test_heads_can_be_chosen(seeing, photos):
    (found,) = seeing.classify(photos[0], heads="said")
    assert list(found.answers) == ["said"]
    assert found.label == seeing.classify(photos[0])[0]["said"].label
    (found,) = seeing.classify(photos[0], heads=["said", "answer"])
    assert list(found.answers) == ["said", "answer"]


def test_every_word_has_a_label(reading):
    words = ("a", "dog", "sleeps", "on", "a", "mat")
    found = reading.classify(texts=["is it red?", list(words), ""])
    assert [len(one["entity"].words) for one in found] == [3, 6, 0]
    assert tuple(word.word for word in found[1]["entity"].words) == words
    assert found[1].text == words
    assert len(found[1].label) == len(found[1].probability) == 6
    assert {*found[1].label} <= {"O", "person", "place"}
    assert all(1 / 3 <= p <= 1 for p in found[1].probability)
    alike(found[:1], reading.classify(texts="is it red?"))  # also without longer ones beside it
    (line,) = reading.classify(texts="red ball")
    assert line.to_dict()["text"] == ["red", "ball"]
    assert line.to_dict()["label"] == list(line.label)
    assert [word["word"] for word in line.to_dict()["words"]] == ["red", "ball"]


def test_words_that_were_cut_off_have_no_label(reading):
    (whole,) = reading.classify(texts="a cat sleeps")
    (cut,) = reading.classify(texts="a cat sleeps " + "on a mat " * 9, truncate=True)
    assert 3 < len(cut["entity"].words) < 30
    assert [word.word for word in cut["entity"].words[:3]] == ["a", "cat", "sleeps"]
    assert len(whole["entity"].words) == 3


def test_two_images_of_an_input_are_told_apart(comparing, photos):
    one, other = photos[:2]
    pairs = comparing.classify([(one, other), (other, one)], "is it red?")
    assert pairs[0].probability != pytest.approx(pairs[1].probability, abs=1e-6)
    alike(comparing.classify([one, other], "is it red?"), pairs[:1])
    alike(
        comparing.classify((other, one), QUESTIONS),
        comparing.classify([(other, one)] * 3, QUESTIONS),
    )
    assert pairs[0].images == ("image-0", "image-1")
    assert pairs[0].to_dict()["image"] == ["image-0", "image-1"]


def test_two_images_may_be_files(comparing, folder):
    names = [str(folder / "photo 0.png"), str(folder / "photo 2.png")]
    (found,) = comparing.classify([names], "is it red?")
    assert found.images == tuple(names)


def test_what_was_trained_to_do_without_does_without(make_classifier, photos):
    pipeline = ClassifierPipeline(make_classifier(may_miss={"image": 0.1}))
    (blind,) = pipeline.classify(texts="is it red?")
    assert blind.images == ()
    assert blind.to_dict().keys() == {"text", "label", "probability", "top"}
    alike(pipeline.classify(texts=["is it red?"] * 2), [blind, blind])
    with pytest.raises(ConfigError, match="input 0 has no text"):
        pipeline.classify(photos[0])


@pytest.mark.parametrize("kind", ["asking", "seeing", "reading"])
def test_nothing_is_nothing(request, kind):
    pipeline = request.getfixturevalue(kind)
    if kind != "reading":
        assert pipeline.classify([], "is it red?" if kind == "asking" else None) == []
    else:
        assert pipeline.classify(texts=[]) == []


MISTAKES = [
    (
        "asking",
        {"texts": "is it red?"},
        "input 0 has no image, and this model reads an image and a",
    ),
    (
        "asking",
        {"images": ["x.png"]},
        "input 0 has no text, .*trained with model.may_miss.text=0.1",
    ),
    (
        "seeing",
        {"images": ["x.png"], "texts": "a"},
        "has a text, and this model reads an image only",
    ),
    ("reading", {"images": ["x.png"], "texts": "a"}, "an image, and this model reads a text only"),
    ("reading", {"images": ["x.png"]}, "has an image, and this model reads a text only"),
    ("asking", {}, "nothing to read: give images, texts, or both"),
    (
        "asking",
        {"images": ["x.png"] * 3, "texts": ["a"] * 2},
        "^3 images and 2 texts: give as many",
    ),
    ("asking", {"images": [], "texts": ["a"] * 2}, "^0 images and 2 texts"),
    ("asking", {"images": ["x.png"], "texts": ["a", 3]}, r"texts\[1\] is 3: give a text$"),
    ("asking", {"images": ["x.png"], "texts": [["a"]]}, r"texts\[0\] is \['a'\]: give a text$"),
    ("reading", {"texts": [["a", 3]]}, "give a text, or a list of its words"),
    ("asking", {"images": "x.png", "texts": "a", "top": 0}, "top=0"),
    ("asking", {"images": "x.png", "texts": "a", "batch_size": 0}, "batch_size=0"),
    ("seeing", {"images": "x.png", "heads": "trait"}, "no head 'trait'; did you mean traits"),
    ("seeing", {"images": "x.png", "heads": []}, r"heads=\[\]: give 1 or more"),
]


@pytest.mark.parametrize(("kind", "given", "said"), MISTAKES)
def test_a_mistake_is_one_line_before_anything_is_read(request, kind, given, said):
    with pytest.raises(ConfigError, match=said) as raised:
        request.getfixturevalue(kind).classify(**given)
    assert "\n" not in str(raised.value)


def test_a_text_that_is_too_long_names_both_lengths_or_is_cut(asking, photos):
    long = "is it red? " * 9
    count = len(asking.tokenizer.encode(long)) + 2
    said = rf"input 1: the text has {count} tokens, and this model reads 16: .*truncate=True"
    with pytest.raises(DataError, match=said):
        asking.classify(photos[0], ["is it red?", long])
    found = asking.classify(photos[0], [long, long + "or blue?"], truncate=True)
    alike(found[:1], found[1:])
    assert found[0].text == long


def test_too_many_images_of_an_input_are_said(comparing, photos):
    with pytest.raises(DataError, match="input 0 has 3 images, and this model takes up to 2 at"):
        comparing.classify(photos[:3], "is it red?")
    with pytest.raises(DataError, match="input 1 has 0 images"):
        comparing.classify([photos[:2], []], "is it red?")


def test_a_picture_that_cannot_be_read_is_said(asking, folder):
    (folder / "z.png").write_text("no picture")
    with pytest.raises(DataError, match=r"z\.png is not an image"):
        asking.classify([folder / "photo 0.png", folder / "z.png"], "is it red?")


def test_a_text_for_a_model_that_never_saw_one(make_classifier, photos):
    bundle = make_classifier(may_miss={"text": 0.0})
    bundle.tokenizer = None
    pipeline = ClassifierPipeline(bundle)
    assert pipeline.classify(photos[0])
    with pytest.raises(ConfigError, match="this model was trained without: it knows none"):
        pipeline.classify(photos[0], "is it red?")


def test_numbers_that_half_precision_cannot_hold_are_said(make_classifier, photos):
    pipeline = ClassifierPipeline(make_classifier()).to(dtype=torch.float16)
    with torch.no_grad():
        pipeline.model.heads["answer"].bias.fill_(float("inf"))
    with pytest.raises(ConfigError, match="beyond float16: load it with dtype='bfloat16'"):
        pipeline.classify(photos[0], "is it red?")


def test_half_precision_classifies_alike(make_classifier, photos):
    wanted = ClassifierPipeline(make_classifier()).classify(photos[:3], "is it red?")
    pipeline = ClassifierPipeline(make_classifier())
    assert pipeline.to("cpu", torch.bfloat16) is pipeline
    found = pipeline.classify(photos[:3], "is it red?")
    assert [one.probability for one in found] == pytest.approx(
        [one.probability for one in wanted], abs=0.1
    )


def test_pictures_of_every_kind_are_taken(asking, photos, folder):
    path = folder / "photo 0.png"
    tensor = torch.from_numpy(photos[0]).permute(2, 0, 1)
    kinds = [path, str(path), Image.open(path), photos[0], tensor, photos[0] / np.float32(255)]
    found = [asking.classify(kind, "is it red?")[0].probability for kind in kinds]
    assert found == pytest.approx([found[0]] * len(kinds), abs=1e-3)
    assert len(asking.classify((photo for photo in photos[:3]), "is it red?")) == 3


def test_it_can_be_saved_and_loaded(make_classifier, photos, tmp_path):
    pipeline = ClassifierPipeline(make_classifier(temperature={"answer": 3.0}))
    again = mmattn.load(pipeline.save(tmp_path / "model"))
    assert isinstance(again, mmattn.ClassifierPipeline)
    alike(again.classify(photos, "is it red?"), pipeline.classify(photos, "is it red?"))
    assert repr(again).startswith("ClassifierPipeline('made by a test', ")


def test_each_kind_of_model_says_which_call_it_has(seeing, pipeline, photos):
    with pytest.raises(ConfigError) as raised:
        seeing.caption(photos[0], beams=3)
    assert str(raised.value) == (
        "this model is a classifier (answer, traits, said), which has .classify() and "
        "`mmattn classify`"
    )
    with pytest.raises(ConfigError, match=r"this model is a captioner, which has \.caption\(\)"):
        pipeline.classify(photos[0], "is it red?")


def test_it_says_itself_in_one_line(asking, photos):
    (found,) = asking.classify(photos[0], "is it red?")
    assert repr(found) == (f"Classification('image-0', text='is it red?', answer={found.label!r})")


def test_a_trial_takes_a_batch_of_different_pictures(asking, reading, comparing, batches):
    for pipeline, pictures in ((asking, 3), (reading, 0), (comparing, 6)):
        batches.clear()
        pipeline.labeller().trial(3)
        assert batches == [(3, pictures)]


@pytest.mark.parametrize("of", ["asking", "seeing", "reading"])
def test_a_vector_is_what_all_heads_read(of, request, photos):
    """A head that reads the whole makes its scores of it; of texts it is the mean of the tokens."""
    pipeline = request.getfixturevalue(of)
    given = {} if of == "reading" else {"images": photos[:5]}
    given |= {} if of == "seeing" else {"texts": [QUESTIONS[i % 3] for i in range(5)]}
    vectors = pipeline.embed(**given, batch_size=2)
    assert (vectors.dtype, vectors.shape) == (torch.float32, (5, 16))
    alone = torch.cat([pipeline.embed(**{k: v[i] for k, v in given.items()}) for i in range(5)])
    torch.testing.assert_close(vectors, alone, atol=1e-5, rtol=0)
    if of != "reading":
        scores = pipeline.model.heads["answer"](vectors)
        said = [one["answer"].top[0].probability for one in pipeline.classify(**given)]
        assert said == pytest.approx(scores.softmax(-1).amax(-1).tolist(), abs=1e-5)


def test_vectors_of_nothing_and_of_what_cannot_be_read(seeing, asking, folder):
    assert seeing.embed([]).shape == (0, 16)
    (folder / "bad.png").write_bytes(b"spoilt")
    with pytest.raises(DataError, match=r"bad\.png is not an image"):
        seeing.embed(folder)
    with pytest.raises(ConfigError, match="has no text, and this model reads an image and a text"):
        asking.embed(folder)
