"""Captions of pictures: equal whatever the batch, in order, errors at their places."""

import itertools
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import mmattn
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.pipeline import Pipeline

METHODS = {
    "greedy": {},
    "beams": {"beams": 4, "returned": 3},
    "groups": {"beams": 4, "groups": 2, "diversity": 0.5, "returned": 2},
    "samples": {"sample": True, "samples": 4, "returned": 2, "seed": 3, "top_p": 0.95},
    "required": {"beams": 4, "required": ("cat",), "no_repeat_ngram": 2},
    "rules": {"min_length": 3, "forbidden": ("two",), "bad_endings": ("gr",), "prefix": "an old"},
}


class Near(float):
    """A score that equals another one but for rounding, which differs with the rows of a batch."""

    def __eq__(self, other):
        return abs(self - other) < 1e-4

    __hash__ = None


def told(captions):
    """All that captions say, their others too."""
    return [
        [(c.text, c.ids, c.words, c.tokens, Near(c.score)) for c in (one, *one.others)]
        for one in captions
    ]


def test_a_caption_says_what_the_decoder_writes(pipeline, photos):
    search = BeamSearch(beams=4, returned=2)
    tokenizer = pipeline.tokenizer
    pixels = torch.stack([pipeline.transform(torch.from_numpy(p).permute(2, 0, 1)) for p in photos])
    with torch.no_grad():
        image = pipeline.model.encode(pixels)
        decoded = search(pipeline.model, image, Limits(tokenizer.begin_id, tokenizer.end_id, 12))
    captions = pipeline.caption(photos, batch_size=12, beams=4, returned=2)
    for b, caption in enumerate(captions):
        for n, one in enumerate((caption, *caption.others)):
            row = decoded.tokens[b, n].tolist()
            ids = tokenizer.until_end(row)
            assert one.ids == tuple(ids)
            assert one.text == tokenizer.decode(row)
            assert one.words == tuple(one.text.split())
            assert one.score == pytest.approx(float(decoded.scores[b, n]))
            ended = len(ids) < decoded.tokens.shape[-1] and row[len(ids)] == tokenizer.end_id
            assert len(one.log_probs) == len(ids) + ended
            assert sum(one.log_probs) == pytest.approx(float(decoded.log_probs[b, n].sum()))
    assert len({caption.text for caption in captions}) > 3  # they do say different things
    assert len({len(caption.ids) for caption in captions}) > 3


@pytest.mark.parametrize("method", METHODS)
def test_results_are_the_same_for_every_batch_size_and_number_of_threads(pipeline, photos, method):
    wanted = told(pipeline.caption(photos, batch_size=12, **METHODS[method]))
    for batch_size, threads in [(1, 1), (2, 3), (5, 2), (100, 1)]:
        settings = {"batch_size": batch_size, "threads": threads}
        assert told(pipeline.caption(photos, **settings, **METHODS[method])) == wanted
    assert len(wanted[0]) == METHODS[method].get("returned", 1)


def test_what_is_drawn_depends_on_seed_and_place_alone(pipeline, photos):
    wanted = told(pipeline.caption(photos, sample=True, seed=1))
    assert told(pipeline.caption(photos, sample=True, seed=1)) == wanted
    assert told(pipeline.caption(photos, sample=True, seed=2)) != wanted
    same = told(pipeline.caption([photos[0]] * 8, sample=True))
    assert len({one[0][0] for one in same}) > 2
    bad = ["nowhere.png", *photos[1:]]  # one that cannot be read has its place, too
    rest = [one for one in pipeline.results(bad, sample=True, seed=1) if isinstance(one, Caption)]
    assert told(rest) == wanted[1:]


def test_all_routes_of_a_picture_give_the_same_caption(pipeline, folder, photos, monkeypatch):
    monkeypatch.chdir(folder)
    array = photos[0]
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    with Image.open("photo 0.png") as opened:
        routes = ["photo 0.png", folder / "photo 0.png", "*0.png", opened, array, array / 255]
        routes += [tensor, tensor / 255, tensor[None], [array], (one for one in [tensor])]
        found = told(pipeline.caption(routes))
    assert found == [found[0]] * len(routes)
    names = [c.name for c in pipeline.caption(".")]
    assert names == ["deep/er/photo 1.png", "deep/er/photo 3.png", "deep/er/photo 5.png"] + [
        f"photo {i}.png" for i in (0, 2, 4)
    ]


def test_one_picture_is_a_list_of_one_caption(pipeline, photos):
    (caption,) = pipeline.caption(photos[0])
    assert (caption.name, caption.attention, caption.others) == ("image-0", None, ())
    assert pipeline.caption([]) == []


def test_captions_are_json(pipeline, photos):
    for caption in pipeline.caption(photos, beams=3, returned=3):
        assert json.loads(json.dumps(caption.to_dict(), allow_nan=False)) == caption.to_dict()


def test_a_stream_gives_what_a_list_gives(pipeline, photos):
    assert told(pipeline.stream(photos, beams=2)) == told(pipeline.caption(photos, beams=2))


def test_errors_are_at_their_places(pipeline, folder, photos):
    (folder / "bad.png").write_bytes(b"<html>")
    given = [photos[0], "nowhere.png", photos[1], folder / "bad.png", photos[2][..., :2], photos[3]]
    found = list(pipeline.results(given, batch_size=2))
    assert [isinstance(one, Unreadable) for one in found] == [0, 1, 0, 1, 1, 0]
    assert [one.name for one in found] == [
        *("image-0", "nowhere.png", "image-2", f"{folder}/bad.png", "image-4", "image-5")
    ]
    assert "is not an image" in str(found[3].error)
    stream = pipeline.stream(given, batch_size=1)
    assert next(stream).name == "image-0"
    with pytest.raises(DataError, match=r"^nowhere.png cannot be read"):
        next(stream)
    with pytest.raises(DataError, match=r"^nowhere.png cannot be read"):
        pipeline.caption(given)


def reading():
    return [t for t in threading.enumerate() if t.name.startswith("mmattn-picture")]


def test_a_stream_that_is_left_early_reads_little_and_leaves_no_thread(pipeline, photos):
    asked = itertools.count()
    endless = ((next(asked), photos[0])[1] for _ in itertools.count())
    stream = pipeline.stream(endless, batch_size=2, threads=2)
    next(stream)
    assert next(asked) <= 12
    stream.close()
    until = time.monotonic() + 5
    while reading() and time.monotonic() < until:
        time.sleep(0.01)
    assert not reading()


def test_an_iterator_that_fails_loses_nothing_before_it(pipeline, photos):
    def camera():
        yield from photos[:3]
        raise OSError("the camera is gone")

    stream = pipeline.stream(camera(), batch_size=2)
    seen = [next(stream) for _ in range(3)]
    with pytest.raises(OSError, match="the camera is gone"):
        next(stream)
    assert told(seen) == told(pipeline.caption(photos[:3]))


@pytest.mark.parametrize("call", ["caption", "stream", "results"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beam": 4}, "no decoding option 'beam'; did you mean beams"),
        ({"batchsize": 4}, "no option 'batchsize' here; did you mean batch_size"),
        ({"zzz": 4}, "no decoding option 'zzz'; known: beams"),
        ({"beams": 0}, "beams=0: give a whole number of at least 1"),
        ({"beams": 4, "sample": True}, "sample=True with beams=4"),
        ({"top_p": 0.5}, "top_p=0.5 with sample=False"),
        ({"returned": 2}, "returned=2 with beams=1"),
        ({"required": ("cat",)}, "required=.* with beams=1"),
        ({"max_length": 13}, "max_length=13, but this model's texts have at most 12 tokens"),
        ({"prefix": "a cat sleeps on a mat " * 4}, "max_length=12: a caption must be longer"),
        ({"batch_size": 0}, "batch_size=0, threads=2: give 1 or more"),
        ({"threads": 0}, "batch_size=8, threads=0"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_read(pipeline, call, options, said):
    def never():
        raise AssertionError
        yield

    with pytest.raises(ConfigError, match=said):
        getattr(pipeline, call)(never(), **options)


def test_a_word_that_the_vocabulary_lacks_is_refused(make_captioner):
    words = ["<pad>", "<s>", "</s>", "a", "cat", "[UNK]"]
    backend = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    pipeline = Pipeline(make_captioner(tokenizer=CaptionTokenizer(backend)))
    for options in ({"forbidden": ("dog",)}, {"bad_endings": ("dog",)}, {"prefix": "a dog"}):
        with pytest.raises(DataError, match="dog': the tokenizer has no tokens for it"):
            pipeline.results([], **options)
    with pytest.raises(DataError, match="'dog': the tokenizer has no tokens for it"):
        pipeline.results([], beams=4, required=("cat", "dog"))


def test_the_limit_of_pixels_is_configurable(pipeline, folder, photos):
    path = folder / "photo 0.png"
    with pytest.raises(DataError, match="24 x 16 = 384 pixels; the limit is 383"):
        pipeline.caption(path, max_pixels=383)
    assert pipeline.caption(path, max_pixels=384)
    (found,) = pipeline.results(path, max_pixels=383)
    assert "the limit is 383" in str(found.error)


def test_a_model_has_its_own_way_to_write(make_captioner, photos):
    pipeline = Pipeline(make_captioner(beams=3, returned=2, length_penalty=2.0))
    assert told(pipeline.caption(photos)) == told(
        Pipeline(make_captioner()).caption(photos, beams=3, returned=2, length_penalty=2.0)
    )
    assert len(pipeline.caption(photos[0], beams=1, returned=1)[0].others) == 0


def test_a_model_that_does_not_resize_says_so_of_other_pictures(make_captioner, photos):
    plain = Preprocessing((16, 24), None, None, "bilinear", (0.5,) * 3, (0.25,) * 3)
    pipeline = Pipeline(make_captioner(preprocessing=plain))
    found = list(pipeline.results(photos[:3]))
    assert [type(one) for one in found] == [Caption, Unreadable, Unreadable]


def test_half_precision_writes_captions_or_says_that_it_cannot(make_captioner, photos):
    pipeline = Pipeline(make_captioner()).to(dtype=torch.bfloat16)
    assert pipeline.dtype == torch.bfloat16
    assert all(np.isfinite(c.log_probs).all() for c in pipeline.caption(photos, attention=True))
    with torch.no_grad():
        pipeline.model.bridge = torch.nn.Linear(16, 16, dtype=torch.bfloat16)
        pipeline.model.bridge.weight.fill_(float("inf"))
    with pytest.raises(ConfigError, match="is beyond bfloat16: load it with dtype='bfloat16' or"):
        pipeline.caption(photos)


def test_it_shows_what_it_is(pipeline):
    total = sum(p.numel() for p in pipeline.model.parameters())
    assert repr(pipeline) == f"Pipeline('', {total:,} parameters, float32 on cpu)"


def test_it_is_saved_and_loaded_again(pipeline, photos, tmp_path):
    again = mmattn.load(pipeline.save(tmp_path / "model"))
    assert told(again.caption(photos, beams=3)) == told(pipeline.caption(photos, beams=3))


def test_it_is_pushed_to_the_hub_as_a_model_folder(pipeline, monkeypatch):
    pushed = []

    def push(folder, repo_id, **settings):
        pushed.append((sorted(p.name for p in folder.iterdir()), repo_id, settings))
        return "address"

    monkeypatch.setattr("mmattn.model_folder.hub.push_to_hub", push)
    assert pipeline.push_to_hub("me/owl", private=True) == "address"
    ((names, repo_id, settings),) = pushed
    assert {"model.safetensors", "manifest.json"} <= set(names)
    assert (repo_id, settings) == ("me/owl", {"private": True})


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_is_shown_on_a_terminal_where_work_is_long(
    pipeline, photos, monkeypatch, capsys, terminal
):
    monkeypatch.setattr("rich.console.Console.is_terminal", terminal)
    assert len(pipeline.caption(photos, batch_size=4)) == 12
    assert ("captioning" in capsys.readouterr().err) is terminal
    assert len(pipeline.caption(photos[:4], batch_size=4)) == 4
    assert capsys.readouterr().err == ""
    pipeline.caption(photos[:1], progress=True)
    assert "captioning" in capsys.readouterr().err
    pipeline.caption(photos, batch_size=4, progress=False)
    assert capsys.readouterr().err == ""
