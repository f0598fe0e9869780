"""`mmattn classify` as typed: a line for every input, once, whatever happens in between."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import mmattn
from mmattn.cli import jsonl_job
from mmattn.cli.jsonl import write_line
from mmattn.data.labelled.classes import Classes
from mmattn.maps.decision_archive import load_decision
from mmattn.model_folder.format import write_folder
from mmattn.pipeline.labeller import Labeller

ALL = [f"photos/{i}.png" for i in (0, 1, 2, 4, 5, 6)] + ["photos/deep/3.png", "photos/deep/7.png"]
ASKED = ("photos", "--text", "is it red?")


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def in_file(path="out.jsonl"):
    content = Path(path).read_text()
    assert content.endswith("\n")
    return lines(content)


def names(found):
    return [line["image"] for line in found]


@pytest.fixture(scope="session")
def folders(make_classifier, classifier, tmp_path_factory):
    """The folders of small classifiers, by what they read."""
    place = tmp_path_factory.mktemp("small")
    several = {"a": Classes("single", ("x", "y")), "b": Classes("multi", ("p", "q", "r"))}
    words = {"entity": Classes("words", ("O", "person"))}
    return {
        "both": classifier,
        "image": write_folder(make_classifier(text=False, classes=several), place / "image"),
        "text": write_folder(make_classifier(vision=False), place / "text"),
        "words": write_folder(make_classifier(vision=False, classes=words), place / "words"),
        "two": write_folder(make_classifier(images=2), place / "two"),
    }


@pytest.fixture
def classify(call, folders, photos):
    """Classify with a small model in a folder with photos/."""

    def run(*typed, of="both"):
        return call("classify", *typed, "--model", folders[of], "--device", "cpu")

    run.folders = folders
    return run


@pytest.fixture(scope="session")
def dropping(folders, make_classifier, tmp_path_factory):
    """The name of a model with dropout."""
    place = tmp_path_factory.mktemp("small") / "dropping"
    folders["dropping"] = write_folder(make_classifier(seed=1, dropout=0.3), place)
    return "dropping"


@pytest.fixture
def wanted(folders, photos):
    """What Python says of all photos."""
    found = mmattn.load(folders["both"]).classify("photos", "is it red?")
    return [one.to_dict() for one in found]


@pytest.fixture
def computed(monkeypatch):
    """The names of the inputs that a model has classified."""
    seen, classifications = [], Labeller.classifications

    def count(self, asked):
        seen.extend(one.question.name for one in asked)
        return classifications(self, asked)

    monkeypatch.setattr(Labeller, "classifications", count)
    return seen


def alike(found, wanted):
    """Compare lines; numbers may differ by rounding."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        assert [one.get("image"), one.get("text")] == [other.get("image"), other.get("text")]
        assert one["label"] == other["label"]
        probabilities = [each["probability"] for each in other["top"]]
        assert [each["probability"] for each in one["top"]] == pytest.approx(
            probabilities, abs=1e-5
        )


# ---- lines


def test_stdout_has_a_line_for_every_input_as_python_says_it(classify, wanted):
    code, out, err = classify(*ASKED)
    assert code == 0
    alike(lines(out), wanted)
    assert names(lines(out)) == ALL
    assert err.startswith("8 inputs; ")
    assert err.endswith(" inputs/s\n")


def test_a_file_has_the_same_lines(classify, wanted):
    code, out, _ = classify(*ASKED, "--out", "new/out.jsonl", "--batch-size", 3, "--threads", 3)
    assert (code, out) == (0, "")
    alike(in_file("new/out.jsonl"), wanted)


@pytest.mark.fault("F32")
def test_texts_alone_come_from_a_file_or_stdin(classify, monkeypatch):
    Path("texts.txt").write_text("is it red?\n\nis it a dog?\nis it red?\n")
    code, out, _ = classify("--texts", "texts.txt", of="text")
    assert code == 0
    found = lines(out)
    assert [line["text"] for line in found] == ["is it red?", "is it a dog?"]  # each once
    assert "image" not in found[0]
    with Path("texts.txt").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert lines(classify("--texts", "-", of="text")[1]) == found
    assert lines(classify("--text", "is it red?", of="text")[1])[0]["label"] == found[0]["label"]


@pytest.mark.fault("F32")
def test_images_of_stdin_are_asked_one_text(classify, monkeypatch):
    with Path("list").open("w+") as file:
        file.write("photos/1.png\nnowhere.png\nphotos/1.png\n")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        code, out, _ = classify("-", "--text", "is it red?")
    assert code == 3
    found = lines(out)
    assert names(found) == ["photos/1.png", "nowhere.png"]
    assert found[1].keys() == {"image", "text", "error"}


def test_jsonl_gives_pairs(classify):
    pairs = [("photos/1.png", "is it red?"), ("photos/2.png", "is it a dog?")]
    text = "".join(json.dumps({"image": image, "text": text}) + "\n" for image, text in pairs)
    Path("pairs.jsonl").write_text(text)
    code, out, _ = classify("--texts", "pairs.jsonl")
    assert code == 0
    assert [(line["image"], line["text"]) for line in lines(out)] == pairs


def test_a_model_of_two_images_takes_them_from_jsonl(classify):
    pair = {"image": ["photos/1.png", "photos/2.png"], "text": "is it red?"}
    Path("pairs.jsonl").write_text(json.dumps(pair) + "\n")
    code, out, _ = classify("--texts", "pairs.jsonl", "--out", "out.jsonl", of="two")
    assert (code, out) == (0, "")
    assert in_file()[0]["image"] == pair["image"]
    code, _, err = classify("--texts", "pairs.jsonl", "--out", "out.jsonl", of="two")
    assert (code, err) == (0, "1 input; 1 done before\n")


def test_heads_and_the_number_of_their_classes_are_chosen(classify):
    (line,) = lines(classify("photos/1.png", "--top", 2, of="image")[1])
    assert line.keys() == {"image", "heads"}
    assert [len(head["top"]) for head in line["heads"].values()] == [2, 2]
    (line,) = lines(classify("photos/1.png", "--head", "b", of="image")[1])
    assert line.keys() == {"image", "label", "labels", "probability", "top"}


def test_every_word_has_its_label_and_is_done_once(classify):
    typed = ("--text", "a dog sleeps", "--out", "out.jsonl")
    assert classify(*typed, of="words")[0] == 0
    (line,) = in_file()
    assert line["text"] == ["a", "dog", "sleeps"] == [word["word"] for word in line["words"]]
    assert classify(*typed, of="words")[2] == "1 input; 1 done before\n"


def test_a_long_text_is_cut_where_that_is_asked_for(classify):
    long = "is it red? " * 9
    code, _, err = classify("photos/1.png", "--text", long)
    assert code == 2
    assert "photos/1.png with --text 1: the text has" in err
    assert "this model reads 16: shorten it, or have it cut (truncate=True, --truncate)" in err
    assert classify("photos/1.png", "--text", long, "--truncate")[0] == 0


def test_the_fastest_batch_size_is_found_and_said(classify, wanted):
    code, out, err = classify(*ASKED, "--batch-size", "auto")
    assert code == 0
    alike(lines(out), wanted)
    assert err.splitlines()[0] in [f"batch size {size}" for size in (1, 2, 4, 8)]


# ---- bad input

MISTAKES = [
    ([], "nothing to classify: name images, or give --text or --texts"),
    (["photos"], "photos/0.png has no text, and this model reads an image and a text"),
    (["--text", "is it red?"], "--text 1 has no image, and this model reads an image and a text"),
    (["photos", "--text", "a", "--text", "b"], "8 images and 2 texts: give as many of both"),
    ([*ASKED, "--top", "0"], "--top 0: give 1 or more"),
    ([*ASKED, "--head", "answers"], "no head 'answers'; did you mean answer?"),
    ([*ASKED, "--batch-size", "0"], "--batch-size 0: give 1 or more"),
    ([*ASKED, "--out", "photos"], "--out photos is a folder: give a file, such as classes.jsonl"),
    ([*ASKED, "--retry"], "--retry is of the lines that --out has"),
    ([*ASKED, "--device", "gpu"], "--device gpu: "),
    ([*ASKED, "--model", "nowhere"], "nowhere does not exist"),
    (["-", "--texts", "-"], "stdin cannot be both a list of images and one of texts"),
    (["photos/*.gif", "--text", "a"], "photos/*.gif: no image has such a name"),
    (["photos", "--texts", "nowhere.txt"], "nowhere.txt"),
    ([*ASKED, "--out", "photos/1.png"], "photos/1.png, line 1: no JSON"),
]


@pytest.mark.parametrize(("typed", "said"), MISTAKES)
@pytest.mark.fault("F32")
def test_a_mistake_is_one_line_and_nothing_is_written(call, classifier, photos, typed, said):
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    given = [] if "--model" in typed else ["--model", classifier]
    code, out, err = call("classify", *typed, *given)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


def test_a_captioner_is_named_with_the_command_that_it_has(call, model, photos):
    code, out, err = call("classify", *ASKED, "--model", model)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is a captioner, which has .caption() and `mmattn caption`" in err


def test_images_that_a_model_takes_two_at_once_of_need_pairs(classify):
    code, _, err = classify(*ASKED, of="two")
    assert code == 2
    assert "takes up to 2 images at once: give --texts FILE.jsonl" in err


def test_what_is_no_option_is_refused(classify):
    assert "unrecognized arguments: --beams 4" in classify(*ASKED, "--beams", 4)[2]
    assert "not allowed with argument" in classify(*ASKED, "--texts", "a.txt")[2]


def test_help_names_every_option_and_needs_no_torch():
    code = (
        "import sys; from mmattn.cli.main import main\n"
        "sys.argv = ['mmattn', 'classify', '--help']\n"
        "try: main()\nfinally: print({'torch', 'numpy', 'PIL', 'hydra'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("set()\n")
    for said in ("--texts FILE", "--top INT", "--head", "--retry", "130 stopped by Ctrl-C"):
        assert said in done.stdout


# ---- what argued for the classes


def test_every_input_has_its_pages_and_lines_say_where(classify, wanted):
    kinds = [word for kind in ("npz", "png", "html") for word in ("--attention-format", kind)]
    typed = ("--attention", "maps", "--out", "out.jsonl", "--top", 2)
    code, _, _ = classify("photos/1.png", "photos/2.png", *ASKED[1:], *typed, *kinds)
    assert code == 0
    for line, other in zip(in_file(), wanted[1:3], strict=True):
        pages = line.pop("attention")
        assert [Path(page).suffix for page in pages] == [".npz", ".png", ".html"]
        assert all(page.startswith(f"maps/{line['image']}.is-it-red-") for page in pages)
        record = load_decision(pages[0])
        assert (record.key, record.text.strip()) == (line["image"], "is it red?")
        told = [(one.label, one.probability) for one in record.classes]
        assert told == [(one["label"], one["probability"]) for one in line["top"]]
        assert (line["label"], len(told)) == (other["label"], 2)
        with Image.open(pages[1]) as picture:
            assert picture.format == "PNG"
        assert '"label":"perhaps"' in Path(pages[2]).read_text() or "perhaps" not in str(told)
    assert len(list(Path("maps").rglob("*.*"))) == 6


def test_another_question_about_an_image_has_another_page(classify):
    both = [word for text in ("is it red?", "is it a dog?") for word in ("--text", text)]
    _, out, _ = classify("photos/1.png", *both, "--attention", "maps")
    pages = [line["attention"][0] for line in lines(out)]
    assert len({*pages}) == 2
    before = Path(pages[0]).read_bytes()
    _, out, _ = classify("photos/1.png", "--text", "is it a dog?", "--attention", "maps")
    assert lines(out)[0]["attention"] == pages[1:]  # the same name in every job
    assert Path(pages[0]).read_bytes() == before


def test_pictures_of_a_job_are_no_inputs_of_its_next_run(classify):
    typed = (*ASKED, "--attention", "photos/maps", "--attention-format", "png")
    assert classify(*typed, "--out", "out.jsonl")[0] == 0
    code, _, err = classify(*typed, "--out", "out.jsonl")
    assert code == 0
    assert err.splitlines()[0].startswith("8 images are left out: they lie in photos/maps")
    assert names(in_file()) == ALL


@pytest.mark.parametrize(
    ("of", "typed"),
    [
        ("image", ("photos/1.png",)),
        ("text", ("--text", "is it red?")),
        ("words", ("--text", "a red ball")),
    ],
)
def test_what_a_model_does_not_read_has_no_place_in_its_pages(classify, of, typed):
    code, out, _ = classify(*typed, "--attention", "maps", "--attention-format", "npz", of=of)
    assert code == 0
    record = load_decision(lines(out)[0]["attention"][0])
    assert len(record.images) == (of == "image")
    assert (record.text is None) == (of == "image")
    assert all((one.word is not None) == (of == "words") for one in record.classes)


def test_a_text_without_a_word_has_no_page_and_a_bad_image_neither(classify, photos):
    Path("texts.jsonl").write_text('{"text": ""}\n{"text": "red"}\n')
    _, out, _ = classify("--texts", "texts.jsonl", "--attention", "maps", of="words")
    assert [len(line["attention"]) for line in lines(out)] == [0, 1]
    (photos / "1.png").write_text("no picture")
    code, out, _ = classify("photos/1.png", *ASKED[1:], "--attention", "maps")
    assert (code, lines(out)[0].keys()) == (3, {"image", "text", "error"})


def test_the_batch_size_is_found_with_pages_and_passes(classify, dropping):
    typed = ("--attention", "maps", "--passes", 2, "--batch-size", "auto")
    code, out, err = classify("photos/1.png", *ASKED[1:], *typed, of=dropping)
    assert code == 0, err
    assert lines(out)[0]["uncertainty"]["epistemic"] > 0


def test_the_pages_are_a_gallery(classify, call):
    typed = ("--attention", "maps", "--attention-format", "npz")
    classify("photos/1.png", "photos/2.png", *ASKED[1:], *typed)
    code, out, err = call("view", "maps")
    assert (code, err) == (0, "")
    assert out == "2 images; open in a browser: maps/gallery/index.html\n"


# ---- how sure


def test_passes_say_how_unsure_they_are_and_depend_on_the_seed_alone(classify, dropping):
    given = (*ASKED, "--passes", 4, "--seed", 3)
    code, out, _ = classify(*given, of=dropping)
    assert code == 0
    found = lines(out)
    assert all(
        one["uncertainty"]["total"]
        == pytest.approx(one["uncertainty"]["aleatoric"] + one["uncertainty"]["epistemic"])
        for one in found
    )
    assert lines(classify(*given, "--batch-size", 3, of=dropping)[1]) == found
    assert lines(classify(*given[:-1], 4, of=dropping)[1]) != found
    model = mmattn.load(classify.folders[dropping])
    wanted = model.classify("photos", "is it red?", passes=4, seed=3)
    assert [one.to_dict() for one in wanted] == found


def test_several_models_are_an_ensemble(classify, dropping):
    second = ("--model", classify.folders["both"])
    code, out, _ = classify(*ASKED, *second, of=dropping)
    assert code == 0
    wanted = mmattn.load([classify.folders["both"], classify.folders[dropping]])
    found = lines(out)
    alike(found, [one.to_dict() for one in wanted.classify("photos", "is it red?")])
    assert max(one["uncertainty"]["epistemic"] for one in found) > 0
    code, _, err = classify("photos/1.png", *second, of="image")
    assert code == 2
    assert "model 2 of the ensemble has the heads a, b, and the first model has answer" in err


def test_an_answer_that_is_not_sure_is_kept_back(classify, wanted):
    limit = sorted(one["probability"] for one in wanted)[4] - 1e-4
    code, out, _ = classify(*ASKED, "--at-least", limit, "--out", "out.jsonl")
    assert (code, out) == (0, "")
    for line, other in zip(in_file(), wanted, strict=True):
        sure = other["probability"] >= limit
        assert line["label"] == (other["label"] if sure else None)
        assert line.get("abstained", False) is not sure
        assert [one["label"] for one in line["top"]] == [one["label"] for one in other["top"]]
    assert classify(*ASKED, "--at-least", limit, "--out", "out.jsonl")[2].startswith(
        "8 inputs; 8 done before"
    )


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--passes", 1), "--passes 1: what passes disagree on takes 2 or more"),
        (("--passes", 5), "passes=5: this model has no dropout"),
        (("--seed", -1), "--seed -1: give 0 or more"),
        (("--seed", 0), "--seed is of what --passes drop: give it, too"),
        (("--labels", ""), "--labels '' names no label: give some"),
        (("--labels", " ,"), "--labels ' ,' names no label: give some"),
        (("--at-least", 2), "--at-least 2.0: a probability is from 0 to 1"),
        (("--attention-format", "png"), "are of --attention FOLDER: give it, too"),
        (("--attention", "photos/1.png"), "photos/1.png is no folder"),
        (("--attention", "maps", "--model", "b"), "--attention explains one model"),
    ],
)
def test_what_cannot_be_sure_or_shown_is_refused(classify, typed, said):
    code, out, err = classify(*ASKED, *typed)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


# ---- again and again


def test_what_is_there_is_not_classified_again(classify, computed, wanted):
    classify("photos/deep", *ASKED[1:], "--out", "out.jsonl")
    computed.clear()
    code, _, err = classify(*ASKED, "--out", "out.jsonl")
    assert code == 0
    assert sorted(computed) == sorted(ALL[:-2])
    assert err.startswith("8 inputs; 2 done before; ")
    alike(sorted(in_file(), key=lambda line: ALL.index(line["image"])), wanted)
    computed.clear()
    other = ("photos", "--text", "is it a dog?", "--out", "out.jsonl")
    assert classify(*other)[0] == 0  # another question is another input
    assert sorted(computed) == sorted(ALL)
    assert len(in_file()) == 16


@pytest.mark.fault("F32")
def test_a_line_that_was_cut_is_written_again(classify, wanted):
    classify(*ASKED, "--out", "out.jsonl")
    Path("out.jsonl").write_bytes(Path("out.jsonl").read_bytes()[:-30])
    assert classify(*ASKED, "--out", "out.jsonl")[0] == 0
    alike(in_file(), wanted)


@pytest.mark.fault("F32")
def test_bad_images_are_tried_again_only_where_that_is_asked_for(classify, photos):
    good = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(b"spoilt")
    given = (*ASKED, "--out", "out.jsonl")
    code, _, err = classify(*given)
    assert code == 3
    assert '1 could not be read: see "error"' in err
    (photos / "1.png").write_bytes(good)
    assert classify(*given)[0] == 3
    code, _, err = classify(*given, "--retry")
    assert (code, err.startswith("8 inputs; 7 done before; ")) == (0, True)
    assert not any("error" in line for line in in_file())


def test_a_job_never_goes_on_in_the_file_that_its_texts_come_from(classify):
    content = json.dumps({"image": "photos/1.png", "text": "is it red?", "answer": "yes"}) + "\n"
    Path("pairs.jsonl").write_text(content)
    code, _, err = classify("--texts", "pairs.jsonl", "--out", "pairs.jsonl")
    assert code == 2
    assert "pairs.jsonl, line 1: no line of classes: give another file with --out" in err
    assert Path("pairs.jsonl").read_text() == content


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 141, ""),
        (torch.OutOfMemoryError("out of memory"), 2, "error: --batch-size 2: the accelerator's"),
    ],
)
@pytest.mark.fault("F32")
def test_what_stops_a_job_leaves_a_valid_file_with_which_it_goes_on(
    classify, monkeypatch, wanted, error, code, said
):
    written = []

    def write(file, value):
        written.append(value)
        if len(written) == 4:
            raise error
        write_line(file, value)

    monkeypatch.setattr(jsonl_job, "write_line", write)
    found = classify(*ASKED, "--out", "out.jsonl", "--batch-size", 2)
    assert (found[0], found[1]) == (code, "")
    assert found[2].startswith(said)
    alike(in_file(), wanted[:3])
    monkeypatch.setattr(jsonl_job, "write_line", write_line)
    assert classify(*ASKED, "--out", "out.jsonl")[0] == 0
    alike(in_file(), wanted)


# ---- processes of their own


@pytest.mark.slow
def test_two_processes_share_a_job_and_make_one_file(classifier, photos, wanted):
    """The list comes by stdin, which they share, too."""
    root = str(Path(mmattn.__file__).resolve().parents[1])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    typed = ["-m", "mmattn", "classify", "-", *ASKED[1:], "--model", str(classifier)]
    done = subprocess.run(
        [sys.executable, *launcher, *typed, "--device", "cpu", "--out", "out.jsonl"],
        env=environment | {"PYTHONPATH": root},
        input="photos\nphotos/1.png\n",
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "8 inputs; " in done.stderr
    alike(in_file(), wanted)
    assert sorted(path.name for path in Path().iterdir()) == ["out.jsonl", "photos"]
