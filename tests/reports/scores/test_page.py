"""The page of scores in a real browser."""

import json
import shutil

import numpy as np
import pytest

from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import Pair
from mmattn.metrics.hallucination import ObjectWords
from mmattn.reports.scores.corpus import corpora
from mmattn.reports.scores.measure import Wanted, measure
from mmattn.reports.scores.page import score_page
from mmattn.reports.scores.result import Chance, result

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "</script><img src=x onerror=window.hurt=1>"
WORDS = ["dog", "cat", "car", "man", "boat", "tree", "ball", "road"]


def made(said, other=None):
    """A result of captions, each of an image with one reference of three words."""
    references = [
        Entry(f"{i}.jpg", (f"a {WORDS[i % 8]} {WORDS[i // 8 % 8]}",), f"{i}.jpg", str(i))
        for i in range(len(said))
    ]

    def system(captions):
        rows = zip(references, captions, strict=True)
        return [Pair(each, Entry(each.key, (text,), each.name, each.place)) for each, text in rows]

    systems = corpora([system(captions) for captions in (said, other) if captions is not None])
    objects = ObjectWords({word: [word] for word in WORDS})
    wanted = Wanted(objects=objects, fit=lambda said: {"CLIPScore": np.arange(len(said)) / 99})
    found = [measure(corpus, wanted) for corpus in systems]
    files = ["runs/first.jsonl", "runs/second.jsonl"][: len(found)]
    return result(
        "/home/me/said.json", files, systems, found, Chance(10, 10), [f"a note {HOSTILE}"]
    )


def data_of(page):
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])


def test_the_page_names_no_folder_of_this_machine(tmp_path):
    page = score_page(made(["a dog", "a cat"]), tmp_path / "page.html")
    assert "/home/me" not in page
    assert str(tmp_path) not in page
    assert data_of(page)["facts"] == "2 images of said.json, 1 references each"


def test_photos_that_are_not_there_are_told_on_the_page_and_in_the_log(tmp_path, caplog):
    page = score_page(made(["a dog", "a cat"]), tmp_path / "page.html", photos=tmp_path)
    (line,) = caplog.messages
    assert line.startswith("page.html: photos ")
    assert line.removeprefix("page.html: ") in data_of(page)["notes"]


def test_text_is_never_markup(tmp_path):
    page = score_page(made([HOSTILE, "a cat"]), tmp_path / "page.html")
    assert "<img" not in page
    assert data_of(page)["rows"][0]["caption"] == HOSTILE


@pytest.fixture
def opened(tmp_path):
    """Opens a page; fails for whatever it complains of or asks the network for."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    complaints = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def show(found, width=1200):
            path = tmp_path / "page.html"
            path.write_text(score_page(found, path), "utf-8")
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "request",
                lambda request: request.is_navigation_request() or complaints.append(request.url),
            )
            page.goto(path.as_uri())
            page.wait_for_selector("html[data-drawn]", timeout=20_000)
            return page

        yield show
        browser.close()
    assert complaints == []


def names(page):
    return page.locator("#rows .name").all_inner_texts()


def test_rows_are_sorted_searched_and_drawn_a_page_at_a_time(opened):
    said = [f"a {WORDS[i % 8]} {WORDS[i // 8 % 8] if i % 3 else 'tail'}" for i in range(120)]
    page = opened(made([HOSTILE, *said[1:]]))
    assert page.evaluate("window.hurt") is None
    assert page.inner_text("#rows .said") == HOSTILE  # nothing in common, so the worst
    playwright.expect(page.locator("#rows tr")).to_have_count(50)
    assert page.inner_text("#place") == "1 – 50 of 120"
    first = names(page)
    page.click("#on")
    assert page.inner_text("#place") == "51 – 100 of 120"
    assert not set(first) & set(names(page))
    page.click("#head button:has-text('CIDEr-D')")
    assert page.get_attribute("#head th[aria-sort]", "aria-sort") == "descending"
    scores = [float(text) for text in page.locator("#rows .sorted").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.click("#head button:has-text('CLIPScore')")
    assert names(page) == [f"{i}.jpg" for i in range(50)]
    page.fill("#search", "17.jpg")
    assert names(page) == ["17.jpg", "117.jpg"]
    page.fill("#search", "no such thing")
    assert page.is_visible("#none")
    page.fill("#search", "")
    page.select_option("#sort", "CHAIR_s")  # the worst are the highest
    assert (
        page.locator("#rows .made-up").count() == 0 or page.inner_text("#turn") == "highest first"
    )
    assert "a note </script>" in page.inner_text("#notes")


def test_two_models_and_their_difference(opened):
    page = opened(made(["a dog dog", "a boat"], ["a boat", "a cat dog"]), width=500)
    row = page.locator("#rows tr", has_text="0.jpg")
    assert row.locator(".said").all_inner_texts() == ["a dog dog", "a boat"]
    assert row.locator(".made-up").all_inner_texts() == ["boat"]
    assert row.locator("[data-title=BLEU-1]").inner_text() == "1.000"
    page.select_option("#shown", "against")
    assert float(row.locator("[data-title=BLEU-1]").inner_text()) < 0.5
    page.select_option("#shown", "difference")
    assert row.locator("[data-title=BLEU-1]").inner_text().startswith("+0.")
    assert page.locator("#rows tr").last.locator(".name").inner_text() == "0.jpg"
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 500
