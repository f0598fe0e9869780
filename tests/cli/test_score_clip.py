"""`mmattn score --clip MODEL --images FOLDER` prints what `mmattn.clip_scores` returns."""

import json

import numpy as np
import pytest

import mmattn
from mmattn.pipeline import pictures

NAMES = [f"{'deep/' if i == 3 else ''}{i}.png" for i in range(4)]
REFERENCES = [["a dog runs", "the dog"], ["two cats"], ["a red ball", "a ball", "red"], ["a cat"]]
GOOD = ["a dog", "two cats", "a red ball", "a cat sleeps"]
OTHER = ["a ball", "a dog", "", "two dogs"]


def lines(field, values):
    rows = zip(NAMES, values, strict=True)
    return "\n".join(json.dumps({"image": name, field: value}) for name, value in rows)


@pytest.fixture
def score(call, photos, joint):
    """Calls the command in a folder with photos, references and the captions of two models."""
    folder = photos.parent
    (folder / "said.jsonl").write_text(lines("captions", REFERENCES))
    (folder / "good.jsonl").write_text(lines("caption", GOOD))
    (folder / "other.jsonl").write_text(lines("caption", OTHER))

    def called(*options, model=joint, images="photos"):
        files = ["--references", "said.jsonl", "--predictions", "good.jsonl"]
        clip = ["--clip", model, "--images", images, "--device", "cpu"]
        return call("score", *files, *clip, *options)

    return called


def test_all_results_have_the_scores_of_each_model(score, joint, photos, monkeypatch):
    read, before = [], pictures.read_image

    def counted(path, **options):
        read.append(path.name)
        return before(path, **options)

    monkeypatch.setattr(pictures, "read_image", counted)
    options = ("--against", "other.jsonl", "--per-image", "one.jsonl", "--html", "page.html")
    code, out, err = score("--json", "--bootstrap", 50, *options)
    assert (code, err) == (0, "")
    assert sorted(read) == ["0.png", "1.png", "2.png", "3.png"]  # once for both models
    found, paths = json.loads(out), [photos / name for name in NAMES]
    assert found["clip"] == str(joint)
    assert (
        "other.jsonl: empty predictions, which score 0 but for CLIPScore: 1 ('2.png')"
        in (found["notes"])
    )
    rows = [json.loads(line) for line in (photos.parent / "one.jsonl").read_text().splitlines()]
    page = (photos.parent / "page.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert str(joint.parent) not in page
    model = mmattn.load_clip(joint)
    for captions, told, parts in (
        (GOOD, found["scores"], rows),
        (OTHER, found["against"]["scores"], [row["against"] for row in rows]),
    ):
        wanted = mmattn.clip_scores(model, paths, captions, REFERENCES)
        for name, values in {"CLIPScore": wanted.clip, "RefCLIPScore": wanted.ref_clip}.items():
            assert [row["scores"][name] for row in parts] == pytest.approx(values, abs=1e-6)
            assert told[name]["score"] == pytest.approx(np.mean(values), abs=1e-6)
            assert told[name]["low"] <= told[name]["score"] <= told[name]["high"]
    for name in ("CLIPScore", "RefCLIPScore"):
        difference = found["scores"][name]["score"] - found["against"]["scores"][name]["score"]
        assert found["differences"][name]["difference"] == pytest.approx(difference)
        assert 0 < found["differences"][name]["p_value"] <= 1
        column = {"name": name, "title": name, "worst": "low", "first": False}
        assert column in data["columns"]
    assert [row["scores"] for row in data["rows"]] == [row["scores"] for row in rows]


def test_the_table_says_whose_scores_they_are(score, joint, photos):
    code, out, _ = score("--bootstrap", 0)
    assert code == 0
    wanted = mmattn.clip_scores(mmattn.load_clip(joint), [photos / n for n in NAMES], GOOD)
    (row,) = [line for line in out.splitlines() if line.startswith("CLIPScore ")]
    assert row.split() == ["CLIPScore", f"{wanted.clip.mean():.4f}"]
    assert f"(CLIPScore, RefCLIPScore: of the model {joint.name}; others' differ)" in out


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (
            lambda folder: [(folder / "photos" / f"{i}.png").unlink() for i in (1, 2)],
            "predictions whose photo is not in photos: 2 ('1.png', '2.png'): check the folder",
        ),
        (
            lambda folder: (folder / "photos" / "2.png").write_bytes(b"no image"),
            "photos/2.png is not an image, or its header is damaged",
        ),
    ],
)
def test_a_photo_that_is_missing_or_unreadable_is_one_line(score, photos, break_it, said):
    break_it(photos.parent)
    code, out, err = score("--per-image", "one.jsonl")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {said}")
    assert not (photos.parent / "one.jsonl").exists()


def test_another_kind_of_model_is_one_line(score, model):
    code, out, err = score(model=model)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "images and texts are compared by joint models" in err


def test_a_model_of_an_extra_that_is_missing_is_one_line(score, tmp_path, monkeypatch):
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "open_clip_config.json").write_text("{}")
    monkeypatch.setattr("mmattn.interop.open_clip.clip.find_spec", lambda name: None)
    code, out, err = score(model="vit")
    assert (code, out) == (2, "")
    assert err == (
        "error: vit is a model of open_clip, which is not installed: pip install mmattn[clip]\n"
    )


def test_a_model_without_photos_is_one_line(call, photos):
    (photos.parent / "x").write_text("")
    code, out, err = call("score", "--references", "x", "--predictions", "x", "--clip", "m")
    assert (code, out) == (2, "")
    assert err == (
        "error: --clip compares captions with photos: give their folder, --images FOLDER\n"
    )
