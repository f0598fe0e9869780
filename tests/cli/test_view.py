"""`mmattn view` as typed: pages, or one line that says what is wrong."""

from functools import partial

import numpy as np
import pytest

from mmattn.cli import view
from mmattn.maps.archive import AttentionRecord, Layers, save_attention
from mmattn.maps.decision_archive import save_decision
from mmattn.maps.decision_record import DecisionRecord, ExplainedClass
from mmattn.maps.geometry import Placement
from mmattn.maps.words import group_words


@pytest.fixture
def run(tmp_path):
    """A run with the attention of one image."""
    weights = np.full((1, 1, 1, 4), 0.25, np.float32)
    record = AttentionRecord(
        key="owl.jpg",
        caption="owl",
        offsets=((0, 3),),
        words=tuple(group_words("owl", ((0, 3),))),
        cross=Layers(("text.0.cross",), weights),
        grid=(2, 2),
        prefix=0,
        image=np.zeros((8, 8, 3), np.uint8),
        placement=Placement.resize((8, 8)),
    )
    save_attention(tmp_path / "run" / "attention" / "step-000001" / "owl.npz", record)
    return tmp_path / "run"


@pytest.fixture
def call(call_command):
    """Call the command; returns the exit code and what it printed."""
    return partial(call_command, view)


def test_pages_lie_in_the_run_and_their_place_is_printed(call, run):
    page = run / "attention" / "gallery" / "index.html"
    assert call(run) == (0, f"1 image; open in a browser: {page}\n", "")
    assert page.is_file()
    assert (page.parent / "owl.html").is_file()


def test_pages_lie_where_they_are_asked_for(call, run, tmp_path):
    page = tmp_path / "new" / "pages" / "index.html"
    assert call(run, "--out", page.parent) == (0, f"1 image; open in a browser: {page}\n", "")
    assert page.is_file()
    assert not (run / "attention" / "gallery").exists()


def test_of_a_classifiers_run_its_decisions_are_opened(call, tmp_path):
    classes = (ExplainedClass("answer", "yes", 0.75),)
    seen, read = np.zeros((1, 0, 0, 0), np.float32), np.zeros((1, 0), np.float32)
    run = tmp_path / "run"
    for key in ("a", "b"):
        save_decision(
            run / "decisions" / "val" / f"{key}.npz",
            DecisionRecord(key, (), None, (), (), classes, seen, read),
        )
    page = run / "decisions" / "index.html"
    assert call(run) == (0, f"2 decisions; open in a browser: {page}\n", "")
    assert page.is_file()
    out = tmp_path / "new" / "index.html"
    assert call(run, "--out", out.parent) == (0, f"2 decisions; open in a browser: {out}\n", "")
    (run / "decisions" / "bad.npz").write_bytes(b"")
    code, _, err = call(run)
    assert (code, err.startswith(f"left out: {run / 'decisions' / 'bad.npz'}: ")) == (0, True)


def test_what_is_left_out_is_said_beside_the_result(call, run):
    (run / "attention" / "bad.npz").write_bytes(b"")
    code, out, err = call(run)
    assert (code, out.startswith("1 image; ")) == (0, True)
    assert err.startswith(f"left out: {run / 'attention' / 'bad.npz'}: ")


def test_what_is_no_run_is_called_so(call, run, tmp_path):
    remedy = "give the directory of a run, or one with *.npz files"
    absent, file = tmp_path / "absent", next(run.rglob("*.npz"))
    assert call(absent) == (2, "", f"error: {absent} does not exist: {remedy}\n")
    assert not absent.exists()
    assert call(file) == (2, "", f"error: {file} is no folder: {remedy}\n")
    (tmp_path / "empty").mkdir()
    code, out, err = call(tmp_path / "empty")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "holds no attention" in err
    assert list((tmp_path / "empty").iterdir()) == []


def test_pages_are_not_written_where_a_file_is(call, run, tmp_path):
    file = tmp_path / "page.html"
    file.write_text("mine")
    line = f"error: {file} is no folder: give another folder with --out\n"
    assert call(run, "--out", file) == (2, "", line)
    assert call(run, "--out", file / "deep")[::2] == (
        2,
        f"error: {file / 'deep'} cannot be written (not a directory): "
        "give another folder with --out\n",
    )
    assert file.read_text() == "mine"


def test_a_page_that_cannot_be_replaced_is_one_line(call, run):
    folder = run / "attention" / "gallery" / "owl.html"
    (folder / "inside").mkdir(parents=True)
    code, out, err = call(run)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {folder}: is a directory; ")
