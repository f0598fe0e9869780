"""What people said of similar pictures ranks captions as a plain loop over all pairs does."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.backbones import TimmPatches
from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import ConfigError, DataError
from mmattn.metrics import tokenize
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.pipeline.captioner_ensemble import CaptionerEnsemble
from mmattn.pipeline.embedder import FeatureEmbedder
from mmattn.pipeline.neighbours import FeatureSpace
from mmattn.pipeline.pipeline import Pipeline

SAID = [
    ["a dog runs over the grass", "a dog"],
    ["a cat sleeps on a mat"],
    ["two dogs and a cat", "dogs", "the dogs and the cat"],
    ["a red ball"],
    ["the ball's on the grass", "an old man's ball"],
]
BEAMS = {"beams": 6, "returned": 6, "max_length": 8}


@pytest.fixture
def known(photos, tmp_path):
    """Five pictures, and a file of what people said of them."""
    folder = tmp_path / "known"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(photos[i]).save(folder / f"{i}.png")
    return folder, write(tmp_path / "known.jsonl", range(5))


def write(file, numbers):
    rows = [{"image": f"{i}.png", "captions": SAID[i]} for i in numbers]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def texts_of(caption):
    return [one.text for one in (caption, *caption.others)]


def standardised(vectors):
    """The known vectors and how others are compared with them, in NumPy."""
    mean, deviation = vectors.mean(0), vectors.std(0)

    def compared(x):
        x = (x - mean) / deviation
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    return compared


@pytest.mark.parametrize("top", [1, 3])
def test_captions_are_ranked_as_a_loop_over_all_pairs_does(pipeline, photos, known, top):
    folder, file = known
    spoken = pipeline.caption(photos[:5], beams=3, returned=3, max_length=8)  # words that it knows
    rows = [{"image": f"{i}.png", "captions": texts_of(one)} for i, one in enumerate(spoken)]
    file.write_text("\n".join(map(json.dumps, rows)))
    every = pipeline.caption(photos[5:9], **BEAMS)
    ranker = pipeline.neighbours(file, folder, top=top)
    found = pipeline.caption(photos[5:9], best_of=6, by=ranker, batch_size=3, **BEAMS)
    vectors = pipeline.embed(photos[:9]).numpy()
    compared = standardised(vectors[:5])
    frequencies = DocumentFrequencies.of([[tokenize(t) for t in texts_of(o)] for o in spoken])
    for i, (caption, before) in enumerate(zip(found, every, strict=True), 5):
        similarity = compared(vectors[:5]) @ compared(vectors[i])
        nearest = np.argsort(-similarity)[:top]
        weights = np.exp(10 * similarity[nearest]) / np.exp(10 * similarity[nearest]).sum()
        own = {one.text: one.score for one in (before, *before.others)}
        wanted = dict(own)
        for text in own:
            for j, weight in zip(nearest, weights, strict=True):
                for said in texts_of(spoken[j]):
                    scorer = CiderScorer([[tokenize(said)]], frequencies)
                    agreed = scorer([0], [tokenize(text)])[0]
                    wanted[text] += weight * agreed / len(texts_of(spoken[j]))
        assert sorted(texts_of(caption)) == sorted(texts_of(before))
        scores = [one.score for one in (caption, *caption.others)]
        assert scores == pytest.approx([wanted[t] for t in texts_of(caption)], abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert scores != sorted(own.values(), reverse=True)


def test_a_known_picture_does_not_judge_itself(pipeline, photos, known):
    folder, file = known
    ranker = pipeline.neighbours(file, folder, top=2)
    seen = [ranker.transform(torch.from_numpy(photo).permute(2, 0, 1)) for photo in photos[:6]]
    places = [of for of, _ in ranker.neighbours(seen)]
    assert [len(of) for of in places] == [2] * 6
    assert all(i not in of for i, of in enumerate(places))
    alone = pipeline.neighbours(write(file, [0]), folder)
    (caption,) = pipeline.caption(photos[0], beams=3, by=alone)
    (plain,) = pipeline.caption(photos[0], beams=3)
    assert (caption.text, caption.score) == (plain.text, plain.score)  # nobody is asked


def test_an_index_remembers_what_was_seen(pipeline, photos, known, tmp_path, make_captioner):
    folder, file = known
    index = tmp_path / "known.index"
    plain = pipeline.neighbours(file, folder)
    first = pipeline.neighbours(file, folder, index=index)
    made = index.stat().st_mtime_ns
    again = pipeline.neighbours(write(file, [3, 1]), folder, index=index)
    torch.testing.assert_close(first.vectors, plain.vectors)
    torch.testing.assert_close(
        again.vectors, pipeline.neighbours(file, folder).vectors
    )  # in the order of the file
    assert index.stat().st_mtime_ns == made
    with pytest.raises(ConfigError, match="another model made this index"):
        Pipeline(make_captioner(seed=1)).neighbours(file, folder, index=index)


def test_only_training_is_asked_where_the_captions_say_what_that_is(pipeline, known, tmp_path):
    folder, file = known
    splits = ("train", "val", "test", "restval", "train")
    images = [
        {"filename": f"{i}.png", "sentences": [{"raw": t} for t in SAID[i]], "split": split}
        for i, split in enumerate(splits)
    ]
    file = tmp_path / "karpathy.json"
    file.write_text(json.dumps({"images": images}))
    assert len(pipeline.neighbours(file, folder).words) == 3
    assert len(pipeline.neighbours(file, folder, split="test").words) == 1
    listed = tmp_path / "list.txt"
    listed.write_text("1.png\n2.png\n")
    assert len(pipeline.neighbours(file, folder, split=str(listed)).words) == 2
    file.write_text(json.dumps({"images": images[1:3]}))
    with pytest.raises(ConfigError, match="captions of validation and test alone"):
        pipeline.neighbours(file, folder)


def test_an_ensemble_asks_by_what_its_first_member_sees(make_captioner, pipeline, photos, known):
    members = [pipeline, Pipeline(make_captioner(seed=5))]
    together = CaptionerEnsemble(members)
    ranker = together.neighbours(*reversed(known), top=2)
    torch.testing.assert_close(ranker.vectors, pipeline.neighbours(*reversed(known), top=2).vectors)
    (every,) = together.caption(photos[7], beams=4, returned=4)
    own = torch.tensor([[one.score for one in (every, *every.others)]])
    seen = [ranker.transform(torch.from_numpy(photos[7]).permute(2, 0, 1))]
    (caption,) = together.caption(photos[7], beams=4, by=ranker)
    assert caption.score == pytest.approx(float(ranker([texts_of(every)], seen, own).max()))


@pytest.mark.parametrize("index", [None, "known.index"])
def test_what_is_missing_or_broken_is_said(pipeline, known, tmp_path, index):
    folder, file = known
    index = index and tmp_path / index
    (folder / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2\.png"):
        pipeline.neighbours(file, folder, index=index)
    (folder / "2.png").unlink()
    with pytest.raises(DataError, match=r"pictures that are not in .*known: 1 \('2\.png'\)"):
        pipeline.neighbours(file, folder, index=index)


def test_one_picture_is_that_of_one_image(pipeline, known):
    folder, file = known
    rows = [{"image": f"{place}/0.png", "captions": ["a dog"]} for place in ("a", "b")]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"0\.png may be the photo of 'a/0\.png' and of 'b/0\.png'"):
        pipeline.neighbours(file, folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"top": 0}, "top=0: ask 1 neighbour or more"),
        ({"split": "train"}, "no split and no file is called train"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_what_cannot_be_is_refused(pipeline, known, settings, said):
    with pytest.raises(ConfigError, match=said):
        pipeline.neighbours(*reversed(known), **settings)


def test_a_backbone_is_asked_before_what_the_captioner_makes_of_it(make_captioner):
    torch.manual_seed(0)
    model = make_captioner().model
    model.vision.patches = TimmPatches("test_resnet", 16, (64, 64), level=[1, -1], level_norm=True)
    preprocessing = Preprocessing((64, 64), (64, 64), None, "bilinear", (0.5,) * 3, (0.25,) * 3)
    embedder = FeatureEmbedder(model.eval(), preprocessing)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        wanted = model.vision.patches.features(images).flatten(2).mean(-1)
    torch.testing.assert_close(embedder.vectors(list(images)), wanted)
    assert embedder.width == wanted.shape[1]


def test_numbers_that_tell_nothing_apart_count_for_nothing():
    vectors = torch.randn(6, 4)
    vectors[:, 1] = 0.1  # whose mean is not quite it
    space = FeatureSpace(vectors)
    other = torch.randn(2, 4)
    changed = other.clone()
    changed[:, 1] += 100
    torch.testing.assert_close(space(other), space(changed))
    torch.testing.assert_close(space(other).norm(dim=-1), torch.ones(2))
    assert not FeatureSpace(vectors[:1])(vectors).any()
