"""`mmattn retrieve` as typed: what fits best is found, and nothing is computed twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmattn
from mmattn.model_folder.format import write_folder
from mmattn.pipeline.embedder import ImageEmbedder

ALL = [f"photos/{i}.png" for i in (0, 1, 2, 4, 5, 6)] + ["photos/deep/3.png", "photos/deep/7.png"]
DOG = "a dog runs"
ASKED = (DOG, "photos")


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def names(line):
    return [hit["image"] for hit in line["found"]]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mmattn" / "indexes"


@pytest.fixture
def retrieve(call, joint, photos, cache):
    """Search with a small model in a folder with photos/."""
    return lambda *typed, model=joint: call("retrieve", *typed, "--model", model, "--device", "cpu")


@pytest.fixture
def wanted(joint, photos):
    """What Python finds, by the query."""
    model = mmattn.load(joint)
    index = model.index("photos")
    return lambda text, top=5: model.retrieve(text, index, top=top)[0].to_dict()


@pytest.fixture
def embedded(monkeypatch):
    """How many pictures the model has seen since it was asked last."""
    counts, vectors = [], ImageEmbedder.vectors

    def count(self, images):
        counts.append(len(images))
        return vectors(self, images)

    monkeypatch.setattr(ImageEmbedder, "vectors", count)
    return lambda: [sum(counts), counts.clear()][0]


def alike(found, wanted):
    assert found.keys() == wanted.keys()
    assert names(found) == names(wanted)
    similar = [hit["similarity"] for hit in wanted["found"]]
    assert [hit["similarity"] for hit in found["found"]] == pytest.approx(similar, abs=1e-5)


# ---- what is found


def test_the_issues_own_line(retrieve, wanted, cache):
    code, out, err = retrieve("a dog on a beach", "photos/")
    assert code == 0
    (line,) = lines(out)
    assert line["text"] == "a dog on a beach"
    alike(line, wanted("a dog on a beach"))
    (place,) = cache.iterdir()
    assert err == f"index: {place} (8 images, 8 of them new or changed)\n"
    assert place.name.startswith("photos-")


def test_queries_come_from_flags_files_and_stdin(retrieve, wanted, monkeypatch):
    texts = [DOG, "a red ball"]
    typed = [part for text in texts for part in ("--query", text)]
    _, out, _ = retrieve("photos", *typed, "--top", 2)
    for line, text in zip(lines(out), texts, strict=True):
        alike(line, wanted(text, 2))
    Path("queries.txt").write_text("\n".join(texts) + "\n\n")
    assert retrieve("photos", "--queries", "queries.txt", "--top", 2)[1] == out
    Path("queries.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    assert retrieve("photos", "--queries", "queries.jsonl", "--top", 2)[1] == out
    with Path("queries.txt").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert retrieve("photos", "--queries", "-", "--top", 2)[1] == out


def test_an_image_finds_itself_first(retrieve):
    code, out, _ = retrieve("photos", "--image", "photos/deep/3.png", "--image", "photos/1.png")
    assert code == 0
    for line, image in zip(lines(out), ["photos/deep/3.png", "photos/1.png"], strict=True):
        assert line["image"] == names(line)[0] == image
        assert line["found"][0]["similarity"] == pytest.approx(1, abs=1e-5)


def test_texts_are_searched_for_an_image(retrieve, joint):
    captions = [DOG, "a red ball", "two dogs and a cat"]
    Path("captions.txt").write_text("\n".join(captions))
    typed = ("--image", "photos/1.png", "--texts", "captions.txt", "--rerank", 3)
    code, out, err = retrieve(*typed)
    assert (code, err) == (0, "")
    (line,) = lines(out)
    matches = mmattn.load(joint).match("photos/1.png", captions)
    best = matches.argsort(descending=True).tolist()
    assert [hit["text"] for hit in line["found"]] == [captions[i] for i in best]
    assert [hit["match"] for hit in line["found"]] == pytest.approx(
        matches[best].tolist(), abs=1e-5
    )


def test_the_best_are_looked_at_again(retrieve, joint):
    _, out, _ = retrieve(*ASKED, "--rerank", 8, "--top", 2)
    matches = mmattn.load(joint).match("photos", DOG)
    best = matches.argsort(descending=True)[:2].tolist()
    assert names(*lines(out)) == [ALL[i] for i in best]


def test_a_terminal_gets_a_table(retrieve, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    Path("photos/a\033[31m.png").write_bytes(Path("photos/0.png").read_bytes())
    _, out, _ = retrieve("photos", "--query", DOG, "--query", "a\ncat", "--rerank", 2, "--top", 9)
    one, other = out.split("\n\n")
    head, columns, *rows = one.splitlines()
    assert (head, columns.split()) == (DOG, ["similarity", "match", "image"])
    assert len(rows) == 9
    assert [len(row.split()) for row in rows] == [3, 3, *[2] * 7]
    assert other.startswith("a\N{REPLACEMENT CHARACTER}cat\n")
    assert "\033" not in out
    found = lines(retrieve(*ASKED, "--json")[1])
    assert len(found) == 1


def test_a_file_gets_the_lines_and_is_written_anew(retrieve):
    _, out, _ = retrieve(*ASKED)
    code, printed, _ = retrieve(*ASKED, "--out", "new/found.jsonl")
    assert (code, printed) == (0, "")
    assert Path("new/found.jsonl").read_text() == out
    Path("photos/0.png").unlink()
    retrieve(*ASKED, "--out", "new/found.jsonl", "--top", 8)
    assert len(lines(Path("new/found.jsonl").read_text())[0]["found"]) == 7


# ---- the index


def test_it_is_computed_once_for_a_folder_however_it_is_named(retrieve, embedded, cache, photos):
    _, out, _ = retrieve(*ASKED, "--top", 8)
    assert embedded() == 8
    for named in (["photos/"], ["photos/*.png", "photos/deep"], [photos], ["photos/**/*.png"]):
        found = lines(retrieve(DOG, *named, "--top", 8)[1])[0]["found"]
        assert embedded() == 0
        assert [hit["similarity"] for hit in found] == [
            hit["similarity"] for hit in lines(out)[0]["found"]
        ]
    (line,) = lines(retrieve(DOG, "photos/1.png", "photos/5.png")[1])
    assert sorted(names(line)) == ["photos/1.png", "photos/5.png"]
    assert embedded() == 0
    assert len(list(cache.iterdir())) == 1
    retrieve(DOG, "photos/deep")  # another folder
    assert (embedded(), len(list(cache.iterdir()))) == (2, 2)


def test_it_follows_the_folder(retrieve, embedded):
    retrieve(*ASKED)
    embedded()
    Path("photos/0.png").unlink()
    Path("photos/1.png").write_bytes(Path("photos/2.png").read_bytes())
    Path("photos/new.png").write_bytes(Path("photos/4.png").read_bytes()[:-1] + b"x")
    code, out, err = retrieve(*ASKED, "--top", 9)
    assert code == 0
    assert "(8 images, 2 of them new or changed, 1 gone)" in err
    assert embedded() == 1  # the content of 2.png is known
    assert set(names(*lines(out))) == {*ALL, "photos/new.png"} - {"photos/0.png"}


def test_it_can_have_a_place_and_be_searched_without_its_images(retrieve, embedded, cache, photos):
    _, out, err = retrieve(*ASKED, "--index", "here/photos.index")
    assert err.startswith("index: here/photos.index (8 images, 8 of them new")
    assert not cache.exists()
    embedded()
    photos.rename("elsewhere")
    code, again, err = retrieve(DOG, "--index", "here/photos.index")
    assert (code, err, embedded()) == (0, "", 0)
    assert names(*lines(again)) == [str(Path(name).absolute()) for name in names(*lines(out))]
    code, _, err = retrieve(DOG, "--index", "here/photos.index", "--rerank", 2)
    assert code == 2
    assert "cannot be read: No such file or directory" in err


def test_another_models_index_is_refused(retrieve, make_joint, tmp_path, cache):
    retrieve(*ASKED, "--index", "photos.index")
    before = Path("photos.index").read_bytes()
    other = write_folder(make_joint(seed=1), tmp_path / "other")
    for typed in (ASKED, (DOG,)):
        code, out, err = retrieve(*typed, "--index", "photos.index", model=other)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: photos.index: another model made this index")
    assert Path("photos.index").read_bytes() == before
    assert retrieve(*ASKED, model=other)[0] == 0  # in the cache each has its own
    assert retrieve(*ASKED, "--dtype", "bfloat16")[0] == 0
    assert len(list(cache.iterdir())) == 2


@pytest.mark.fault("F32")
def test_unreadable_images_are_named_left_out_and_tried_again(retrieve, photos):
    good = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(b"spoilt")
    for _ in range(2):
        code, out, err = retrieve(*ASKED, "--top", 9)
        assert code == 3
        assert sorted(names(*lines(out))) == sorted({*ALL} - {"photos/1.png"})
        assert err.startswith("left out: photos/1.png is not an image")
    (photos / "1.png").write_bytes(good)
    assert retrieve(*ASKED)[0] == 0


def test_many_unreadable_images_are_not_all_listed(retrieve, photos):
    for i in range(30):
        (photos / f"bad {i}.png").write_bytes(b"spoilt")
    code, _, err = retrieve(*ASKED)
    assert code == 3
    assert err.count("left out: ") == 21
    assert "left out: 10 more\n" in err


@pytest.mark.fault("F32")
def test_ctrl_c_keeps_what_is_done(retrieve, embedded, monkeypatch, cache):
    vectors, batches = ImageEmbedder.vectors, []

    def stop(self, images):
        batches.append(images)
        if len(batches) == 3:
            raise KeyboardInterrupt
        return vectors(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(ImageEmbedder, "vectors", stop)
        code, out, err = retrieve(*ASKED, "--batch-size", 2)
    assert (code, out, err) == (130, "", "interrupted\n")
    embedded()
    assert retrieve(*ASKED)[0] == 0
    assert embedded() == 4
    assert len(list(cache.iterdir())) == 1


@pytest.mark.fault("F32")
def test_images_of_stdin_are_searched(retrieve, monkeypatch):
    with Path("list").open("w+") as file:
        file.write("photos/1.png\nnowhere.png\nphotos/deep/3.png\n")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        code, out, err = retrieve(DOG, "-")
    assert code == 3
    assert sorted(names(*lines(out))) == ["photos/1.png", "photos/deep/3.png"]
    assert err.startswith("left out: nowhere.png cannot be read")


# ---- bad input

MISTAKES = [
    ([], "nothing to look for: give a text first"),
    ([DOG], "nothing to search for 'a dog runs': name images behind the query, or give --index"),
    (["--image", "photos/1.png"], "nothing to search for 'photos/1.png'"),
    (["photos", DOG], "the first argument is the query, and 'photos' is a file or folder here"),
    (["photos/1.png", "photos"], "--image photos/1.png to find its like"),
    ([DOG, "a cat", "photos"], "'a cat' is no file, folder or pattern: behind the query stand the"),
    ([DOG, "photos/*.gif"], "photos/*.gif: no image has such a name"),
    (["-", "photos"], "'-' is no query: give --queries - to read queries from stdin"),
    (["-", "--queries", "-"], "stdin can be only one list"),
    ([*ASKED, "--top", "0"], "--top 0: give 1 or more"),
    ([*ASKED, "--rerank", "-1"], "--rerank -1: give 0 or more"),
    (["photos", "--image", "photos/1.png", "--rerank", "2"], "a fusion compares an image with a"),
    ([*ASKED, "--texts", "a.txt"], "--texts is searched in place of images"),
    ([DOG, "--texts", "nowhere.txt"], "nowhere.txt"),
    (["photos", "--queries", "nowhere.txt"], "nowhere.txt"),
    (["photos", "--image", "nowhere.png"], "nowhere.png cannot be read"),
    (["photos", "--query", DOG * 9], "tokens, and this model reads 12: shorten it"),
    ([DOG, "--index", "nowhere.index"], "nowhere.index: there is no such index; name the images"),
    ([DOG, "--index", "photos"], "--index photos is a folder: give a file"),
    ([DOG, "--index", "photos/1.png"], "photos/1.png: is no index of mmattn"),
    ([*ASKED, "--index", "photos/1.png"], "photos/1.png: is no index of mmattn"),
    ([*ASKED, "--out", "photos"], "--out photos is a folder: give a file, such as found.jsonl"),
    ([*ASKED, "--out", "photos/1.png"], "photos/1.png, line 1: no JSON"),
    ([*ASKED, "--batch-size", "0"], "--batch-size 0: give 1 or more"),
    ([*ASKED, "--device", "gpu"], "--device gpu: "),
    ([*ASKED, "--model", "nowhere"], "nowhere does not exist"),
]


@pytest.mark.parametrize(("typed", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(call, joint, photos, cache, typed, said):
    before = {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")}
    given = [] if "--model" in typed else ["--model", joint]
    code, out, err = call("retrieve", *typed, *given)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in Path().rglob("*")} == before


def test_a_file_of_something_else_is_not_lost(retrieve):
    for content in ('{"image": "a.png", "caption": "a dog"}\n', '{"text": "a'):
        Path("mine.jsonl").write_text(content)
        code, _, err = retrieve(*ASKED, "--out", "mine.jsonl")
        assert (code, err.count("\n")) == (2, 1)
        assert Path("mine.jsonl").read_text() == content


def test_a_first_argument_that_is_a_file_can_be_looked_for(retrieve):
    code, out, _ = retrieve("photos", "--query", "photos")
    assert (code, lines(out)[0]["text"]) == (0, "photos")


def test_lines_of_queries_that_have_images_are_refused(retrieve):
    Path("pairs.jsonl").write_text('{"image": "photos/1.png", "text": "a"}\n')
    code, _, err = retrieve("photos", "--queries", "pairs.jsonl")
    assert (code, err) == (2, 'error: pairs.jsonl:1: give a "text" alone\n')


@pytest.mark.fault("F32")
def test_where_no_image_can_be_read_there_is_nothing_to_search(retrieve):
    Path("bad.png").write_bytes(b"spoilt")
    code, out, err = retrieve(DOG, "bad.png")
    assert (code, out) == (2, "")
    assert "error: none of 1 images can be read, the first because bad.png is not an image" in err


def test_other_models_are_named_with_what_they_have(retrieve, model, classifier):
    for other, said in ((model, "is a captioner, which"), (classifier, "is a classifier (answer)")):
        code, out, err = retrieve(*ASKED, model=other)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
        assert "mmattn retrieve is for joint models" in err


def test_a_model_without_a_fusion_says_so_before_it_looks_at_images(
    retrieve, make_joint, tmp_path, cache
):
    plain = write_folder(make_joint(fusion=False), tmp_path / "plain")
    code, out, err = retrieve(*ASKED, "--rerank", 3, model=plain)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "this model has no fusion" in err
    assert not cache.exists()
    assert retrieve(*ASKED, model=plain)[0] == 0


def test_several_processes_are_refused(retrieve, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "start it without torchrun" in retrieve(*ASKED)[2]


@pytest.mark.fault("F28")
def test_too_little_memory_is_one_line(retrieve, monkeypatch):
    def full(self, images):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ImageEmbedder, "vectors", full)
    code, _, err = retrieve(*ASKED, "--batch-size", 4)
    assert (code, err[:25]) == (2, "error: --batch-size 4: th")


def test_a_batch_size_that_was_found_is_named_where_it_does_not_fit(retrieve, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("mmattn.cli.retrieve_job.fastest_batch_size", lambda _, most: most // 2)
    monkeypatch.setattr("mmattn.pipeline.joint_pipeline.text_vectors", full)
    code, _, err = retrieve(*ASKED, "--batch-size", "auto")
    assert (code, err[:25]) == (2, "error: --batch-size 4: th")
    Path("texts.txt").write_text("a\nb\n")
    code, _, err = retrieve(DOG, "--texts", "texts.txt", "--batch-size", "auto")
    assert (code, err[:25]) == (2, "error: --batch-size 8: th")


def test_help_names_every_option_and_needs_no_torch():
    code = (
        "import sys; from mmattn.cli.main import main\n"
        "sys.argv = ['mmattn', 'retrieve', '--help']\n"
        "try: main()\nfinally: print({'torch', 'numpy', 'PIL', 'hydra'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mmattn.__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("set()\n")
    for said in ("--queries FILE", "--index FILE", "--rerank INT", "130 stopped by Ctrl-C"):
        assert said in done.stdout
    assert "--retry" not in done.stdout


# ---- what a joint model also does


def test_a_joint_model_captions_as_a_captioner(call, joint, photos):
    typed = ("photos", "--model", joint, "--device", "cpu", "--attention", "maps")
    code, out, _ = call("caption", *typed)
    assert code == 0
    found = lines(out)
    assert [line["image"] for line in found] == ALL
    assert [line["caption"] for line in found] == [
        one.text for one in mmattn.load(joint).caption("photos")
    ]
    assert all(Path(page).is_file() for line in found for page in line["attention"])


def test_an_export_is_of_its_captioner(call, joint, photos, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mmattn.interop.onnx.export.export_onnx",
        lambda bundle, folder, **named: asked.append(type(bundle.model).__name__),
    )
    assert call("export_model", joint, "graphs", "--to", "onnx")[0] == 0
    assert asked == ["Captioner"]
