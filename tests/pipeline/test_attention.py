"""The attention that comes with a caption is that of a pass over what it says."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import ConfigError
from mmattn.maps.archive import load_attention
from mmattn.maps.geometry import Placement
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pooling import AttentionPooler
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer

METHODS = {
    "greedy": {},
    "beams": {"beams": 4, "returned": 3},
    "groups": {"beams": 4, "groups": 2, "diversity": 0.5, "returned": 4},
    "samples": {"sample": True, "samples": 4, "returned": 3},
    "required": {"beams": 4, "required": ("cat",), "returned": 2},
    "rules": {"min_length": 3, "repetition_penalty": 1.3, "no_repeat_ngram": 2, "prefix": "an old"},
}


@pytest.fixture(scope="module")
def pooled(make_captioner):
    """A captioner whose decoder attends to five tokens that are of no place."""
    return Pipeline(make_captioner(pooler=AttentionPooler(5, 16, 2, 16)))


def pixels_of(pipeline, photo):
    return pipeline.transform(torch.from_numpy(photo).permute(2, 0, 1))[None]


@torch.no_grad()
def forced(pipeline, photo, ids, patterns=("text.*.cross",)) -> Recorder:
    """Record a pass over the begin token and all ids but the last."""
    recorder = Recorder(patterns)
    tokens = torch.tensor([[[pipeline.tokenizer.begin_id, *ids[:-1]]]])
    pipeline.model(pixels_of(pipeline, photo), tokens, recorder)
    return recorder


def every(captions):
    """Each caption and its others, with the place of their picture."""
    return [(b, c) for b, caption in enumerate(captions) for c in (caption, *caption.others)]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_of_a_pass_over_the_caption(pipeline, photos, method, batch_size):
    captions = pipeline.caption(
        photos[:6], attention=True, batch_size=batch_size, **METHODS[method]
    )
    checked = 0
    for b, caption in every(captions):
        found = caption.attention.cross
        assert found.names == ("text.0.cross", "text.1.cross")
        assert found.weights.shape == (2, 2, len(caption.ids), 25)
        if caption.ids:
            wanted = forced(pipeline, photos[b], caption.ids).stack("text.*.cross")[:, 0].numpy()
            np.testing.assert_allclose(found.weights, wanted, atol=1e-5, rtol=0)
            checked += 1
    assert checked > 4
    assert len(every(captions)) == 6 * METHODS[method].get("returned", 1)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_pooled_tokens_go_back_to_the_patches(pooled, photos, method):
    captions = pooled.caption(photos[:5], attention=True, batch_size=2, **METHODS[method])
    for b, caption in every(captions):
        if not caption.ids:
            continue
        recorder = forced(pooled, photos[b], caption.ids, ("text.*.cross", "vision.pool"))
        pool = recorder.maps["vision.pool"][0]  # [heads, queries, tokens]
        to_queries = recorder.stack("text.*.cross")[:, 0]
        assert to_queries.shape[-1] == 5
        by_hand = np.zeros((*to_queries.shape[:3], 25))
        for query in range(5):
            share = (pool[0, query] + pool[1, query]).numpy() / 2
            by_hand += to_queries[..., query, None].numpy() * share
        np.testing.assert_allclose(caption.attention.cross.weights, by_hand, atol=1e-5, rtol=0)
        np.testing.assert_allclose(caption.attention.cross.weights.sum(-1), 1, atol=1e-5)


def test_looking_changes_nothing(pipeline, pooled, photos):
    for model in (pipeline, pooled):
        plain = model.caption(photos, beams=3, returned=2)
        heard = model.caption(photos, beams=3, returned=2, attention=True)
        assert [c.to_dict() for c in plain] == [c.to_dict() for c in heard]
        assert all(c.attention is None for c in plain)


@pytest.mark.parametrize(
    ("layers", "heads", "kept", "of_heads"),
    [
        (None, None, [0, 1], [0, 1]),
        ([-1], None, [1], [0, 1]),
        (0, 1, [0], [1]),
        ([1, 0, -2], [-1], [0, 1], [1]),
        ((1,), (1, 0), [1], [1, 0]),
    ],
)
def test_only_what_is_chosen_is_kept_first_layer_first(
    pipeline, photos, layers, heads, kept, of_heads
):
    choice = AttentionChoice(layers, heads)
    whole = pipeline.caption(photos[0], attention=True)[0].attention
    caption = pipeline.caption(photos[0], attention=choice)[0]
    found = caption.attention
    assert found.cross.names == tuple(f"text.{i}.cross" for i in kept)
    wanted = whole.cross.weights[kept][:, of_heads]
    assert np.array_equal(found.cross.weights, wanted)
    assert found.methods[0].title == f"cross-attention, text.{kept[-1]}.cross, mean over heads"
    last = wanted[-1].mean(0)[:, 1:].reshape(-1, 4, 6)  # one register comes before the patches
    np.testing.assert_allclose(found.methods[0].maps, last, atol=1e-7)
    words = [last[list(word.tokens)].mean(0) for word in found.words]
    np.testing.assert_allclose(caption.maps, np.array(words).reshape(-1, 4, 6), atol=1e-6)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (AttentionChoice(layers=[2]), "layer 2 does not exist: there are 2, numbered 0 to 1"),
        (AttentionChoice(layers=-3), "layer -3 does not exist"),
        (AttentionChoice(heads=[0, 2]), "each layer of the decoder has 2 heads: 2 is not one"),
        (AttentionChoice(layers=[]), "give one number at least, or None for all"),
        (AttentionChoice(heads=()), "give one number at least"),
    ],
)
def test_layers_and_heads_that_do_not_exist_are_refused_before_any_work(pipeline, choice, said):
    with pytest.raises(ConfigError, match=said):
        pipeline.results(None, attention=choice)


def test_layers_are_those_that_attend_to_the_image(make_captioner, photos):
    """Of a decoder with blocks of its own between them, as CoCa's."""
    bundle = make_captioner()
    options = bundle.model.text.settings() | {"depth": 3, "layout": ["self", "both", "cross"]}
    text = TextTransformer(**options | {"block": bundle.model.text.block_options})
    bundle.model = Captioner(bundle.model.vision, text)
    pipeline = Pipeline(bundle)
    for layers, names in [(None, (1, 2)), ([0], (1,)), ([-1], (2,))]:
        caption = pipeline.caption(photos[0], attention=AttentionChoice(layers), min_length=2)[0]
        assert caption.attention.cross.names == tuple(f"text.{i}.cross" for i in names)
        recorder = forced(pipeline, photos[0], caption.ids)
        wanted = [recorder.maps[name][0].numpy() for name in caption.attention.cross.names]
        np.testing.assert_allclose(caption.attention.cross.weights, wanted, atol=1e-5)


def test_a_record_has_the_picture_and_what_the_network_saw_of_it(make_captioner, photos, tmp_path):
    """A picture of which only one patch differs: the map lies where the transform put it."""
    crop = Preprocessing((16, 24), 16, (16, 24), "bilinear", (0.5,) * 3, (0.25,) * 3, "down")
    pipeline = Pipeline(make_captioner(preprocessing=crop))
    image = Image.fromarray(photos[0]).resize((100, 40))
    image.save(tmp_path / "owl.png")
    caption = pipeline.caption(tmp_path / "owl.png", attention=True, min_length=2)[0]
    record = caption.attention
    assert (record.key, record.caption) == (caption.name, caption.text)
    assert np.array_equal(record.image, np.asarray(image))
    # 40 x 100 pixels become 16 x 40, of which columns 8 to 32 are seen: 20 to 80 of the original.
    assert record.placement == Placement((40, 100), (0.0, 20.0, 40.0, 80.0))
    assert (record.grid, record.prefix) == ((4, 6), 1)
    assert [word.text for word in record.words] == list(caption.words)
    assert record.tokens == caption.tokens
    assert caption.save(tmp_path / "owl.npz").is_file()
    assert load_attention(tmp_path / "owl.npz").placement == record.placement


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 700)])
def test_pictures_of_any_shape_can_be_shown(pipeline, size, tmp_path):
    picture = np.full((*size, 3), 90, np.uint8)
    caption = pipeline.caption(picture, attention=True, min_length=2)[0]
    for suffix in ("html", "png", "npz"):
        assert caption.save(tmp_path / f"it.{suffix}").stat().st_size > 100


def test_a_record_keeps_no_more_than_its_own(pipeline, photos):
    """Not the weights of its whole batch, of which it would be a view."""
    for caption in pipeline.caption(photos, attention=True):
        weights = caption.attention.cross.weights
        assert weights.flags.owndata
        assert caption.attention.image.nbytes <= 512 * 512 * 3


@pytest.fixture(scope="module")
def silent(make_captioner):
    """A captioner that has nothing to say."""
    return Pipeline(make_captioner(end=100.0))


@pytest.mark.parametrize("method", ["greedy", "beams", "samples"])
def test_captions_without_a_token_work_as_others(silent, photos, method, tmp_path):
    options = {"greedy": {}, "beams": {"beams": 2}, "samples": {"sample": True}}[method]
    for number, caption in enumerate(silent.caption(photos[:3], attention=True, **options)):
        assert (caption.text, caption.ids, caption.words, caption.tokens) == ("", (), (), ())
        assert len(caption.log_probs) == 1
        assert caption.maps.shape == (0, 4, 6)
        assert caption.attention.cross.weights.shape == (2, 2, 0, 25)
        for suffix in ("html", "png", "npz", "json"):
            assert caption.save(tmp_path / f"{number}.{suffix}").stat().st_size > 100
        assert load_attention(tmp_path / f"{number}.npz").caption == ""
        assert "<figcaption></figcaption>" in caption._repr_html_()


def test_tokens_that_say_nothing_keep_their_own_attention(make_captioner, photos):
    """A model that writes its begin token first: no row is lost or shifted."""
    pipeline = Pipeline(make_captioner())
    begin = pipeline.tokenizer.begin_id
    with torch.no_grad():
        pipeline.model.text.head_bias[begin] = 7.5
    captions = pipeline.caption(photos, attention=True, beams=2)
    first = [(b, c) for b, c in enumerate(captions) if c.ids[:1] == (begin,) and len(c.ids) > 2]
    assert first
    for b, caption in first:
        assert len(caption.tokens) == len(caption.ids)
        assert caption.tokens[0] == ""
        wanted = forced(pipeline, photos[b], caption.ids).stack("text.*.cross")[:, 0]
        np.testing.assert_allclose(caption.attention.cross.weights, wanted, atol=1e-5)
        assert all(0 not in word.tokens for word in caption.attention.words)


def test_half_precision_records_float32(make_captioner, photos):
    pipeline = Pipeline(make_captioner()).to(dtype=torch.bfloat16)
    caption = pipeline.caption(photos[0], attention=True)[0]
    assert caption.attention.cross.weights.dtype == np.float32
