"""The page of a decision: closed to the network, and what a hand does changes what an eye sees."""

import base64
import html
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmattn.maps.decision_archive import save_decision
from mmattn.maps.decision_record import ExplainedClass
from mmattn.maps.gallery import build_gallery
from mmattn.maps.geometry import Placement
from mmattn.maps.overlay import overlay
from mmattn.maps.scale import number
from mmattn.maps.viewer.decision_page import decision_page, save_decision_page

CLASSES = (ExplainedClass("answer", "yes", 0.7), ExplainedClass("answer", "no", 0.2))
HOSTILE = "</script><img src=x onerror=window.hurt=1>"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def data_of(page):
    return json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])


# ---- the file


def test_a_page_holds_the_classes_and_asks_for_nothing(make_decision):
    page = decision_page([make_decision(images=2)])
    assert "default-src 'none'" in html.unescape(page)
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    (one,) = data_of(page)["decisions"]
    assert [head["name"] for head in one["heads"]] == ["answer", "traits"]
    assert [each["label"] for each in one["heads"][0]["classes"]] == ["yes", "no"]
    assert one["words"] == ["is", "it", "a", "dog?"]
    assert len(data_of(page)["images"]) == 1  # both images are the same one


def test_no_text_of_data_becomes_markup(make_decision):
    classes = [ExplainedClass(HOSTILE, HOSTILE, 0.5)]
    page = decision_page([make_decision(text=f"is {HOSTILE}", classes=classes, key=HOSTILE)])
    assert "<img" not in page


def test_images_are_made_smaller_where_a_page_must_be_small(make_decision):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    record = make_decision(size=(400, 400))
    seen = replace(record.images[0], image=noise, placement=Placement.resize((400, 400)))
    record = replace(record, images=(seen,))
    page = decision_page([record], budget_mb=0.12)
    assert len(page.encode()) <= 120_000
    assert "of its 400 × 400 pixels" in data_of(page)["decisions"][0]["notes"][0]
    with pytest.raises(ValueError, match=r"even with small images, and the budget is 0\.01 MB"):
        decision_page([record], budget_mb=0.01)
    with pytest.raises(ValueError, match="needs at least one"):
        decision_page([])


# ---- in a folder


def test_a_folder_of_decisions_is_a_gallery(make_decision, tmp_path):
    save_decision(tmp_path / "photos" / "dog.npz", make_decision())
    save_decision(tmp_path / "text.npz", make_decision(images=0, key="input 0"))
    gallery = build_gallery(tmp_path)
    assert (len(gallery.viewers), gallery.unreadable) == (2, ())
    groups = data_of(gallery.page.read_text())["groups"]
    text, photo = groups
    assert photo["entries"][0]["caption"] == "is it a dog? → yes 0.70, old 0.60"
    assert photo["entries"][0]["words"] == ["yes 0.70", "no 0.20", "old 0.60"]
    assert (text["image"], "table" in text["entries"][0]) == (None, False)
    assert all('id="heads"' in page.read_text() for page in gallery.viewers)


def test_a_gallery_of_decisions_of_training_says_what_is_right(make_decision, tmp_path):
    """As of a part of a run; of the run itself there is one page, see `decision_gallery`."""
    record = make_decision(classes=CLASSES, truth="no", wrong=True, set="val", why="mistake")
    for step in (1, 2):
        save_decision(tmp_path / f"step-{step}" / "mistakes" / "dog.npz", record)
    (group,) = data_of(build_gallery(tmp_path).page.read_text())["groups"]
    assert group["set"] == "mistakes"
    assert [(one["step"], one["caption"]) for one in group["entries"]] == [
        (step, "is it a dog? → yes 0.70 (truth: no)") for step in (1, 2)
    ]


def test_kinds_that_meet_in_one_image_are_said(make_decision, tmp_path):
    from mmattn.maps.archive import AttentionRecord, Layers, save_attention

    image = np.zeros((8, 8, 3), np.uint8)
    weights = Layers(("text.0.cross",), np.ones((1, 1, 1, 4), np.float32) / 4)
    caption = AttentionRecord(
        "a", "dog", ((0, 3),), (), weights, (2, 2), 0, image, Placement.resize((8, 8))
    )
    save_attention(tmp_path / "step-1" / "a.npz", caption)
    save_decision(tmp_path / "step-2" / "a.npz", make_decision())
    gallery = build_gallery(tmp_path)
    assert len(gallery.viewers) == 1
    assert "1 of 2 files hold another kind of map than the last" in gallery.unreadable[0]


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open the page of decisions; it must have complained of nothing when the test is over."""
    page = browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light")
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def open_page(*records):
        save_decision_page(tmp_path / "a.html", records)
        page.goto((tmp_path / "a.html").as_uri())
        page.wait_for_selector("html[data-drawn]", timeout=20_000)
        return page

    yield open_page
    page.close()
    assert complaints == []


def settled(page):
    page.evaluate("() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))")


def canvas(page, selector=".frame canvas"):
    settled(page)
    address = page.eval_on_selector(selector, "canvas => canvas.toDataURL()")
    data = base64.b64decode(address.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def tints(page):
    settled(page)
    return page.eval_on_selector_all(
        "#sentence .part", "all => all.map(e => e.style.backgroundColor)"
    )


@needs_browser
def test_the_chosen_class_is_what_images_and_words_show(opened, make_decision):
    record = make_decision()
    page = opened(record)
    image = record.images[0].image.repeat(8, 0).repeat(8, 1)
    first, words = canvas(page), tints(page)
    for place, drawn in ((0, first), (1, None)):
        if drawn is None:
            page.click(".class >> nth=1")
            drawn = canvas(page)
        wanted = overlay(image, record.image_relevance[place, 0]).picture
        assert np.abs(drawn - wanted).mean() < 0.5
    assert tints(page) != words
    assert "no 0.200 · answer, relevance" in page.inner_text("#what")
    page.keyboard.press("ArrowDown")
    settled(page)
    assert page.inner_text("#what").startswith("old 0.600")
    assert page.get_attribute(".class >> nth=2", "aria-pressed") == "true"
    page.keyboard.press("ArrowDown")
    assert np.abs(canvas(page) - first).max() == 0  # around to the first


@needs_browser
def test_the_numbers_are_those_of_the_class(opened, make_decision):
    record = make_decision()
    page = opened(record)
    shown = page.inner_text("#numbers")
    assert f"sum {number(float(record.image_relevance[0].sum()))}" in shown
    assert f"peak {number(float(record.word_relevance[0].max()))}" in shown
    worth = record.text_relevance[0, 0] + record.text_relevance[0, -1]
    assert number(float(worth)) in shown
    box = page.locator(".frame canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 3.5 / 8, box["y"] + box["height"] * 2.5 / 5)
    settled(page)
    assert page.inner_text("#readout").startswith("image, row 2, column 3: ")


@needs_browser
def test_a_class_less_the_mean_over_classes_has_signs(opened, make_decision):
    record = make_decision()
    page = opened(record)
    page.keyboard.press("k")
    maps = record.image_relevance[:2, 0]
    image = record.images[0].image.repeat(8, 0).repeat(8, 1)
    wanted = overlay(image, maps[0] - maps.mean(0), signed=True).picture
    assert np.abs(canvas(page) - wanted).mean() < 1
    assert "less the mean over classes" in page.inner_text("#what")
    assert page.inner_text("#low").startswith("−")
    page.click(".class >> nth=2")  # alone in its head: there is no mean to take off
    settled(page)
    assert page.inner_text("#what").endswith("traits, relevance")
    assert (page.is_disabled("#relative"), page.input_value("#relative")) == (True, "")
    page.keyboard.press("k")  # nothing to choose here; what was chosen stays for other heads
    page.click(".class >> nth=0")
    settled(page)
    assert "less the mean over classes" in page.inner_text("#what")


@needs_browser
@pytest.mark.parametrize("kind", [{"images": 0}, {"text": None}, {"images": 2}, {"text": ""}])
def test_what_an_input_lacks_has_no_place(opened, make_decision, kind):
    page = opened(make_decision(**kind))
    images, text = kind.get("images", 1), kind.get("text", "is it a dog?")
    assert page.locator(".frame").count() == images
    assert page.is_visible("#text") is (text is not None)
    assert page.is_visible("#tokens") is (text is not None)
    assert page.is_visible(".scale") is bool(images)
    assert page.locator("#sentence .part").count() == len((text or "").split())


@needs_browser
def test_what_is_right_and_what_is_missing_is_said(opened, make_decision):
    classes = [CLASSES[0], replace(CLASSES[1], role="right")]
    page = opened(make_decision(classes=classes, images=0, missing=("image",), truth="no"))
    assert page.inner_text("#facts") == "6 tokens · its image is missing · truth: no"
    assert page.locator(".class").all_inner_texts()[1].startswith("no · right")


@needs_browser
def test_steps_of_one_input_are_chosen_from(opened, make_decision):
    early, late = (make_decision(step=step) for step in (100, 200))
    page = opened(early, replace(late, classes=(early.classes[1], *early.classes[::2])))
    assert page.inner_text("#facts").startswith("step 200")
    page.click(".class >> nth=0")
    page.mouse.move(0, 0)  # else it looks at whatever class comes to lie below it
    page.keyboard.press(",")
    page.locator(
        "#facts", has_text="step 100"
    ).wait_for()  # the page's policy lets nothing poll in it
    settled(page)
    assert page.inner_text("#what").startswith("no 0.200")  # the same class there
