"""The page of decisions: probes over training, mistakes at their steps, nothing from outside."""

import base64
import io
import json
import re
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from mmattn.errors import DataError
from mmattn.maps.decision_archive import save_decision
from mmattn.maps.decision_gallery import MOST_STEPS, build_decision_gallery, holds_decisions
from mmattn.maps.decision_record import ExplainedClass
from mmattn.maps.decision_sheet import decision_sheet
from mmattn.maps.png import save_png

HOSTILE = "</script><img src=x onerror=window.hurt=1>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.fixture
def record(make_decision):
    """Make a decision about a text, as training keeps it."""

    def make(key, why="probe", step=10, probability=0.7, name="yes"):
        return make_decision(
            *("is it so?", 0),
            classes=[ExplainedClass("answer", name, probability)],
            key=key,
            truth="no",
            wrong=why == "mistake",
            set="val",
            why=why,
            step=step,
        )

    return make


def write(folder, one, drawn=True):
    path = folder / "decisions/val" / f"step-{one.step:06d}" / f"{one.why}s" / f"{one.key}.npz"
    save_decision(path, one)
    if drawn:
        save_png(path.with_suffix(".png"), decision_sheet(one))
    return path


@pytest.fixture
def run(tmp_path, record):
    """A run with a probe at two steps and another mistake at each."""
    for step in (10, 20):
        write(tmp_path / "run", record("probe", step=step))
    write(tmp_path / "run", record("sure", "mistake", 20, 0.9, name=HOSTILE))
    write(tmp_path / "run", record("a little", "mistake", 20, 0.6))
    write(tmp_path / "run", record("early", "mistake", 10), drawn=False)
    return tmp_path / "run"


def parts(path):
    text = path.read_text("utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    blocks = re.findall(r'<script type="text/plain" id="block-\d+">(.*?)</script>', text)
    return json.loads(found), blocks


def test_a_run_is_grouped_by_set_and_reason_the_surest_mistake_first(run):
    found = build_decision_gallery(run)
    assert (found.page, found.decisions) == (run / "decisions" / "index.html", 5)
    assert found.unreadable == ()
    data, blocks = parts(found.page)
    groups = [(group["set"], group["name"]) for group in data["groups"]]
    assert groups == [
        *(("val · mistakes · answer", name) for name in ("sure", "early", "a little")),
        ("val · probes · answer", "probe"),
    ]
    assert data["steps"] == [10, 20]
    assert [entry["step"] for entry in data["groups"][-1]["entries"]] == [10, 20]
    assert len(blocks) == 5


def test_pictures_are_those_on_disk_and_drawn_again_where_there_is_none(run, record):
    data, blocks = parts(build_decision_gallery(run).page)
    for group in data["groups"]:
        for entry in group["entries"]:
            shown = Image.open(io.BytesIO(base64.b64decode(blocks[entry["block"]])))
            name = HOSTILE if group["name"] == "sure" else "yes"
            why = "mistake" if "mistakes" in group["set"] else "probe"
            again = record(group["name"], why, entry["step"], entry["probability"], name)
            np.testing.assert_array_equal(np.asarray(shown), decision_sheet(again))


def test_the_page_holds_no_markup_of_the_data_and_asks_for_nothing(run):
    text = build_decision_gallery(run).page.read_text("utf-8")
    assert "default-src 'none'" in text
    assert "<img src=x" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_of_many_steps_some_are_shown_the_ends_among_them(tmp_path, record):
    for step in range(1, 41):
        write(tmp_path, record("probe", step=step))
    data, blocks = parts(build_decision_gallery(tmp_path).page)
    assert len(blocks) == len(data["steps"]) == MOST_STEPS
    assert (data["steps"][0], data["steps"][-1]) == (1, 40)
    assert data["notes"][-1] == f"To keep the page small, {MOST_STEPS} of 40 steps are shown."
    small = build_decision_gallery(tmp_path, budget_mb=0.03)
    assert small.page.stat().st_size < 100_000
    assert parts(small.page)[0]["steps"] in ([1, 40], [1, 14, 27, 40])


def test_what_cannot_be_read_is_listed_and_nothing_to_show_is_an_error(run, tmp_path):
    bad = run / "decisions" / "bad.npz"
    bad.write_bytes(b"")
    found = build_decision_gallery(run, tmp_path / "out")
    assert found.page == tmp_path / "out" / "index.html"
    assert found.unreadable[0].startswith(f"{bad}: ")
    assert parts(found.page)[0]["unreadable"][0].startswith("bad.npz: ")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="holds no decision"):
        build_decision_gallery(tmp_path / "other")
    (tmp_path / "other" / "index.html").write_text("mine")
    with pytest.raises(DataError, match="move it away"):
        build_decision_gallery(run, tmp_path / "other")


def test_a_classifiers_run_is_known_by_its_folder(run, tmp_path):
    assert holds_decisions(run)
    assert holds_decisions(run / "decisions")
    assert not holds_decisions(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_leads_through_the_steps(run):
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path, complaints = build_decision_gallery(run).page, []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())

        def shown():
            drawn = (
                "[...document.querySelectorAll('.card:not([hidden]) img')]"
                ".every((image) => image.complete && image.naturalWidth > 100)"
            )
            deadline = time.monotonic() + 20
            while not page.evaluate(drawn):  # the page's policy forbids what waits for a function
                assert time.monotonic() < deadline
                page.wait_for_timeout(20)
            return [
                text.split(" / ")[1] for text in page.locator(".card:visible h2").all_inner_texts()
            ]

        assert shown() == ["sure", "a little", "probe"]
        said = page.locator(".card:visible .said").all_inner_texts()
        assert said[0].startswith(f"predicted: {HOSTILE} · 0.900")
        page.locator("#pick").fill("0")
        assert shown() == ["early", "probe"]
        page.locator("#set").select_option("val · probes · answer")
        assert shown() == ["probe"]
        assert page.evaluate("window.hurt") is None
        browser.close()
    assert complaints == []
