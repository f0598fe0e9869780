"""The best of n by consensus or by CLIPScore is the best by a plain loop over what was drawn."""

import json

import numpy as np
import pytest
import torch

from mmattn.errors import ConfigError, DataError
from mmattn.metrics import tokenize
from mmattn.metrics.agreement import agreement
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.pipeline.clip_model import JointClip, load_clip
from mmattn.pipeline.clip_scores import clip_scores
from mmattn.pipeline.joint_pipeline import JointPipeline
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pipeline.ranking import ranker_of
from mmattn.recorder import Recorder

DRAWN = {"sample": True, "seed": 3, "max_length": 8}


def texts_of(caption):
    return [one.text for one in (caption, *caption.others)]


@pytest.fixture(scope="module")
def every(pipeline, photos):
    """Six captions of each of five photos, and how probable they are."""
    captions = pipeline.caption(photos[:5], samples=6, returned=6, **DRAWN)
    return [texts_of(caption) for caption in captions]


@pytest.fixture(scope="module")
def joint(make_joint):
    return JointPipeline(make_joint())


def test_the_consensus_is_what_a_loop_over_all_pairs_finds(pipeline, photos, every, tmp_path):
    known = [["a dog runs", "two dogs"], ["a cat sleeps on a mat"], ["a red ball"]]
    file = tmp_path / "known.jsonl"
    rows = [{"image": str(i), "captions": texts} for i, texts in enumerate(known)]
    file.write_text("\n".join(map(json.dumps, rows)))
    frequencies = DocumentFrequencies.of([[tokenize(t) for t in image] for image in known])
    found = pipeline.caption(
        photos[:5], best_of=6, returned=6, by="consensus", consensus_captions=file, **DRAWN
    )
    for caption, drawn in zip(found, every, strict=True):
        words = {text: tokenize(text) for text in drawn}
        wanted = {}
        for i, text in enumerate(drawn):
            others = drawn[:i] + drawn[i + 1 :]
            pairs = [
                CiderScorer([[words[other]]], frequencies)([0], [words[text]])[0]
                for other in others
            ]
            wanted[text] = np.mean(pairs)
        assert sorted(texts_of(caption)) == sorted(drawn)
        scores = [one.score for one in (caption, *caption.others)]
        assert scores == pytest.approx([wanted[text] for text in texts_of(caption)], abs=1e-5)
        assert scores == sorted(scores, reverse=True)


def test_without_a_file_all_words_weigh_the_same_and_the_best_one_is_returned(
    pipeline, photos, every
):
    found = pipeline.caption(photos[:5], best_of=6, by="consensus", batch_size=2, **DRAWN)
    for caption, drawn in zip(found, every, strict=True):
        (scores,) = agreement([[tokenize(text) for text in drawn]])
        assert caption.score == pytest.approx(scores.max(), abs=1e-5)
        assert caption.others == ()
        assert caption.text in drawn
    alone = pipeline.caption(photos[:5], best_of=1, by="consensus", **DRAWN)
    plain = pipeline.caption(photos[:5], **DRAWN)
    assert [one.text for one in alone] == [one.text for one in plain]
    assert [one.log_probs for one in alone] == [one.log_probs for one in plain]


def test_captions_of_validation_and_test_are_not_counted(tmp_path):
    entry = {"filename": "1.jpg", "sentences": [{"raw": "a dog"}]}
    file = tmp_path / "karpathy.json"
    splits = ("train", "val", "test", "restval")
    images = [{**entry, "filename": f"{split}.jpg", "split": split} for split in splits]
    file.write_text(json.dumps({"images": images}))
    ranker = ranker_of("consensus", consensus_captions=file)
    assert ranker.frequencies.unknown == pytest.approx(np.log(2))
    file.write_text(json.dumps({"images": images[1:3]}))
    with pytest.raises(ConfigError, match="captions of validation and test alone"):
        ranker_of("consensus", consensus_captions=file)


def test_beams_are_chosen_among_too(pipeline, photos):
    every = pipeline.caption(photos[:3], beams=5, returned=4)
    found = pipeline.caption(photos[:3], beams=5, best_of=4, by="consensus")
    for caption, beams in zip(found, map(texts_of, every), strict=True):
        (scores,) = agreement([[tokenize(text) for text in beams]])
        assert caption.text == beams[int(scores.argmax())]


def test_the_maps_are_those_of_the_caption_that_was_chosen(pipeline, photos):
    settings = {"best_of": 6, "by": "consensus", **DRAWN}
    (caption,) = pipeline.caption(photos[0], attention=True, **settings)
    (silent,) = pipeline.caption(photos[0], **settings)
    assert (caption.text, caption.log_probs) == (silent.text, silent.log_probs)
    recorder = Recorder(["text.*.cross"])
    pixels = pipeline.transform(torch.from_numpy(photos[0]).permute(2, 0, 1))
    ids = torch.tensor([[[pipeline.tokenizer.begin_id, *caption.ids[:-1]]]])
    with torch.no_grad():
        pipeline.model(pixels[None], ids, recorder)
    assert caption.attention is not None
    for name, weights in zip(*vars(caption.attention.cross).values(), strict=True):
        np.testing.assert_allclose(weights, recorder.maps[name][0].numpy(), atol=1e-5)


def test_clip_chooses_what_is_closest_to_the_picture(pipeline, photos, every, joint):
    by_clip = {"by": "clip", "clip_model": JointClip(joint.bundle)}
    found = pipeline.caption(photos[:5], best_of=6, returned=6, batch_size=2, **by_clip, **DRAWN)
    for photo, caption, drawn in zip(photos, found, every, strict=False):
        seen, said = joint.embed(photo, texts_of(caption), truncate=True)
        scores = [one.score for one in (caption, *caption.others)]
        assert scores == pytest.approx((2.5 * said @ seen[0]).tolist(), abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert sorted(texts_of(caption)) == sorted(drawn)


def test_a_joint_model_chooses_among_its_own_captions(joint, photos, tmp_path):
    folder = joint.save(tmp_path / "joint")
    (found,) = joint.caption(photos[0], best_of=4, by="clip", clip_model=folder, **DRAWN)
    scores = clip_scores(load_clip(folder), [photos[0]], [found.text])
    assert scores.clip[0] == pytest.approx(max(found.score, 0), abs=1e-5)


def test_scores_of_a_joint_model_are_its_cosines(joint, photos):
    texts, references = ["a dog", "two cats"], [["the dog", "a cat"], ["cats"]]
    model = JointClip(joint.bundle)
    found = clip_scores(model, photos[:2], texts, references)
    seen, said = joint.embed(photos[:2], texts)
    clip = 2.5 * (seen * said).sum(-1).clamp(min=0)
    best = torch.stack(
        [
            (joint.embed(texts=known) @ one).amax()
            for known, one in zip(references, said, strict=True)
        ]
    ).clamp(min=0)
    assert found.clip == pytest.approx(clip.numpy(), abs=1e-5)
    both = 2 * clip * best / (clip + best).clamp(min=1e-12)
    assert found.ref_clip == pytest.approx(both.numpy(), abs=1e-5)
    assert [len(part) for part in clip_scores(model, [], [], [])] == [0, 0]


@pytest.mark.parametrize(
    ("captions", "references", "said"),
    [
        (["a"], None, "2 images and 1 captions"),
        (["a", "b"], [["a"]], "2 images and references of 1: give some of each image"),
        (["a", "b"], [["a"], []], "image 1 has no reference"),
    ],
)
def test_numbers_that_do_not_fit_are_said(joint, photos, captions, references, said):
    with pytest.raises(DataError, match=said):
        clip_scores(JointClip(joint.bundle), photos[:2], captions, references)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"by": "chance"}, "by='chance': choose probability, consensus, clip"),
        ({"by": "consensus"}, "by='consensus' chooses among several captions, and one is written"),
        ({"by": "clip", "beams": 4}, "name the model that does as clip_model"),
        ({"consensus_captions": "x.json"}, "consensus_captions with by='probability'"),
        ({"clip_model": "x", "by": "consensus", "beams": 2}, "clip_model with by='consensus'"),
        ({"bye": "clip"}, "no option 'bye' here; did you mean by"),
    ],
)
def test_what_cannot_be_is_said_before_any_picture_is_read(pipeline, settings, said):
    with pytest.raises(ConfigError, match=said):
        pipeline.results(["nowhere.png"], **settings)


def test_a_captioner_cannot_compare_images_with_texts(pipeline, tmp_path):
    folder = pipeline.save(tmp_path / "captioner")
    with pytest.raises(ConfigError, match="images and texts are compared by joint models"):
        ranker_of("clip", clip_model=folder)


def test_any_ranker_may_choose(pipeline, photos, every):
    class Longest:
        transform = None

        def __call__(self, texts, seen, own):
            return torch.tensor([[float(len(text)) for text in image] for image in texts])

    found = Pipeline(pipeline.bundle).caption(photos[:5], best_of=6, by=Longest(), **DRAWN)
    assert [one.score for one in found] == [max(map(len, drawn)) for drawn in every]
