"""`mmattn caption` as typed: a line for every image, once, whatever happens in between."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import mmattn
from mmattn.cli import jsonl_job
from mmattn.cli.jsonl import write_line
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.maps.archive import load_attention
from mmattn.model_folder.format import write_folder
from mmattn.pipeline.writer import Writer

ALL = [f"photos/{i}.png" for i in (0, 1, 2, 4, 5, 6)] + ["photos/deep/3.png", "photos/deep/7.png"]


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def in_file(path="out.jsonl"):
    content = Path(path).read_text()
    assert content.endswith("\n")
    return lines(content)


def names(found):
    return [line["image"] for line in found]


@pytest.fixture
def caption(call, model, photos):
    """Caption with the small model in a folder with photos/."""
    return lambda *typed: call("caption", *typed, "--model", model, "--device", "cpu")


@pytest.fixture
def wanted(model, photos):
    """What Python says of all photos."""
    return [one.to_dict() for one in mmattn.load(model).caption("photos")]


@pytest.fixture
def computed(monkeypatch):
    """The names of the pictures that a model has captioned."""
    seen, captions = [], Writer.captions

    def count(self, batch):
        seen.extend(one.name for one in batch)
        return captions(self, batch)

    monkeypatch.setattr(Writer, "captions", count)
    return seen


def alike(found, wanted):
    """Compare lines; numbers may differ by rounding."""
    assert [
        {k: v for k, v in line.items() if k not in ("score", "log_probs")} for line in found
    ] == [{k: v for k, v in line.items() if k not in ("score", "log_probs")} for line in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert one["log_probs"] == pytest.approx(other["log_probs"], abs=1e-5)


# ---- lines


def test_stdout_has_a_line_for_every_image_as_python_says_it(caption, wanted):
    code, out, err = caption("photos")
    assert code == 0
    alike(lines(out), wanted)
    assert names(lines(out)) == ALL
    assert err.startswith("8 images; ")
    assert err.endswith(" images/s\n")
    assert err.count("\n") == 1


def test_a_file_has_the_same_lines(caption, wanted):
    code, out, _ = caption("photos", "--out", "new/out.jsonl")
    assert (code, out) == (0, "")
    alike(in_file("new/out.jsonl"), wanted)
    assert [path.name for path in Path("new").iterdir()] == ["out.jsonl"]


def test_images_may_be_named_between_options_and_twice(caption):
    code, out, _ = caption("photos/deep", "--threads", 1, "photos/1.png", "photos/**", "x.png")
    assert code == 3
    assert names(lines(out)) == [*ALL[-2:], "photos/1.png", ALL[0], *ALL[2:-2], "x.png"]


@pytest.mark.fault("F32")
def test_stdin_names_images(caption, monkeypatch):
    with Path("list").open("w+") as file:
        file.write("photos/1.png\nnowhere.png\nphotos/1.png\nphotos/deep\n")
        file.seek(0)
        monkeypatch.setattr("sys.stdin", file)
        code, out, _ = caption("-")
    assert code == 3
    assert names(lines(out)) == ["photos/1.png", "nowhere.png", *ALL[-2:]]


def test_options_are_those_of_python(caption, model):
    typed = "--beams 4 --returned 2 --length-penalty 0.5 --min-length 2 --forbidden two"
    _, out, _ = caption("photos", *typed.split())
    options = {"beams": 4, "returned": 2, "length_penalty": 0.5, "min_length": 2}
    wanted = mmattn.load(model).caption("photos", forbidden=("two",), **options)
    found = lines(out)
    assert [line["caption"] for line in found] == [one.text for one in wanted]
    assert [line["others"][0]["caption"] for line in found] == [
        one.others[0].text for one in wanted
    ]


@pytest.mark.parametrize("typed", [("--batch-size", 1), ("--batch-size", 3, "--threads", 3)])
def test_batches_and_threads_change_nothing(caption, wanted, typed):
    alike(lines(caption("photos", *typed)[1]), wanted)


def test_half_precision_writes_captions_too(caption):
    code, out, _ = caption("photos", "--dtype", "bfloat16")
    assert (code, names(lines(out))) == (0, ALL)


def test_the_fastest_batch_size_is_found_and_said(caption, wanted):
    code, out, err = caption("photos", "--batch-size", "auto")
    assert code == 0
    alike(lines(out), wanted)
    assert err.splitlines()[0] in [f"batch size {size}" for size in (1, 2, 4, 8)]


@pytest.mark.fault("F29")
def test_names_that_are_no_utf8_are_told_as_python_knows_them(caption):
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        Path(odd).write_bytes(Path("photos/1.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    code, out, _ = caption(odd, "--attention", "maps")
    (line,) = lines(out)
    assert (code, line["image"]) == (0, odd)
    assert [Path(page).is_file() for page in line["attention"]] == [True]
    assert out.isascii()


# ---- bad input


@pytest.fixture
def zoo(photos):
    """Every kind of bad file, and of odd ones that are good; returns what is said of the bad."""
    place = photos.parent / "zoo"
    place.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    good = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    good.save(place / "exif.jpg", exif=exif)
    good.convert("CMYK").save(place / "cmyk.jpg")
    good.convert("RGBA").save(place / "alpha.png")
    good.convert("P").save(place / "palette.gif", save_all=True, append_images=[good.convert("L")])
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(place / "sixteen.png")
    Image.fromarray(noise[..., 0]).save(place / "grey.tiff")
    (place / "folder.jpg").mkdir()
    good.save(place / "folder.jpg" / "inside.webp")
    good.save(place / "truncated.png")
    (place / "truncated.png").write_bytes((place / "truncated.png").read_bytes()[:3000])
    (place / "empty.jpg").touch()
    (place / "page.jpg").write_text("<html>no such image</html>")
    (place / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(place / "pipe.png")
    Image.new("1", (9000, 9000)).save(place / "bomb.png")
    Image.fromarray(noise.astype(np.int32)[..., 0]).save(place / "deep.tiff")
    return {
        "truncated.png": "cannot be decoded",
        "empty.jpg": "is empty (0 bytes)",
        "page.jpg": "is not an image",
        "broken.png": "cannot be read: No such file",
        "pipe.png": "is not a regular file",
        "bomb.png": "9,000 x 9,000 = 81,000,000 pixels; the limit is 50,000,000",
        "deep.tiff": "holds 32-bit samples",
    }


@pytest.mark.fault("F32")
def test_bad_images_have_a_line_that_says_why_and_the_others_their_caption(caption, zoo):
    given = ["zoo", "zoo/broken.png", "zoo/pipe.png"]  # which a folder does not mean
    code, _, err = caption(*given, "--out", "out.jsonl", "--attention", "maps")
    assert code == 3
    found = {Path(line["image"]).name: line for line in in_file()}
    good = {"exif.jpg", "cmyk.jpg", "alpha.png", "palette.gif", "sixteen.png", "grey.tiff"}
    assert set(found) == {*good, "inside.webp", *zoo}
    for name, line in found.items():
        assert ("error" in line) is (name in zoo)
        assert ("attention" in line) is ("caption" in line) is (name not in zoo)
        assert zoo.get(name, "") in line.get("error", "")
    assert f'{len(zoo)} could not be read: see "error"' in err
    assert load_page_size("maps/zoo/exif.jpg.html") == "[60, 40]"


def load_page_size(page):
    """Return (height, width) of the picture, turned upright, from its page."""
    text = Path(page).read_text()
    start = text.index('"size":') + len('"size":')
    return text[start : text.index("]", start) + 1].replace(",", ", ")


@pytest.mark.fault("F33")
def test_the_limit_of_pixels_is_configurable(caption, zoo):
    code, out, _ = caption("zoo/bomb.png", "--max-pixels", 81_000_000)
    assert (code, "caption" in lines(out)[0]) == (0, True)


@pytest.mark.fault("F32")
def test_an_unreadable_file_is_a_bad_image(caption, photos, monkeypatch):
    def refuse(path, **_):  # rights are nothing to root, as whom tests may run
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Image, "open", refuse)
    code, out, _ = caption("photos/1.png")
    assert code == 3
    assert "cannot be read: Permission denied" in lines(out)[0]["error"]


MISTAKES = [
    (["photos", "--beams", "4", "--sample"], "--sample with --beams 4"),
    (["photos", "--required", "cat"], "--required cat with --beams 1"),
    (["photos", "--max-length", "13"], "--max-length 13, but this model's texts have at most 12"),
    (
        ["photos", "--attention", "maps", "--layers", "0", "2"],
        "layer 2 does not exist: there are 2",
    ),
    (["photos", "--layers", "0"], "are of --attention FOLDER"),
    (["photos", "--batch-size", "0"], "--batch-size 0: give 1 or more"),
    (["photos", "--max-pixels", "0"], "--max-pixels 0: give 1 or more"),
    (["photos", "--out", "photos"], "--out photos is a folder"),
    (["photos", "--out", "photos/1.png/a.jsonl"], "photos/1.png is no folder"),
    (["photos", "--attention", "photos/1.png"], "photos/1.png is no folder"),
    (["photos", "--device", "gpu"], "--device gpu: "),
    (["photos", "--model", "photos"], "photos is no model folder"),
    (["photos", "--model", "nowhere"], "nowhere does not exist"),
    (["photos/*.gif"], "photos/*.gif: no image has such a name"),
    (["photos/empty"], "photos/empty holds no image"),
    (["photos", "--out", "photos/1.png"], "photos/1.png, line 1: no JSON"),
]


@pytest.mark.parametrize(("typed", "said"), MISTAKES)
@pytest.mark.fault("F32")
def test_a_mistake_is_one_line_and_nothing_is_written(call, model, photos, typed, said, tmp_path):
    (photos / "empty").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    given = [] if "--model" in typed else ["--model", model]
    code, out, err = call("caption", *typed, *given)
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_classifier_is_named_with_the_command_that_it_has(call, classifier, photos):
    code, out, err = call("caption", "photos", "--model", classifier)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is a classifier (answer), which has .classify() and `mmattn classify`" in err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["photos", "--beems", "4"], "unrecognized arguments: --beems 4"),
        (["photos", "--batch-size", "many"], "'many' is no number; give one, or auto"),
        (["photos", "--attention-format", "gif"], "invalid choice: 'gif'"),
        ([], "required: images"),
    ],
)
def test_what_is_no_option_is_refused(caption, typed, said):
    code, out, err = caption(*typed)
    assert (code, out) == (2, "")
    assert said in err


def test_a_word_that_the_vocabulary_lacks_is_one_line(call, make_captioner, photos):
    known = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "cat", "[UNK]"])}
    tokenizer = CaptionTokenizer(Tokenizer(WordLevel(known, unk_token="[UNK]")))
    write_folder(make_captioner(tokenizer=tokenizer), "model")
    code, out, err = call("caption", "photos", "--model", "model", "--forbidden", "dog")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: 'dog': model/tokenizer.json has no tokens for it")


def test_help_names_every_option_and_exit_code_and_needs_no_torch():
    code = (
        "import sys; from mmattn.cli.main import main; sys.argv = ['mmattn', 'caption', '--help']\n"
        "try: main()\nfinally: print({'torch', 'numpy', 'PIL', 'hydra'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("set()\n")
    for said in ("--retry", "--no-repeat-ngram INT", "--batch-size INT", "130 stopped by Ctrl-C"):
        assert said in done.stdout


# ---- again and again


def test_what_is_there_is_not_captioned_again(caption, computed, wanted):
    caption("photos/deep", "--out", "out.jsonl")
    computed.clear()
    code, _, err = caption("photos", "--out", "out.jsonl")
    assert code == 0
    assert sorted(computed) == sorted(ALL[:-2])
    assert err.startswith("8 images; 2 done before; ")
    found = in_file()
    assert names(found) == [*ALL[-2:], *ALL[:-2]]
    alike(sorted(found, key=lambda line: ALL.index(line["image"])), wanted)
    before = Path("out.jsonl").read_bytes()
    computed.clear()
    assert caption("photos", "--out", "out.jsonl", "--batch-size", "auto") == (
        *(0, "", "8 images; 8 done before\n"),
    )
    assert (computed, Path("out.jsonl").read_bytes()) == ([], before)


@pytest.mark.fault("F32")
def test_a_line_that_was_cut_is_written_again(caption, wanted):
    caption("photos", "--out", "out.jsonl")
    Path("out.jsonl").write_bytes(Path("out.jsonl").read_bytes()[:-30])
    assert caption("photos", "--out", "out.jsonl")[0] == 0
    alike(in_file(), wanted)


def test_a_line_that_is_no_json_is_named_and_the_file_stays(caption):
    caption("photos", "--out", "out.jsonl")
    spoilt = Path("out.jsonl").read_bytes().replace(b"\n", b"\noops\n", 2)
    Path("out.jsonl").write_bytes(spoilt)
    code, out, err = caption("photos", "--out", "out.jsonl", "--retry")
    assert (code, out) == (2, "")
    assert err.startswith("error: out.jsonl, line 2: no JSON")
    assert err.endswith("mend or remove it\n")
    assert Path("out.jsonl").read_bytes() == spoilt


def test_a_mistake_in_the_options_costs_no_line_of_the_file(caption):
    caption("photos/1.png", "nowhere.png", "--out", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    assert caption("nowhere.png", "--out", "out.jsonl", "--retry", "--max-length", 99)[0] == 2
    assert Path("out.jsonl").read_bytes() == before


@pytest.mark.fault("F32")
def test_bad_images_are_tried_again_only_where_that_is_asked_for(caption, photos):
    good = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(b"spoilt")
    given = ("photos", "nowhere.png", "--out", "out.jsonl")
    assert caption(*given)[0] == 3
    (photos / "1.png").write_bytes(good)
    code, _, err = caption(*given)
    assert (code, err) == (3, '9 images; 9 done before; 2 could not be read: see "error"\n')
    code, _, err = caption("photos", "--out", "out.jsonl", "--retry")
    assert (code, err.startswith("8 images; 7 done before; ")) == (0, True)
    found = in_file()
    assert sorted(names(found)) == sorted([*ALL, "nowhere.png"])  # it was not asked for again
    assert ["error" in line for line in found] == [False] * 7 + [True, False]
    assert caption(*given)[0] == 3


def test_what_is_drawn_does_not_depend_on_when(caption):
    sampled = ("--sample", "--seed", 3, "--temperature", 1.5)
    whole = lines(caption("photos", *sampled)[1])
    caption("photos", *sampled, "--out", "out.jsonl")
    kept = Path("out.jsonl").read_bytes().splitlines(keepends=True)
    Path("out.jsonl").write_bytes(b"".join(kept[1:3] + kept[5:6]))
    caption("photos", *sampled, "--out", "out.jsonl", "--batch-size", 2)
    found = sorted(in_file(), key=lambda line: ALL.index(line["image"]))
    alike(found, whole)
    assert len({line["caption"] for line in whole}) > 4


@pytest.fixture
def stopped(monkeypatch):
    """Let something be raised instead of writing the fourth line."""

    def use(error):
        written = []

        def write(file, value):
            written.append(value)
            if len(written) == 4:
                raise error
            write_line(file, value)

        monkeypatch.setattr(jsonl_job, "write_line", write)

    return use


@pytest.mark.fault("F32")
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "error: no space left on device; "),
        (BrokenPipeError(), 141, ""),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            2,
            "error: --batch-size 2: the accelerator's",
        ),
    ],
)
def test_what_stops_a_job_leaves_a_valid_file_with_which_it_goes_on(
    caption, stopped, monkeypatch, wanted, error, code, said
):
    stopped(error)
    found = caption("photos", "--out", "out.jsonl", "--batch-size", 2)
    assert (found[0], found[1]) == (code, "")
    assert found[2].startswith(said)
    alike(in_file(), wanted[:3])
    monkeypatch.setattr(jsonl_job, "write_line", write_line)
    assert caption("photos", "--out", "out.jsonl")[0] == 0
    alike(in_file(), wanted)


# ---- attention


def test_every_image_has_its_pages_and_lines_say_where(caption):
    typed = ["--attention-format", "npz", "--attention-format", "png", "--attention-format", "npz"]
    code, _, _ = caption("photos", "--out", "out.jsonl", "--attention", "maps", *typed)
    assert code == 0
    for line in in_file():
        assert line["attention"] == [f"maps/{line['image']}.npz", f"maps/{line['image']}.png"]
        record = load_attention(line["attention"][0])
        assert (record.key, record.caption) == (line["image"], line["caption"])
        assert record.cross.weights.shape[:2] == (2, 2)
        with Image.open(line["attention"][1]) as picture:
            assert picture.format == "PNG"
    assert len(list(Path("maps").rglob("*.*"))) == 16


def test_a_page_is_a_web_page_and_layers_are_chosen(caption):
    _, out, _ = caption("photos/1.png", "--attention", "maps", "--layers", -1)
    (line,) = lines(out)
    assert line["attention"] == ["maps/photos/1.png.html"]
    page = Path("maps/photos/1.png.html").read_text()
    assert '"layers":["text.1.cross"]' in page


def test_pages_stay_in_their_folder_and_none_is_overwritten(caption, photos, monkeypatch):
    Path("here").mkdir()
    same = (photos / "1.png").read_bytes()
    for name in ("here/a.png", "here/A.png", "a.png"):
        Path(name).write_bytes(same)
    monkeypatch.chdir("here")
    given = ("../a.png", "a.png", "A.png", str(photos / "1.png"), "../photos/1.png")
    code, out, _ = caption(*given, "--attention", "maps")
    assert code == 0
    found = lines(out)
    assert len(found) == 4  # the last one is the one before it
    pages = [page for line in found for page in line["attention"]]
    assert pages[:3] == ["maps/up/a.png.html", "maps/a.png.html", "maps/A-2.png.html"]
    assert sorted(pages) == sorted(map(str, Path("maps").rglob("*.html")))
    before = Path(pages[1]).read_bytes()
    caption("../a.png", "--attention", "maps")  # another job with the same folder
    assert Path(pages[1]).read_bytes() == before


def test_the_overlays_of_a_job_are_not_captioned_by_its_next_run(caption):
    typed = (
        "photos",
        "--out",
        "out.jsonl",
        "--attention",
        "photos/maps",
        "--attention-format",
        "png",
    )
    assert caption(*typed)[0] == 0
    assert caption(*typed)[2].splitlines() == [
        "8 images are left out: they lie in photos/maps, where pictures of attention are written",
        "8 images; 8 done before",
    ]
    assert names(in_file()) == ALL
    pages = ("--attention", "photos", "--attention-format", "html")
    assert caption("photos/1.png", *pages)[0] == 0  # pages may lie beside their photos
    assert Path("photos/photos/1.png.html").is_file()
    assert caption("photos/1.png", *pages[:3], "png")[0] == 2


@pytest.mark.fault("F32")
def test_a_page_that_cannot_be_written_ends_the_job_and_has_no_line(caption):
    Path("maps/photos/2.png.html").mkdir(parents=True)
    Path("maps/photos/2.png.html/mine").touch()
    code, _, err = caption("photos", "--out", "out.jsonl", "--attention", "maps")
    assert (code, err) == (
        2,
        "error: maps/photos/2.png.html: is a directory; give a file, or move the folder away\n",
    )
    assert names(in_file()) == ALL[:2]


# ---- processes of their own


@pytest.fixture
def command(model, photos):
    """The command line of a process of its own, and its environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "MMATTN"))}
    root = str(Path(mmattn.__file__).resolve().parents[1])
    typed = ["-m", "mmattn", "caption", "--model", str(model), "--device", "cpu"]
    return [sys.executable, *typed], environment | {"PYTHONPATH": root}


def wait_for(path, process):
    """Wait until a process has written to a file."""
    while process.poll() is None and not (path.exists() and path.stat().st_size):
        time.sleep(0.01)


def copies(count):
    """Make many photos; return their names."""
    Path("many").mkdir()
    content = Path("photos/1.png").read_bytes()
    found = [f"many/{i:04}.png" for i in range(count)]
    for name in found:
        Path(name).write_bytes(content)
    return found


@pytest.mark.fault("F32")
def test_a_reader_that_has_enough_ends_it_quietly(command):
    copies(2000)
    arguments, environment = command
    with subprocess.Popen(
        [*arguments, "many"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert json.loads(process.stdout.readline())["image"] == "many/0000.png"
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(timeout=60), said) == (141, b"")


@pytest.mark.fault("F32")
def test_ctrl_c_leaves_a_valid_file_that_the_next_run_completes(command, call, model):
    every = copies(2000)
    arguments, environment = command
    out = Path("out.jsonl")
    with subprocess.Popen(
        [*arguments, "many", "--out", str(out), "--batch-size", "1"],
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        wait_for(out, process)
        process.send_signal(2)
        said = process.stderr.read()
        assert (process.wait(timeout=60), said) == (130, b"interrupted\n")
    before = names(in_file())
    assert 0 < len(before) < 2000
    assert before == every[: len(before)]
    code, _, err = call("caption", "many", "--model", model, "--out", out, "--batch-size", 64)
    assert (code, err.startswith(f"2000 images; {len(before)} done before; ")) == (0, True)
    assert names(in_file()) == every


def torchrun(command, *typed):
    """Start the command in two processes."""
    arguments, environment = command
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments[1:]]
    return subprocess.Popen(
        [arguments[0], *launcher, *typed],
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_share_a_job_and_make_one_file(command, wanted):
    """The list comes by stdin, which they share, too."""
    with torchrun(command, "-", "--out", "out.jsonl", "--attention", "maps") as process:
        _, said = process.communicate("photos\nphotos/1.png\n", timeout=200)
        assert process.returncode == 0, said
    assert "8 images; " in said
    assert said.count("images/s") == 1
    found = in_file()
    assert names(found) == ALL
    pages = [line.pop("attention") for line in found]
    alike(found, wanted)
    assert pages == [[f"maps/{name}.html"] for name in ALL]
    assert sorted(path.name for path in Path().iterdir()) == ["maps", "out.jsonl", "photos"]


@pytest.mark.slow
@pytest.mark.fault("F32")
def test_a_job_of_two_processes_of_which_one_is_killed_is_done_by_the_next(command, call, model):
    every = copies(600)
    with torchrun(command, "many", "--out", "out.jsonl", "--batch-size", "1") as process:
        part = Path(".out.jsonl.rank-1")
        wait_for(part, process)
        (worker,) = [pid for pid in children(process.pid) if b"\0RANK=1\0" in environ(pid)]
        os.kill(worker, 9)
        process.communicate(timeout=100)
        assert process.returncode == 1
    assert part.exists()
    assert not Path("out.jsonl").exists()
    with torchrun(command, "many", "--out", "out.jsonl") as process:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    found = names(in_file())
    assert sorted(found) == every
    assert sorted(path.name for path in Path().iterdir()) == ["many", "out.jsonl", "photos"]


def children(parent):
    """Return the process ids of a process's children."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for path in tasks for pid in path.read_text().split()]


def environ(pid):
    return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.slow
def test_a_mistake_of_two_processes_is_told_once(command):
    Path("out.jsonl").write_text("my diary")
    with torchrun(command, "photos", "--out", "out.jsonl") as process:
        _, said = process.communicate("", timeout=200)
        assert process.returncode == 1
    assert said.count("error: out.jsonl, line 1: no line of captions") == 1
    assert Path("out.jsonl").read_text() == "my diary"
