"""`mmattn score` as its users call it: files in, scores of coco-caption out."""

import gzip
import json
import shutil

import pytest

from mmattn.cli import score
from mmattn.metrics import coco_package, score_captions

REFERENCES = {
    "a.jpg": ["A dog runs on the grass.", "A brown dog is running."],
    "b.jpg": ["Two cats sleep on a red sofa.", "Cats sleeping on a couch."],
    "c.jpg": ["A man rides a horse.", "A man on a horse."],
    "d.jpg": ["A red car.", "A car on a street."],
}
GOOD = ["a dog runs on the grass", "two cats on a couch", "a man rides a horse", "a red car"]
BAD = ["a cat", "two cats on a couch", "a dog", ""]
TITLES = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "words a caption"]


def results(captions):
    pairs = zip(REFERENCES, captions, strict=True)
    return "".join(json.dumps({"image": f"photos/{k}", "caption": c}) + "\n" for k, c in pairs)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with references and the captions of two models."""
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{k}#{i}\t{c}\n" for k, captions in REFERENCES.items() for i, c in enumerate(captions)
    ]
    (tmp_path / "token.txt").write_text("".join(lines))
    (tmp_path / "good.jsonl").write_text(results(GOOD))
    (tmp_path / "bad.jsonl").write_text(results(BAD))
    return tmp_path


@pytest.fixture
def scored(call_command, folder):
    """Calls the command for the good model, or another; returns code, stdout, stderr."""

    def called(*options, predictions="good.jsonl", references="token.txt"):
        files = ["--references", references, "--predictions", predictions]
        return call_command(score, *files, *options)

    return called


@pytest.fixture
def as_json(scored):
    """Calls the command with --json; returns what it printed."""

    def called(*options, **files):
        code, out, err = scored("--json", *options, **files)
        assert code == 0, err
        return json.loads(out)

    return called


def test_the_table_has_the_scores_with_intervals(scored):
    code, out, err = scored("--bootstrap", 50)
    assert (code, err) == (0, "")
    head, _, columns, *rows = out.splitlines()
    assert head == "4 images of token.txt, 2 references each"
    assert columns.split() == ["score", "95", "%", "interval"]
    expected = score_captions(list(REFERENCES.values()), GOOD)
    for title, row, value in zip(TITLES, rows, expected.values(), strict=False):
        assert row.startswith(title)
        assert row.removeprefix(title).split()[0] == f"{value:.4f}"
    assert [row.split("  ")[0] for row in rows[:7]] == TITLES
    assert "(intervals: 50 bootstrap samples of the images, seed 0)" in rows
    assert rows[-1] == "note: good.jsonl: images known by the names of their files: 4"


def test_json_is_all_that_is_printed(as_json):
    found = as_json("--bootstrap", 50, "--seed", 3)
    expected = score_captions(list(REFERENCES.values()), GOOD)
    assert {k: found["scores"][k]["score"] for k in expected} == pytest.approx(expected)
    assert all(one["low"] <= one["score"] <= one["high"] for one in found["scores"].values())
    assert found["bootstrap"] == {"samples": 50, "shuffles": 10000, "seed": 3, "level": 0.95}
    assert found["lengths"]["histogram"] == {"3": 1, "5": 2, "6": 1}
    assert found == as_json("--bootstrap", 50, "--seed", 3)


def test_two_models_are_compared(as_json, scored):
    found = as_json("--against", "bad.jsonl", "--bootstrap", 20, "--shuffles", 200)
    expected = [score_captions(list(REFERENCES.values()), each)["CIDEr"] for each in (GOOD, BAD)]
    difference = found["differences"]["CIDEr"]
    assert difference["difference"] == pytest.approx(expected[0] - expected[1])
    assert difference["low"] <= difference["difference"] <= difference["high"]
    # Three of four captions differ: a quarter of all shuffles is as extreme.
    assert difference["p_value"] == pytest.approx(1 / 4, abs=0.1)
    code, out, _ = scored("--against", "bad.jsonl", "--bootstrap", 20, "--shuffles", 200)
    assert code == 0
    assert "(p: approximate randomisation, 200 shuffles, two-sided)" in out
    assert "note: bad.jsonl: empty predictions, which score 0: 1 ('photos/d.jpg')" in out


def test_no_samples_are_no_intervals_and_no_shuffles_no_tests(as_json, scored):
    against = ("--against", "bad.jsonl")
    found = as_json(*against, "--bootstrap", 0, "--shuffles", 9)
    assert set(found["scores"]["CIDEr"]) == {"score"}
    assert set(found["differences"]["CIDEr"]) == {"difference", "p_value"}
    found = as_json(*against, "--bootstrap", 9, "--shuffles", 0)
    assert set(found["differences"]["CIDEr"]) == {"difference", "low", "high"}
    _, out, _ = scored(*against, "--bootstrap", 0, "--shuffles", 0)
    assert out.splitlines()[2].split() == ["good.jsonl", "bad.jsonl", "difference"]
    assert "shuffles" not in out


def test_what_has_no_score_has_no_p_value(scored, folder):
    (folder / "objects.txt").write_text("zebra\n")  # which nobody names
    _, out, _ = scored("--against", "bad.jsonl", "--objects", "objects.txt", "--bootstrap", 9)
    line = next(line for line in out.splitlines() if line.startswith("CHAIR_i"))
    assert line.split()[-1] == "–"
    assert "nan" not in out


def test_what_makes_scores_zero_is_said(as_json, folder):
    (folder / "one.jsonl").write_text('{"image": "a.jpg", "captions": ["", "."]}\n')
    (folder / "said.jsonl").write_text('{"image": "a.jpg", "caption": "a dog"}\n')
    found = as_json(references="one.jsonl", predictions="said.jsonl")
    assert found["notes"] == [
        "references without a word, against which all score 0: 1 ('a.jpg')",
        "CIDEr-D of one image is 0: words count by how few of the images have them",
    ]


def test_numbers_that_are_texts_elsewhere_are_pointed_at(scored, folder):
    (folder / "said.json").write_text('[{"image_id": 1, "caption": "a dog"}]')
    (folder / "people.json").write_text('[{"image": "1", "captions": ["a dog"]}]')
    code, _, err = scored(references="people.json", predictions="said.json")
    assert code == 2
    assert err.endswith("names or numbers must be the same (numbers here are texts there)\n")


def test_only_captions_of_training_are_known(as_json, folder):
    images = [("x.jpg", "train", "a red car"), ("y.jpg", "test", "a man rides a horse")]
    images += [("z.jpg", "test", "two cats on a couch")]
    content = [
        {"filename": name, "split": split, "sentences": [{"raw": text}]}
        for name, split, text in images
    ]
    (folder / "k.json").write_text(json.dumps({"images": content}))
    known = ("--training", "k.json")
    assert as_json(*known)["scores"]["novel"]["score"] == 3 / 4
    assert as_json(*known, "--training-split", "test")["scores"]["novel"]["score"] == 2 / 4
    (folder / "list.txt").write_text("x.jpg\ny.jpg\nz.jpg\n")
    assert as_json(*known, "--training-split", "list.txt")["scores"]["novel"]["score"] == 1 / 4


def test_a_page_has_no_path_of_this_machine(scored, folder):
    (folder / "few.jsonl").write_text("".join(results(GOOD).splitlines(True)[1:]))
    options = ("--missing", "skip", "--html", folder / "page.html")
    files = {"references": folder / "token.txt", "predictions": folder / "few.jsonl"}
    assert scored(*options, **files)[0] == 0
    page = (folder / "page.html").read_text("utf-8")
    assert "left out: token.txt and few.jsonl are not of the same images" in page
    assert str(folder) not in page


def test_what_is_written_to_a_link_stays_behind_it(scored, folder):
    (folder / "link").symlink_to("target.html")
    assert scored("--html", "link")[0] == 0
    assert (folder / "link").is_symlink()
    assert "<html" in (folder / "target.html").read_text("utf-8")


def test_objects_new_captions_and_single_scores(as_json, folder):
    (folder / "objects.txt").write_text("dog, puppy\ncat\nhorse\nman\ncar\n")
    (folder / "train.jsonl").write_text('{"image": "z.jpg", "captions": ["A red car!", "a dog"]}\n')
    options = [
        "--objects",
        "objects.txt",
        "--training",
        "train.jsonl",
        "--per-image",
        "x/one.jsonl",
    ]
    found = as_json(*options, predictions="bad.jsonl")
    assert found["scores"]["CHAIR_i"]["score"] == pytest.approx(2 / 3)
    assert found["scores"]["CHAIR_s"]["score"] == 1 / 2
    assert found["scores"]["novel"]["score"] == 3 / 4
    rows = [json.loads(line) for line in (folder / "x" / "one.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == list(REFERENCES)
    assert rows[0]["references"] == REFERENCES["a.jpg"]
    assert (rows[0]["objects"], rows[0]["made_up"]) == (["cat"], ["cat"])
    assert "CHAIR_i" not in rows[0]["scores"]
    mean = sum(row["scores"]["CIDEr"] for row in rows) / 4
    assert mean == pytest.approx(found["scores"]["CIDEr"]["score"])


def test_several_captions_of_an_image_are_scored_by_the_first(as_json, folder):
    lines = [json.loads(line) for line in results(GOOD).splitlines()]
    lines[0]["others"] = [{"caption": "something else over there"}]
    (folder / "many.json").write_text(json.dumps(lines))
    found, first = as_json(predictions="many.json"), as_json()
    assert found["scores"]["CIDEr"] == first["scores"]["CIDEr"]
    assert found["scores"]["self_CIDEr"]["score"] == pytest.approx(1, abs=1e-6)
    assert "many.json: of several captions of an image the first is scored" in found["notes"]


def test_images_that_are_missing_are_named_or_skipped(scored, as_json, folder):
    lines = results(GOOD).splitlines()
    lines[1] = '{"image": "photos/b.jpg", "error": "no image"}'
    (folder / "few.jsonl").write_text("\n".join([*lines, '{"image": "e.jpg", "caption": "x"}']))
    code, out, err = scored(predictions="few.jsonl")
    assert (code, out) == (2, "")
    assert err == (
        "error: token.txt and few.jsonl are not of the same images; references and no prediction: "
        "1 ('b.jpg'), a prediction and no references: 1 ('e.jpg'); \"error\" in place of a "
        "caption: 1 (photos/b.jpg): give --missing skip to score the others (3)\n"
    )
    found = as_json("--missing", "skip", predictions="few.jsonl")
    assert found["images"] == 3
    assert found["notes"][0].startswith("left out: token.txt and few.jsonl are not of the same")
    references = [v for k, v in REFERENCES.items() if k != "b.jpg"]
    expected = score_captions(references, [GOOD[0], *GOOD[2:]])
    assert found["scores"]["CIDEr"]["score"] == pytest.approx(expected["CIDEr"])


def test_the_images_of_a_list_are_scored(as_json, folder):
    (folder / "test.txt").write_text("a.jpg\nc.jpg\n")
    (folder / "few.jsonl").write_text("".join(results(GOOD).splitlines(True)[::2]))
    assert as_json("--split", "test.txt", predictions="few.jsonl")["images"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "x"], "no split and no file is called x; token.txt names no splits"),
        (["--bootstrap", "1"], "--bootstrap 1: give 2 to 1,000,000, or 0 for none"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
        (["--images", "."], "--images is for --clip MODEL or --html FILE: give one of them, too"),
        (
            ["--attention", "."],
            "--attention is shown on the page of --html FILE: give it, too",
        ),
        (["--html", "p.html", "--images", "x"], "--images x is no folder: check the path"),
        (["--html", "."], "--html . is a folder: give a file, such as page.html"),
        (
            ["--per-image", "./good.jsonl"],
            "--per-image good.jsonl is the file of --predictions: give another file",
        ),
        (
            ["--training", "bad.jsonl", "--html", "bad.jsonl"],
            "--html bad.jsonl is the file of --training: give another file",
        ),
        (
            ["--per-image", "new", "--html", "new"],
            "--html new is the file of --per-image: give another file",
        ),
        (["--training-split", "x"], "--training-split is of --training FILE: give it, too"),
        (["--against", "none.jsonl"], "none.jsonl is not a file. Check the name."),
        (["--objects", "empty"], "empty is empty (0 bytes). Copy or download it again."),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(scored, folder, options, message):
    (folder / "empty").touch()
    before = sorted(folder.rglob("*"))
    code, out, err = scored(*options)
    assert (code, out, err) == (2, "", f"error: {message}\n")
    assert sorted(folder.rglob("*")) == before


def test_programs_that_are_missing_are_named_and_left_out(scored, monkeypatch):
    monkeypatch.setattr(coco_package, "PACKAGE", "no_such_package_of_metrics")
    code, out, err = scored("--meteor", "--spice", "--json", "--bootstrap", 0)
    missing = (
        "the package no_such_package_of_metrics is not installed (the extra `coco`: pip install "
        "'mmattn[coco]')"
    )
    # The name in the message is bound where it is imported.
    missing = missing.replace("no_such_package_of_metrics", "pycocoevalcap")
    assert (code, err) == (0, f"no METEOR: {missing}\nno SPICE: {missing}\n")
    assert json.loads(out)["skipped"] == {"METEOR": missing, "SPICE": missing}


def test_a_program_that_fails_costs_only_its_own_score(scored, monkeypatch, tmp_path):
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    program.chmod(0o755)
    jar = tmp_path / "meteor-1.5.jar"
    jar.touch()
    monkeypatch.setattr("mmattn.metrics.meteor.find_jar", lambda: jar)
    monkeypatch.setattr(shutil, "which", lambda _: str(program))
    code, out, err = scored("--meteor", "--json", "--bootstrap", 0)
    assert code == 3
    assert err == "no METEOR: METEOR ended early, with code 1: no memory\n"
    assert json.loads(out)["failed"] == {"METEOR": "METEOR ended early, with code 1: no memory"}


def test_a_published_system_has_its_published_scores(call_command, data_root, tmp_path):
    """The captions of COCO's test images of one system, and what coco-caption makes of them."""
    folder = data_root / "coco-eval"
    with gzip.open(folder / "mscoco_magic_result.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    said = [{"image_id": i, "captions": row["captions"]} for i, row in enumerate(rows)]
    predicted = [{"image_id": i, "caption": row["prediction"]} for i, row in enumerate(rows)]
    (tmp_path / "said.json").write_text(json.dumps(said))
    (tmp_path / "predicted.json").write_text(json.dumps(predicted))
    files = ["--references", tmp_path / "said.json", "--predictions", tmp_path / "predicted.json"]
    code, out, err = call_command(score, *files, "--json")
    assert (code, err) == (0, "")
    expected = json.loads((folder / "expected.json").read_text("utf-8"))
    found = {name: one["score"] for name, one in json.loads(out)["scores"].items()}
    assert [found[f"BLEU_{n}"] for n in range(1, 5)] == pytest.approx(expected["BLEU"], abs=1e-9)
    assert found["ROUGE_L"] == pytest.approx(expected["ROUGE_L"], abs=1e-9)
    assert found["CIDEr"] == pytest.approx(expected["CIDEr"], abs=1e-9)


def test_a_page_with_photos_and_attention_of_the_caption_command(call, photos, model):
    """What `mmattn caption --attention` wrote is on the page: its strip, and a link to its page."""
    options = ["--attention-format", "html", "--attention-format", "png", "--batch-size", "4"]
    code, _, err = call("caption", "photos", "--model", model, "--out", "c.jsonl", "--attention",
                        "maps", *options)  # fmt: skip
    assert code == 0, err
    names = [f"{i}.png" for i in range(8)]
    lines = [json.dumps({"image": name, "caption": "a dog runs"}) for name in names]
    (photos.parent / "said.jsonl").write_text("\n".join(lines))
    files = ["--references", "said.jsonl", "--predictions", "c.jsonl", "--html", "p/page.html"]
    code, _, err = call("score", *files, "--images", "photos", "--attention", "maps")
    assert code == 0, err
    page = (photos.parent / "p" / "page.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [row["image"] for row in data["rows"]] == names
    for row in data["rows"]:
        assert row["photo"].startswith("data:image/")
        assert row["strip"].startswith("data:image/jpeg;base64,")
        assert (photos.parent / "p" / row["link"]).is_file()
    assert data["rows"][3]["link"] == "../maps/photos/deep/3.png.html"
