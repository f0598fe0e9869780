"""What argues for classes at inference is `decision_relevance`, whatever the input consists of."""

import html
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import mmattn
from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.data.labelled.classes import Classes
from mmattn.errors import ConfigError
from mmattn.fusion import CoFusion, CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.maps.decision import decision_relevance
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline

QUESTIONS = ["is it a dog?", "which colour has the ball?", "is it red?"]
SEVERAL = {
    "answer": Classes("single", ("no", "perhaps", "yes")),
    "traits": Classes("multi", ("old", "small")),
    "said": Classes("soft", ("a", "b", "c", "d")),
}
ENTITIES = {"entity": Classes("words", ("O", "person", "place"))}
BLOCK = BlockOptions(heads=2)
FUSIONS = {
    "cross": lambda: CrossFusion(16, 1, BLOCK),
    "co": lambda: CoFusion(16, 1, BLOCK),
    "merged": lambda: MergedFusion(16, 1, BLOCK),
    "pooled": lambda: PooledFusion(16, 1, BLOCK, queries=2),
    "gated": lambda: GatedFusion("text", 16, 1, BLOCK),
}


@pytest.fixture(scope="module")
def asking(make_classifier):
    """A model of pictures and questions, with three heads, that may miss either."""
    bundle = make_classifier(classes=SEVERAL, may_miss={"image": 0.1, "text": 0.1})
    return ClassifierPipeline(bundle)


def fused(bundle, fusion):
    """The classifier with another fusion, whose gates are open."""
    torch.manual_seed(3)
    heads = {head: len(each.names) for head, each in bundle.classes.items()}
    old = bundle.model
    model = Classifier(heads, vision=old.vision, text=old.text, fusion=FUSIONS[fusion]())
    with torch.no_grad():
        for parameter in model.fusion.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return ClassifierPipeline(replace(bundle, model=model))


def by_hand(pipeline, head, label, images=None, text=None, word=None):
    """What `decision_relevance` says of a class of one input, a batch of its own."""
    (question,) = pipeline.questions(images, text)
    labeller = pipeline.own_labeller(attention=True)
    batch = labeller.batch([labeller.preparing(4)(question)])
    classes = pipeline.classes[head]
    place = None if word is None else torch.tensor([word])
    chosen = torch.tensor([classes.index[label]])
    return decision_relevance(
        pipeline.model, batch, head, chosen, word=place, kind=classes.kind, at_once=1
    )


def same(found, wanted):
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_map_is_the_relevance_of_its_class_through_every_fusion(make_classifier, photos, fusion):
    pipeline = fused(make_classifier(), fusion)
    found = pipeline.classify(photos[:3], QUESTIONS, attention=True, batch_size=2, top=2)
    plain = pipeline.classify(photos[:3], QUESTIONS, batch_size=2, top=2)
    for one, other, photo, text in zip(found, plain, photos[:3], QUESTIONS, strict=True):
        assert one.to_dict() == other.to_dict()
        assert [(each.label, each.probability) for each in one.maps] == list(one.top)
        for each in one.maps:
            wanted = by_hand(pipeline, "answer", each.label, photo, text)
            same(each.image, wanted.image[0])
            same([worth for _, worth in each.tokens], wanted.text[0])
            words = wanted.words(pipeline.tokenizer)[0]
            assert [word for word, _ in each.words] == [word.text for word, _ in words]
            same([worth for _, worth in each.words], torch.tensor([worth for _, worth in words]))
    assert any(each.image.sum() > 0 for one in found for each in one.maps)


def test_every_kind_of_head_has_its_own(asking, photos):
    (found,) = asking.classify(photos[0], QUESTIONS[0], attention=True, top=2)
    assert {head: len(answer.maps) for head, answer in found.answers.items()} == {
        "answer": 2,
        "traits": 2,
        "said": 2,
    }
    assert list(found.attention.heads) == list(SEVERAL)
    for head, answer in found.answers.items():
        wanted = by_hand(asking, head, answer.label, photos[0], QUESTIONS[0])
        same(answer.maps[0].image, wanted.image[0])
    (chosen,) = asking.classify(photos[0], QUESTIONS[0], attention=True, heads="said")
    same(chosen.maps[0].image, torch.from_numpy(found["said"].maps[0].image))


def test_what_is_missing_argues_for_nothing(asking, photos):
    (blind,) = asking.classify(texts=QUESTIONS[0], attention=True)
    assert blind.maps[0].image.shape[0] == 0
    assert [word for word, _ in blind.maps[0].words] == QUESTIONS[0].split()
    same(
        [worth for _, worth in blind.maps[0].tokens],
        by_hand(asking, "answer", blind.label, None, QUESTIONS[0]).text[0],
    )
    (mute,) = asking.classify(photos[0], attention=True)
    assert (mute.maps[0].words, mute.maps[0].tokens, mute.attention.text) == ((), (), None)
    same(mute.maps[0].image, by_hand(asking, "answer", mute.label, photos[0]).image[0])


def test_a_model_of_images_alone_and_one_of_texts_alone(make_classifier, photos):
    seeing = ClassifierPipeline(make_classifier(text=False))
    found = seeing.classify(photos[:3], attention=True)
    for one, photo in zip(found, photos, strict=False):
        same(one.maps[0].image, by_hand(seeing, "answer", one.label, photo).image[0])
        assert one.maps[0].words == ()
        assert one.attention.images[0].placement.size == photo.shape[:2]
    reading = ClassifierPipeline(make_classifier(vision=False))
    for one, text in zip(reading.classify(texts=QUESTIONS, attention=True), QUESTIONS, strict=True):
        wanted = by_hand(reading, "answer", one.label, None, text)
        same([worth for _, worth in one.maps[0].tokens], wanted.text[0])
        assert one.maps[0].image.shape == (0, 0, 0)


def test_several_images_have_a_map_each(make_classifier, photos):
    bundle = make_classifier(images=2)
    with torch.no_grad():
        bundle.model.image_places.normal_(generator=torch.Generator().manual_seed(3))
    pipeline = ClassifierPipeline(bundle)
    pairs = [(photos[0], photos[1]), (photos[1],)]
    both, one = pipeline.classify(pairs, "is it red?", attention=True)
    assert (both.maps[0].image.shape, one.maps[0].image.shape) == ((2, 2, 3), (1, 2, 3))
    wanted = by_hand(pipeline, "answer", both.label, [pairs[0]], "is it red?")
    same(both.maps[0].image, wanted.image[0])
    np.testing.assert_array_equal(both.attention.images[1].image, photos[1])


def test_the_label_of_every_word_has_its_own(make_classifier):
    pipeline = ClassifierPipeline(make_classifier(vision=False, classes=ENTITIES))
    texts = ["a dog sleeps on a mat", "", "red ball"]
    found = pipeline.classify(texts=texts, attention=True)
    assert [len(one.maps) for one in found] == [6, 0, 2]
    assert found[1].attention is None
    for place, each in enumerate(found[0].maps):
        word = found[0]["entity"].words[place]
        assert (each.word, each.label, each.probability) == word[:3]
        wanted = by_hand(pipeline, "entity", each.label, None, texts[0], word=place)
        same([worth for _, worth in each.tokens], wanted.text[0])
    assert repr(found[2].maps[0]).endswith("word='red')")


def test_a_words_map_is_of_the_class_that_is_told_of_several_passes(make_classifier):
    """Also where a single pass would say another one."""
    bundle = make_classifier(vision=False, classes=ENTITIES, dropout=0.9)
    pipeline = ClassifierPipeline(bundle)
    (alone,) = pipeline.classify(texts=QUESTIONS[1])
    (found,) = pipeline.classify(texts=QUESTIONS[1], attention=True, passes=2, at_least=0.9)
    words = found["entity"].words
    assert any(word.best != label for word, label in zip(words, alone.label, strict=True))
    assert None in found.label
    for place, (each, word) in enumerate(zip(found.maps, words, strict=True)):
        assert (each.word, each.label, each.probability) == (word.word, word.best, word.probability)
        wanted = by_hand(pipeline, "entity", word.best, None, QUESTIONS[1], word=place)
        same([worth for _, worth in each.tokens], wanted.text[0])


def test_a_text_that_was_cut_is_shown_as_the_model_read_it(make_classifier):
    pipeline = ClassifierPipeline(make_classifier(vision=False))
    text = "which colour has the ball? " * 5
    (found,) = pipeline.classify(texts=text, attention=True, truncate=True)
    assert len(found.maps[0].tokens) == 16
    assert text.startswith(found.attention.text.strip())
    assert found.text == text


def test_half_precision_has_maps(make_classifier, photos):
    pipeline = ClassifierPipeline(make_classifier()).to(dtype=torch.bfloat16)
    (found,) = pipeline.classify(photos[0], "is it red?", attention=True)
    assert found.maps[0].image.dtype == np.float32
    assert np.isfinite(found.maps[0].image).all()


def test_no_gradient_is_left_behind(asking, photos):
    asking.classify(photos[0], QUESTIONS[0], attention=True)
    assert all(p.grad is None and not p.requires_grad for p in asking.model.parameters())
    assert not any(module.training for module in asking.model.modules())


def test_it_can_be_saved_in_every_way(asking, photos, tmp_path):
    (found,) = asking.classify(photos[0], QUESTIONS[0], attention=True)
    paths = [found.save(tmp_path / f"a.{kind}") for kind in ("html", "png", "npz", "json")]
    assert all(path.stat().st_size for path in paths)
    assert json.loads(paths[3].read_text()) == found.to_dict()
    record = mmattn.load_decision(paths[2])
    np.testing.assert_array_equal(record.image_relevance, found.attention.image_relevance)
    alone = found["traits"].maps[1]
    kept = mmattn.load_decision(alone.save(tmp_path / "b.npz"))
    np.testing.assert_array_equal(kept.image_relevance[0], alone.image)
    assert [one.label for one in kept.classes] == [alone.label]
    with pytest.raises(
        ConfigError, match=r"a\.gif: what argued .* one of .html, .json, .npz, .png"
    ):
        found.save(tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"one of \.html, \.npz, \.png"):
        alone.save(tmp_path / "a.json")


def test_without_attention_there_is_nothing_to_save_but_the_words(asking, photos, tmp_path):
    (found,) = asking.classify(photos[0], QUESTIONS[0])
    assert (found.maps, found.attention) == ((), None)
    assert found.save(tmp_path / "a.json").is_file()
    with pytest.raises(ConfigError, match="classify with attention=True"):
        found.save(tmp_path / "a.html")
    assert found._repr_html_() == f"<p>{html.escape(repr(found))}</p>"


def test_it_is_shown_in_a_browser_or_said_where_it_is(asking, photos, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or False)
    (found,) = asking.classify(photos[0], QUESTIONS[0], attention=True)
    found.show()
    found.maps[0].show()
    assert len(opened) == 2
    printed = capsys.readouterr().out
    assert "what argued for it: open /" in printed
    assert "ClassMap(" in printed
    assert found.maps[0]._repr_html_().startswith('<figure><img alt="ClassMap(')
    found, *_ = asking.classify(photos[0], QUESTIONS[0])
    found.show()
    assert capsys.readouterr().out == f"{found!r}\n"
