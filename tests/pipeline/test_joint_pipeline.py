"""A joint model's calls give what the model itself gives, and what cannot be is one line."""

import pytest
import torch
from torch.nn import functional as F

import mmattn
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.embedder import ImageEmbedder
from mmattn.pipeline.joint_pipeline import JointPipeline
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pipeline.retrieval import Index

TEXTS = ["a dog runs", "a cat sleeps on a mat", "two dogs and a cat", "a red ball"]


@pytest.fixture(scope="session")
def joint(make_joint):
    return JointPipeline(make_joint())


@pytest.fixture(scope="session")
def plain(make_joint):
    """A joint model without a fusion."""
    return JointPipeline(make_joint(fusion=False))


@pytest.fixture
def seen(monkeypatch):
    """How many pictures each batch had that was embedded."""
    counts, vectors = [], ImageEmbedder.vectors

    def count(self, images):
        counts.append(len(images))
        return vectors(self, images)

    monkeypatch.setattr(ImageEmbedder, "vectors", count)
    return counts


def pixels_of(joint, photo):
    return joint.transform(torch.from_numpy(photo).permute(2, 0, 1))[None]


@torch.no_grad()
def by_hand(joint, text):
    """The model's own parts on one text: the begin token, then the text's, and no end token."""
    ids = [joint.tokenizer.begin_id, *joint.tokenizer.encode(text)]
    tokens, valid = torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool)
    return joint.joint.read(tokens, valid), valid


# ---- embeddings


@torch.no_grad()
def test_an_embedding_is_what_the_models_parts_give(joint, photos):
    (image,) = joint.embed(photos[0])
    wanted = joint.joint.image_projection(
        joint.joint.vision(pixels_of(joint, photos[0])).tokens[:, 1:].mean(1)
    )
    torch.testing.assert_close(image, F.normalize(wanted, dim=-1)[0])
    (text,) = joint.embed(texts=TEXTS[1])
    hidden, _ = by_hand(joint, TEXTS[1])
    wanted = F.normalize(joint.joint.text_projection(hidden.mean(1)), dim=-1)
    torch.testing.assert_close(text, wanted[0])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_and_threads_change_nothing(joint, photos, batch_size, threads):
    texts = [TEXTS[i % 4] + " on a mat" * (i % 3) for i in range(11)]
    settings = {"batch_size": batch_size, "threads": threads, "truncate": True}
    images, read = joint.embed(photos, texts, **settings)
    alone = torch.cat([joint.embed([photo]) for photo in photos])
    torch.testing.assert_close(images, alone, atol=1e-5, rtol=0)
    alone = torch.cat([joint.embed(texts=text, truncate=True) for text in texts])
    torch.testing.assert_close(read, alone, atol=1e-5, rtol=0)
    for found in (images, read):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    assert images.std(0).max() > 0.05  # pictures matter
    assert read.std(0).max() > 0.05


def test_embeddings_of_nothing_are_none_of_them(joint):
    assert joint.embed([]).shape == joint.embed(texts=[]).shape == (0, 8)


def test_a_captioners_vector_is_the_mean_of_its_patches(pipeline, photos):
    found = pipeline.embed(photos, batch_size=5)
    assert found.shape == (12, 16)
    with torch.no_grad():
        wanted = pipeline.model.vision(pixels_of(pipeline, photos[3])).tokens[0, 1:].mean(0)
    torch.testing.assert_close(found[3], wanted)


def test_it_captions_as_the_captioner_in_it(joint, make_captioner, photos):
    wanted = Pipeline(make_captioner()).caption(photos[:4], beams=3)
    found = joint.caption(photos[:4], beams=3, attention=True)
    assert [one.text for one in found] == [one.text for one in wanted]
    assert found[0].maps.shape[0] == len(found[0].words)


# ---- matching and classes


@torch.no_grad()
def test_a_match_is_the_probability_that_the_models_fusion_gives(joint, photos):
    found = joint.match(photos[:3], TEXTS[:3], batch_size=2)
    for photo, text, value in zip(photos, TEXTS, found, strict=False):
        hidden, valid = by_hand(joint, text)
        image = joint.joint.vision(pixels_of(joint, photo))
        scores = joint.joint.match(image, torch.zeros(1, dtype=torch.long), hidden, valid)
        torch.testing.assert_close(value, scores.softmax(-1)[0, 1], atol=1e-6, rtol=1e-5)
    assert joint.match(photos[0], TEXTS).shape == (4,)
    torch.testing.assert_close(joint.match(photos[0], TEXTS)[0], found[0], atol=1e-6, rtol=1e-5)
    assert joint.match(photos[:3], TEXTS[0]).shape == (3,)
    assert found.std() > 1e-4


def test_classes_are_a_softmax_of_similarities(joint, photos):
    labels, templates = ["dog", "cat", "red ball"], ["a {}", "two {}s"]
    found = joint.classify(photos[:5], labels, templates=templates, top=2, batch_size=2)
    weights = torch.stack(
        [joint.embed(texts=[t.format(name) for t in templates]).mean(0) for name in labels]
    )
    with torch.no_grad():
        scores = joint.joint.scale * joint.embed(photos[:5]) @ F.normalize(weights, dim=-1).T
    for one, row in zip(found, scores.softmax(-1), strict=True):
        order = row.argsort(descending=True)[:2].tolist()
        assert [each.label for each in one.top] == [labels[i] for i in order]
        assert [each.probability for each in one.top] == pytest.approx(
            row[order].tolist(), abs=1e-5
        )
    assert (found[0].images, found[0].text) == (("image-0",), None)
    assert found[0].to_dict().keys() == {"image", "label", "probability", "top"}
    assert len({one.probability for one in found}) == 5


# ---- finding


def test_every_text_finds_what_is_most_similar_to_it(joint, folder):
    found = joint.retrieve(TEXTS, folder, top=3)
    names = [one.name for one in mmattn.pipeline.pictures.pictures(folder)]
    similar = joint.embed(texts=TEXTS) @ joint.embed(folder).T
    for one, text, row in zip(found, TEXTS, similar, strict=True):
        order = row.argsort(descending=True)[:3].tolist()
        assert one.names == tuple(names[i] for i in order)
        assert [hit.similarity for hit in one.hits] == pytest.approx(row[order].tolist(), abs=1e-6)
        assert (one.text, one.image, one.kind) == (text, None, "image")
    line = found[0].to_dict()
    assert line["text"] == TEXTS[0]
    assert [each["image"] for each in line["found"]] == list(found[0].names)
    assert line["found"][0].keys() == {"image", "similarity"}


def test_an_image_finds_itself_and_texts(joint, folder):
    names = [one.name for one in mmattn.pipeline.pictures.pictures(folder)]
    (found,) = joint.retrieve(images=names[4], among=folder, top=1)
    assert (found.image, found.text, found.names) == (names[4], None, (names[4],))
    assert found.hits[0].similarity == pytest.approx(1)
    (found,) = joint.retrieve(images=names[4], among=joint.index(texts=TEXTS), top=9)
    assert sorted(found.names) == sorted(TEXTS)
    assert found.to_dict()["found"][0].keys() == {"text", "similarity"}


def test_the_best_are_sorted_by_whether_they_belong(joint, photos):
    index = joint.index(photos)
    (plain,) = joint.retrieve(TEXTS[0], index, top=12)
    (found,) = joint.retrieve(TEXTS[0], index, top=6, rerank=4)
    matches = joint.match(photos, TEXTS[0])
    first = sorted(plain.hits[:4], key=lambda hit: -matches[hit.place])
    assert found.names == (*(hit.name for hit in first), *plain.names[4:6])
    said = [hit.match for hit in found.hits]
    assert said[:4] == pytest.approx([float(matches[hit.place]) for hit in first], abs=1e-6)
    assert said[4:] == [None, None]
    (deep,) = joint.retrieve(TEXTS[0], index, top=1, rerank=12)  # deeper than what is wanted
    assert deep.hits[0].place == int(matches.argmax())


def test_texts_are_sorted_by_whether_they_belong_to_an_image(joint, photos):
    (found,) = joint.retrieve(images=[photos[2]], among=joint.index(texts=TEXTS), rerank=4)
    matches = joint.match(photos[2], TEXTS)
    assert found.names[0] == TEXTS[int(matches.argmax())]


def test_an_index_on_disk_is_computed_once(joint, folder, tmp_path, seen):
    place = tmp_path / "photos.index"
    wanted = joint.retrieve(TEXTS, folder, top=6)
    seen.clear()
    index = joint.index(folder, file=place)
    assert sum(seen) == 6
    assert joint.index(folder, file=place).vectors.equal(index.vectors)
    assert sum(seen) == 6
    assert [one.names for one in joint.retrieve(TEXTS, index, top=6)] == [
        one.names for one in wanted
    ]
    (found,) = joint.retrieve(TEXTS[0], index, rerank=3, top=1)  # looks at the files again
    assert found.hits[0].match is not None


# ---- what cannot be


def retrieving(**settings):
    return lambda joint, photos: joint.retrieve(TEXTS[0], photos, **settings)


MISTAKES = {
    "nothing": (lambda j, p: j.embed(), "nothing to embed: give images, texts, or both"),
    "batch": (lambda j, p: j.embed(p, batch_size=0), "batch_size=0, threads=2: give 1 or more"),
    "no text": (lambda j, p: j.embed(texts=[3]), r"texts\[0\] is 3: give a text"),
    "pairs": (lambda j, p: j.match(p, TEXTS), "12 images and 4 texts: give as many of both"),
    "no label": (lambda j, p: j.classify(p, []), "0 names and 1 templates"),
    "twice": (lambda j, p: j.classify(p, ["a", "b", "a"]), "the label 'a' is given twice"),
    "no place": (lambda j, p: j.classify(p, ["a"], templates=["b"]), "'b' has no {}"),
    "top": (lambda j, p: j.classify(p, ["a"], top=0), "top=0: give 1 or more"),
    "no top": (retrieving(top=0), "top=0, rerank=0: give 1 or more, and 0 or more"),
    "rerank": (retrieving(rerank=-1), "top=5, rerank=-1"),
    "no query": (lambda j, p: j.retrieve(among=p), "give texts to look for, or images=…"),
    "both": (lambda j, p: j.retrieve(TEXTS, p, images=p), "give texts to look for, or images=…"),
    "nowhere": (lambda j, p: j.retrieve(TEXTS), "nothing to search: give images, or an index"),
    "empty": (lambda j, p: j.retrieve(TEXTS, []), "the index is empty"),
    "of one kind": (
        lambda j, p: j.retrieve(images=p, among=p, rerank=2),
        "an image with a text, and here images are looked for among images",
    ),
    "kinds": (lambda j, p: j.index(p, texts=TEXTS), "of images, or of texts: give one"),
    "on disk": (lambda j, p: j.index(p, file="x.index"), "an index on disk is of files"),
    "texts on disk": (lambda j, p: j.index(texts="a", file="x"), "an index on disk is of images"),
    "width": (
        lambda j, p: j.retrieve(TEXTS, Index("text", ["a"], torch.ones(1, 3))),
        "vectors of 3 numbers, and this model makes 8: another model made it",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line(joint, photos, case):
    call, said = MISTAKES[case]
    with pytest.raises(ConfigError, match=said) as caught:
        call(joint, photos)
    assert "\n" not in str(caught.value)


def test_a_text_that_is_too_long_is_named_or_cut(joint):
    long = "a dog runs " * 9
    with pytest.raises(DataError, match=r"texts\[1\]: the text has \d+ tokens, and this model re"):
        joint.embed(texts=["a dog", long])
    cut = joint.embed(texts=[long, "a dog"], truncate=True)
    ids = joint.tokenizer.encode(long)[:11]
    assert joint.tokenizer.encode(joint.tokenizer.decode(ids)) == ids
    wanted = joint.embed(texts=joint.tokenizer.decode(ids))
    torch.testing.assert_close(cut[:1], wanted, atol=1e-5, rtol=0)


def test_a_picture_that_cannot_be_read_is_named(joint, folder):
    (folder / "bad.png").write_bytes(b"spoilt")
    for call in (joint.embed, lambda f: joint.retrieve("a dog", f)):
        with pytest.raises(DataError, match=r"bad\.png is not an image"):
            call(folder)
    place = folder.parent / "photos.index"
    with pytest.raises(DataError, match=r"bad\.png is not an image"):
        joint.index(folder, file=place)
    (folder / "bad.png").unlink()
    assert len(joint.index(folder, file=place)) == 6


def test_without_a_fusion_nothing_matches(plain, photos):
    for call in (
        lambda: plain.match(photos, "a dog"),
        lambda: plain.retrieve("a dog", photos, rerank=1),
    ):
        with pytest.raises(ConfigError, match="no fusion, and so cannot tell whether an image"):
            call()
    assert len(plain.retrieve("a dog", photos)[0].hits) == 5


def test_labels_that_have_no_embedding_are_said(make_joint, photos):
    broken = JointPipeline(make_joint())
    with torch.no_grad():
        broken.joint.text_projection.weight.fill_(torch.inf)
    with pytest.raises(ConfigError, match="what the model computes is beyond float32"):
        broken.classify(photos[:1], ["dog", "cat"])


def test_load_gives_what_a_model_is(joint, make_captioner, tmp_path):
    joint.save(tmp_path / "joint")
    found = mmattn.load(tmp_path / "joint")
    assert isinstance(found, JointPipeline)
    assert found.embed(texts=TEXTS).equal(joint.embed(texts=TEXTS))
    assert found.fingerprint == joint.fingerprint
    assert found.to(dtype=torch.bfloat16).fingerprint != joint.fingerprint
    Pipeline(make_captioner()).save(tmp_path / "captioner")
    captioner = mmattn.load(tmp_path / "captioner")
    with pytest.raises(ConfigError, match="is a captioner, which has"):
        captioner.classify("a.png")
    with pytest.raises(ConfigError, match="no joint model: load a Pipeline"):
        JointPipeline(make_captioner())


def test_half_precision_gives_vectors_of_length_one(make_joint, photos):
    half = JointPipeline(make_joint()).to(dtype=torch.bfloat16)
    images, texts = half.embed(photos, TEXTS)
    for found in (images, texts):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)), atol=0.01, rtol=0)
    assert half.classify(photos[:2], ["dog", "cat"])[0].probability <= 1
    assert half.match(photos[:2], "a dog").shape == (2,)
