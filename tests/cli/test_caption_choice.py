"""`mmattn caption --best-of N --by …` and several --model as typed are what Python says."""

import json

import pytest

import mmattn
from mmattn.model_folder.format import write_folder

TYPED = ("--sample", "--best-of", 5, "--seed", 2, "--max-length", 8)
KNOWN = ("--known-captions", "x", "--known-images", ".")
OPTIONS = {"sample": True, "best_of": 5, "seed": 2, "max_length": 8}


@pytest.fixture
def caption(call, model, photos):
    return lambda *typed: call("caption", "photos", *typed, "--model", model, "--device", "cpu")


def said(out):
    return [json.loads(line)["caption"] for line in out.splitlines()]


def test_the_consensus_of_what_was_drawn_is_written(caption, model, photos):
    known = photos.parent / "known.txt"
    known.write_text("1.jpg#0\ta dog runs\n1.jpg#1\ttwo dogs\n2.jpg#0\ta cat\n")
    code, out, _ = caption(*TYPED, "--by", "consensus", "--consensus-captions", known)
    assert code == 0
    settings = {"by": "consensus", "consensus_captions": known}
    wanted = mmattn.load(model).caption("photos", **settings, **OPTIONS)
    assert said(out) == [one.text for one in wanted]


def test_what_fits_the_image_is_written_with_its_maps(caption, model, joint, photos):
    code, out, _ = caption(*TYPED, "--by", "clip", "--clip-model", joint, "--attention", "maps")
    assert code == 0
    wanted = mmattn.load(model).caption("photos", by="clip", clip_model=joint, **OPTIONS)
    assert said(out) == [one.text for one in wanted]
    assert len(list((photos.parent / "maps").rglob("*.html"))) == 8


def test_what_people_said_of_similar_pictures_is_asked(caption, model, photos, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(photos.parent / "cache"))
    names = sorted(path.name for path in photos.iterdir())
    known = photos.parent / "known.txt"
    loaded = mmattn.load(model)
    plain = loaded.caption("photos", **OPTIONS)
    texts = zip(names, (one.text for one in plain), strict=False)  # words that the model says
    known.write_text("".join(f"{name}#0\t{text or 'a'}\n" for name, text in texts))
    listed = photos.parent / "train.txt"
    listed.write_text("\n".join(names[:3]))
    ask = ("--by", "neighbours", "--known-captions", known, "--known-images", photos)
    code, out, _ = caption(*TYPED, *ask, "--known-split", listed, "--neighbours", 2)
    assert code == 0
    by = loaded.neighbours(known, photos, split=str(listed), top=2)
    found = loaded.caption("photos", by=by, **OPTIONS)
    assert said(out) == [one.text for one in found]
    scores = [json.loads(line)["score"] for line in out.splitlines()]
    assert scores == pytest.approx([one.score for one in found], abs=1e-5)
    assert scores != [one.score for one in plain]
    assert len(list((photos.parent / "cache").rglob("*.features.index"))) == 1


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        (("--by", "clip", *TYPED), "--by clip compares images with captions: give --clip-model"),
        (("--clip-model", "x", *TYPED), "--clip-model is of --by clip"),
        (("--consensus-captions", "x", *TYPED), "--consensus-captions is of --by consensus"),
        (("--by", "consensus"), "chooses among several captions, and one is written"),
        (
            ("--best-of", 20),
            "--best-of 20 with --beams 1: greedy decoding writes one caption; add --sample, or",
        ),
        (
            ("--by", "consensus", "--consensus-captions", "nowhere.json", *TYPED),
            "nowhere.json",
        ),
        (("--by", "neighbours", *TYPED), "give --known-captions, a file of captions, and"),
        (("--known-split", "train", *TYPED), "--known-split is of --by neighbours"),
        (("--neighbours", 3, *TYPED), "--neighbours is of --by neighbours"),
        (("--by", "neighbours", *KNOWN, "--neighbours", 0), "--neighbours 0: give 1 or more"),
        (
            ("--by", "neighbours", *KNOWN, *TYPED),
            "x is not a file",
        ),
        (
            ("--by", "neighbours", *KNOWN),
            "--by neighbours chooses among several captions",
        ),
        (("--by", "chance"), "invalid choice: 'chance'"),
    ],
)
def test_a_mistake_is_one_line(caption, typed, wrong):
    code, out, err = caption(*typed)
    assert (code, out) == (2, "")
    assert wrong in err


def test_several_models_write_together(call, make_captioner, model, photos, tmp_path):
    other = write_folder(make_captioner(seed=1), tmp_path / "other")
    typed = ("--model", model, "--model", other, "--device", "cpu", "--beams", 3)
    code, out, _ = call("caption", "photos", *typed)
    assert code == 0
    assert said(out) == [one.text for one in mmattn.load([model, other]).caption("photos", beams=3)]


def test_models_that_do_not_go_together_are_said(call, model, classifier, photos):
    code, out, err = call("caption", "photos", "--model", model, "--model", classifier)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "an ensemble is of captioners or of classifiers" in err
