"""The viewer and the gallery in a real browser: what a hand does changes what an eye sees."""

import base64
import html
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps, save_attention
from mmattn.maps.gallery import build_gallery
from mmattn.maps.geometry import Placement
from mmattn.maps.look import Look
from mmattn.maps.overlay import overlay
from mmattn.maps.viewer import save_viewer, viewer_html
from mmattn.maps.words import group_words

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
WORDS = "a small brown dog"
HOSTILE = "</script><img src=x onerror=window.hurt=1>"


def record(
    caption: str = WORDS,
    grid: tuple[int, int] = (5, 8),
    layers: int = 3,
    heads: int = 4,
    size: tuple[int, int] = (50, 80),
    **changes,
) -> AttentionRecord:
    """One token a word, random weights, an image of smooth colours; the same in every order."""
    random = np.random.default_rng(0)
    spans = tuple(match.span() for match in re.finditer(r"\S+", caption))
    raw = random.random((layers, heads, len(spans), grid[0] * grid[1]), dtype=np.float32) ** 4
    rows, columns = np.indices(size) / np.array(size)[:, None, None]
    image = np.rint(255 * np.stack([rows, columns, 1 - rows], -1)).astype(np.uint8)
    one = AttentionRecord(
        key="dog.jpg",
        caption=caption,
        offsets=spans,
        words=tuple(group_words(caption, spans)),
        cross=Layers(
            tuple(f"text.{i}.cross" for i in range(layers)), raw / raw.sum(-1, keepdims=True)
        ),
        grid=grid,
        prefix=0,
        image=image,
        placement=Placement.resize(size),
    )
    return replace(one, **changes)


@dataclass
class Viewer:
    """A page in the browser, and all it complained of or asked the network for."""

    page: playwright.Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: playwright.Request) -> None:
        if not request.is_navigation_request() and not request.url.startswith("data:"):
            self.complaints.append(request.url)

    def open(self, path: Path, *, drawn: str = "html[data-drawn]") -> "Viewer":
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(drawn, timeout=20_000)
        return self

    def settled(self) -> None:
        """Wait until two frames have passed, so that what was asked for is drawn."""
        self.page.evaluate(
            "() => new Promise(f => requestAnimationFrame(() => requestAnimationFrame(f)))"
        )

    def canvas(self, selector: str = "#overlay") -> np.ndarray:
        self.settled()
        address = self.page.eval_on_selector(selector, "canvas => canvas.toDataURL()")
        data = base64.b64decode(address.split(",")[1])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def count(self, selector: str, number: int) -> None:
        """Wait until there are so many elements."""
        playwright.expect(self.page.locator(selector)).to_have_count(number)

    def text(self, selector: str) -> str:
        self.settled()
        return self.page.inner_text(selector)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def point(self, row: float, column: float, *, click: bool = False) -> None:
        """Move to (or click) a place of the canvas, in shares of its height and width."""
        box = self.page.locator("#overlay").bounding_box()
        assert box is not None
        x, y = box["x"] + column * box["width"], box["y"] + row * box["height"]
        (self.page.mouse.click if click else self.page.mouse.move)(x, y)

    def word_colours(self) -> list[str]:
        self.settled()
        return self.page.eval_on_selector_all(
            "#sentence .word", "words => words.map(word => word.style.backgroundColor)"
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def desktop(browser) -> Viewer:
    return Viewer(browser.new_page(viewport={"width": 1200, "height": 800}, color_scheme="light"))


@pytest.fixture
def viewer(desktop) -> Iterator[Viewer]:
    """A page that must have complained of nothing and asked for nothing when the test is over."""
    desktop.complaints.clear()
    desktop.page.mouse.move(0, 0)
    yield desktop
    assert desktop.complaints == []


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("viewer") / "a.html"
    save_viewer(path, [record(references=("a dog", "some dog"))])
    return path


def test_a_page_that_asks_for_something_is_noticed(desktop, tmp_path):
    """So that the silence which every test below ends with means something."""
    (tmp_path / "a.html").write_text('<img src="http://127.0.0.1:9/x.png">')
    desktop.complaints.clear()
    desktop.open(tmp_path / "a.html", drawn="img")
    desktop.settled()
    assert "http://127.0.0.1:9/x.png" in desktop.complaints


# ---- what is drawn agrees with the numbers


def one_hot(grid: tuple[int, int], row: int, column: int) -> AttentionRecord:
    one = record("dog", grid, 1, 1)
    one.cross.weights[:] = 0
    one.cross.weights[0, 0, 0, row * grid[1] + column] = 1
    return one


def blended(image: np.ndarray, heat: float) -> np.ndarray:
    """What the pictures do: grey under inferno, opacity from 0.2 to 0.8."""
    grey = image @ np.array([0.299, 0.587, 0.114])
    colour = np.array(matplotlib.colormaps["inferno"](heat)[:3]) * 255
    opacity = 0.2 + 0.6 * heat
    return (1 - opacity) * grey[..., None] + opacity * colour


def test_a_hot_patch_lights_its_own_rectangle(viewer, tmp_path):
    """Row 3 and column 6 of a 5 x 8 grid, on 50 x 80 pixels that are drawn eight times as large."""
    one = one_hot((5, 8), 3, 6)
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html").page.select_option("#smooth", "")
    drawn = viewer.canvas()
    image = one.image.repeat(8, 0).repeat(8, 1)
    expected = blended(image, 0.0)
    hot = np.s_[240:320, 480:560]
    expected[hot] = blended(image[hot], 1.0)
    assert drawn.shape == expected.shape == (400, 640, 3)
    assert np.abs(drawn - expected).max() <= 2


def test_a_hot_patch_of_a_cropped_image_lies_where_the_network_looked(viewer, tmp_path):
    """The network saw rows 10 to 40 and columns 20 to 70 of 50 x 80: patches of 6 x 6.25 pixels."""
    placement = Placement((50, 80), (10.0, 20.0, 40.0, 70.0))
    one = replace(one_hot((5, 8), 3, 6), placement=placement)
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html").page.select_option("#smooth", "")
    drawn = viewer.canvas().astype(int)
    hot = drawn[..., 0] - drawn[..., 2] > 60  # inferno's top is yellow, the rest is grey
    rows, columns = np.nonzero(hot)
    assert (rows.min(), rows.max() + 1) == (8 * 28, 8 * 34)
    assert (columns.min(), columns.max() + 1) == (round(8 * 57.5), round(8 * 63.75))
    viewer.point((28 + 3) / 50, (57.5 + 3) / 80)
    assert "row 3, column 6 of 5 × 8: 1.0" in viewer.text("#readout")


@pytest.mark.parametrize("mode", ["nearest", "bicubic"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_picture_is_that_of_the_library(viewer, tmp_path, mode, signed):
    """Same colours, same place, same interpolation, within the 8 bits of the maps."""
    maps = np.random.default_rng(0).random((1, 5, 8)) - (0.5 if signed else 0)
    placement = Placement((50, 80), (5.0, -8.0, 45.0, 70.0))
    method = MethodMaps("some method", maps, signed)
    one = record("dog", placement=placement, methods=(method,))
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html").press("k", *(["i"] if mode == "nearest" else []))
    image = one.image.repeat(8, 0).repeat(8, 1)
    expected = overlay(image, maps[0], signed=signed, placement=placement, look=Look(mode=mode))
    difference = np.abs(viewer.canvas().astype(int) - expected.picture)
    assert difference.mean() < 0.3
    assert difference.max() <= 6  # one level of heat, where rounding falls to the other side


def test_the_numbers_are_those_of_the_map(viewer, tmp_path):
    one = record("dog", heads=1, layers=1)
    map = one.cross.weights[0, 0, 0].astype(np.float64)
    save_viewer(tmp_path / "a.html", [one])
    text = viewer.open(tmp_path / "a.html").text("#numbers")
    entropy = -(map[map > 0] * np.log2(map[map > 0])).sum()
    assert f"{map.max():.2g}" in text
    assert "1.0" in text  # the mass
    assert f"{entropy:.1f} bits, as {round(2**entropy)} even patches" in text
    viewer.point(2.5 / 5, 3.5 / 8)
    shown = float(re.findall(r"row 2, column 3 of 5 × 8: ([\d.e]+)", viewer.text("#readout"))[0])
    assert shown == pytest.approx(map[2 * 8 + 3], rel=0.06, abs=map.max() / 508)


def test_what_is_odd_about_a_map_is_said(viewer, tmp_path):
    one = record("even odd", layers=1, heads=1)
    one.cross.weights[0, 0, 0] = 1 / 40
    one.cross.weights[0, 0, 1, :3] = np.nan
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    viewer.page.click("text=even >> nth=0")
    assert "constant: every patch has 0.025" in viewer.text("#flags")
    viewer.page.click("text=odd >> nth=0")
    assert "3 of 40 values are not finite" in viewer.text("#flags")
    assert "constant" not in viewer.text("#flags")
    drawn = viewer.canvas().astype(int)
    magenta = (drawn == (214, 40, 150)).all(-1)
    assert magenta[:80, :240].mean() > 0.3
    assert not magenta[80:].any()


def test_small_but_real_differences_are_not_called_constant(viewer, tmp_path):
    one = record("even odd odd", layers=1, heads=1)
    one.cross.weights[:] = 1 / 40
    one.cross.weights[0, 0, 1:, 7] *= 1.001  # all levels of the page are the top one
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    viewer.page.click("text=even >> nth=0")
    assert "constant" in viewer.text("#flags")
    viewer.page.click("text=odd >> nth=0")
    viewer.settled()
    assert viewer.page.locator("#flags").is_hidden()
    viewer.press("k")
    viewer.settled()
    assert "less the mean" in viewer.page.inner_text("#kind option:checked")
    assert viewer.page.locator("#flags").is_hidden()


def test_words_with_one_map_are_flat_without_their_mean(viewer, tmp_path):
    one = record("one map of three", layers=1, heads=1)
    one.cross.weights[:] = one.cross.weights[:, :, :1]
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    viewer.settled()
    assert viewer.page.locator("#flags").is_hidden()
    viewer.press("k")
    assert viewer.text("#flags") == "constant: every patch has 0"


# ---- hands


def test_words_answer_to_pointer_and_keys(viewer, example):
    viewer.open(example)
    viewer.page.click("#sentence .word >> nth=0")
    first = viewer.canvas()
    viewer.page.hover("#sentence .word >> nth=3")
    assert viewer.text("#what").startswith("dog")
    hovered = viewer.canvas()
    assert (hovered != first).any()
    viewer.page.mouse.move(5, 5)
    np.testing.assert_array_equal(viewer.canvas(), first)
    viewer.press("ArrowLeft")  # around the end
    np.testing.assert_array_equal(viewer.canvas(), hovered)
    viewer.press("ArrowRight", "ArrowRight")
    assert viewer.text("#what").startswith("small")
    pressed = "words => words.map(word => word.getAttribute('aria-pressed'))"
    assert viewer.page.eval_on_selector_all("#sentence .word", pressed).index("true") == 1
    assert "small, layer 2, mean over heads: peak" in viewer.text("#spoken")


def test_layers_and_heads_answer_to_keys_lists_and_thumbnails(viewer, example):
    viewer.open(example)
    seen = {viewer.text("#what"): viewer.canvas()}
    for key in ("ArrowUp", "ArrowDown", "ArrowDown", "ArrowUp", "]", "]", "[", "2", "m", "a"):
        viewer.press(key)
        seen.setdefault(viewer.text("#what"), viewer.canvas())
    places = [what.split(" · ")[1] for what in seen]
    assert places == [
        "layer 2, mean over heads",
        "layer 1, mean over heads",
        "mean of all layers",
        "layer 2, head 0",
        "layer 2, head 1",
        "layer 2, head 2",
    ]
    assert len({canvas.tobytes() for canvas in seen.values()}) == len(seen)
    viewer.page.select_option("#layer", "2")
    viewer.page.select_option("#head", "1")
    at = next(what for what in seen if "layer 2, head 1" in what)
    np.testing.assert_array_equal(viewer.canvas(), seen[at])
    viewer.press("m")
    viewer.page.hover('[data-key="2/1"]')
    np.testing.assert_array_equal(viewer.canvas(), seen[at])
    viewer.page.click('[data-key="1/null"]')
    assert "layer 1, mean over heads" in viewer.text("#what")


def test_a_thumbnail_is_the_map_itself(viewer, tmp_path):
    save_viewer(tmp_path / "a.html", [one_hot((5, 8), 1, 2)])
    viewer.open(tmp_path / "a.html")
    cells = viewer.canvas('[data-key="0/0"] canvas')
    assert cells.shape == (5, 8, 3)
    lit = cells.sum(-1) > 300
    assert np.argwhere(lit).tolist() == [[1, 2]]


def test_a_patch_shows_which_words_looked_at_it(viewer, tmp_path):
    one = record(layers=1, heads=1)
    one.cross.weights[:] = 1e-3
    one.cross.weights[0, 0, 2, 3 * 8 + 6] = 0.5
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    assert viewer.word_colours() == [""] * 4
    viewer.point(3.5 / 5, 6.5 / 8, click=True)
    viewer.page.mouse.move(5, 5)
    colours = viewer.word_colours()
    hottest = [round(255 * part) for part in matplotlib.colormaps["inferno"](255)[:3]]
    assert colours[2] == f"rgb({', '.join(map(str, hottest))})"
    assert len({*colours[:2], colours[3]}) == 1
    assert "Looked at most by: brown 0.50" in viewer.text("#readout")
    frame = viewer.page.locator("#pinned").bounding_box()
    box = viewer.page.locator("#overlay").bounding_box()
    assert frame is not None
    assert box is not None
    assert frame["x"] - box["x"] == pytest.approx(box["width"] * 6 / 8, abs=1)
    assert frame["y"] - box["y"] == pytest.approx(box["height"] * 3 / 5, abs=1)
    viewer.press("Escape")
    assert viewer.word_colours() == [""] * 4


def test_patches_can_be_chosen_without_a_pointer(viewer, example):
    viewer.open(example)
    viewer.page.focus("#overlay")
    viewer.press("ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft")  # from the middle, stops at the top
    assert "row 0, column 3 of 5 × 8" in viewer.text("#readout")
    viewer.press("Enter")
    assert all(viewer.word_colours())


def test_opacity_scale_and_interpolation_change_the_picture(viewer, example):
    viewer.open(example)
    usual = viewer.canvas()
    seen = [usual]
    for key in ("-", "i", "s"):
        viewer.press(key)
        seen.append(viewer.canvas())
    assert len({canvas.tobytes() for canvas in seen}) == 4
    assert "All from 0 to" in viewer.text("#panel-note")
    viewer.press("o")
    np.testing.assert_array_equal(viewer.canvas(), record().image.repeat(8, 0).repeat(8, 1))
    viewer.press("o", "+", "i", "s")
    np.testing.assert_array_equal(viewer.canvas(), usual)
    viewer.page.fill("#opacity", "0.4")
    assert (viewer.canvas() != usual).any()


def test_kinds_and_comparisons(viewer, tmp_path):
    random = np.random.default_rng(0)
    soft = random.random((1, 2, 40, 40)).astype(np.float32)
    one = record(
        text_self=Layers(("text.0.self",), np.tril(random.random((1, 4, 4, 4))).astype(np.float32)),
        vision_self=Layers(("vision.0.self",), soft / soft.sum(-1, keepdims=True)),
        methods=(MethodMaps("gradient", random.standard_normal((4, 5, 8)), True),),
    )
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    kinds = viewer.page.eval_on_selector_all("#kind option", "all => all.map(one => one.text)")
    assert kinds == [
        "cross-attention",
        "cross-attention, less the mean over words",
        "gradient",
        "gradient, less the mean over words",
        "image self-attention of a patch",
    ]
    pictures = []
    for i in range(len(kinds)):
        viewer.page.select_option("#kind", str(i))
        pictures.append(viewer.canvas())
    assert len({picture.tobytes() for picture in pictures}) == len(kinds)
    viewer.point(0.1, 0.1)
    assert viewer.text("#what").startswith("patch at row 0, column 0")
    assert (viewer.canvas() != pictures[-1]).any()
    viewer.page.select_option("#kind", "0")
    assert "layer 2" in viewer.text("#what")  # as before
    for tab, cells in (("words", 4), ("table", 16), ("text", 16)):
        viewer.page.click(f"#tab-{tab}")
        found = {"words": ".word-cell canvas", "table": ".figures button", "text": ".matrix td"}
        viewer.count(f"#panel {found[tab]}", cells + (tab == "text"))


def test_a_button_that_is_pressed_while_the_page_is_drawn_is_clicked(viewer, example):
    viewer.open(example)
    drawn = "() => document.documentElement.dataset.drawn"
    for selector in ("#tab-words", "#panel .word-cell:nth-child(2)"):
        viewer.page.hover(selector)
        viewer.settled()
        before = viewer.page.evaluate(drawn)
        viewer.page.mouse.down()
        viewer.press("+")
        viewer.settled()
        assert viewer.page.evaluate(drawn) == before  # it waits
        viewer.page.mouse.up()
        viewer.settled()
        assert viewer.page.evaluate(drawn) != before
    assert viewer.page.get_attribute("#tab-words", "aria-selected") == "true"
    pressed = viewer.page.eval_on_selector_all(
        "#panel .word-cell", "all => all.map(cell => cell.getAttribute('aria-pressed'))"
    )
    assert pressed[:3] == ["false", "true", "false"]


def test_help_opens_and_closes_by_key(viewer, example):
    viewer.open(example)
    viewer.press("?")
    assert viewer.page.is_visible("#help")
    assert viewer.text("#what")
    viewer.press("Escape")
    assert not viewer.page.is_visible("#help")


def test_keys_reach_everything_in_order_and_focus_is_seen(viewer, example):
    viewer.open(example)
    reached = []
    for _ in range(14):
        viewer.press("Tab")
        reached.append(
            viewer.page.evaluate(
                "() => { const at = document.activeElement; const name = at.id || at.classList[0];"
                "return [name || at.tagName, getComputedStyle(at).outlineStyle] }"
            )
        )
    names = [name for name, _ in reached]
    expected = [
        "open-help",
        "word",
        "SUMMARY",
        "overlay",
        "kind",
        "layer",
        "head",
        "shared",
        "smooth",
        "opacity",
        "tab-heads",
    ]
    assert names[: len(expected)] == expected
    assert all(style != "none" for _, style in reached[: len(expected)])


# ---- captions, steps, and what may be wrong with them


def test_steps_of_an_image_have_a_slider(viewer, tmp_path):
    captions = ["a dog", "a small dog", "a small brown dog"]
    records = [record(caption, step=10 * i) for i, caption in enumerate(captions)]
    save_viewer(tmp_path / "a.html", records)
    viewer.open(tmp_path / "a.html")
    assert viewer.text("#sentence") == captions[2]  # the last
    viewer.page.click("#sentence .word >> nth=3")
    viewer.page.fill("#pick", "0")
    viewer.count("#sentence .word", 2)
    assert viewer.text("#what").startswith("dog")  # the same word at another place
    assert "step 0" in viewer.text("#facts")
    viewer.page.evaluate("document.activeElement.blur()")
    viewer.press(".")
    viewer.count("#sentence .word", 3)


def test_text_of_data_does_nothing_but_appear(viewer, tmp_path):
    one = record(HOSTILE, key=HOSTILE, references=(HOSTILE,))
    save_viewer(tmp_path / "a.html", [one, record()])
    viewer.open(tmp_path / "a.html")
    assert viewer.text("#key") == HOSTILE
    assert viewer.text("#sentence") == HOSTILE
    assert viewer.page.locator("img").count() == 0
    assert viewer.page.evaluate("window.hurt") is None


def test_an_empty_caption_shows_the_image(viewer, tmp_path):
    one = record("")
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html")
    assert "no word" in viewer.text("#sentence")
    np.testing.assert_array_equal(viewer.canvas(), one.image.repeat(8, 0).repeat(8, 1))
    viewer.press("ArrowRight", "ArrowUp", "]", "3", "s", "k", "t")
    viewer.point(0.5, 0.5, click=True)
    assert viewer.text("#numbers") == ""


def test_a_browser_that_is_too_old_is_told_so(browser, example):
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(example.as_uri())
    page.wait_for_selector("#message:visible")
    assert "DecompressionStream" in page.inner_text("#message")
    page.close()


# ---- places


def test_a_phone_has_no_sideways_scroll(browser, tmp_path):
    caption = " ".join(f"{'long' * (i % 4)}word{i}" for i in range(32))
    wide = record(caption, layers=6, heads=16, key="a" * 80, references=("b" * 90,))
    save_viewer(tmp_path / "a.html", [wide, replace(wide, step=3)])
    context = browser.new_context(
        viewport={"width": 375, "height": 667}, has_touch=True, is_mobile=True
    )
    viewer = Viewer(context.new_page()).open(tmp_path / "a.html")
    for tab in ("heads", "words", "table"):
        viewer.page.tap(f"#tab-{tab}")
        viewer.settled()
        assert viewer.page.evaluate("document.documentElement.scrollWidth") == 375, tab
    before = viewer.canvas()
    viewer.page.tap("#sentence .word >> nth=20")
    assert (viewer.canvas() != before).any()
    viewer.page.tap("#overlay")
    assert all(viewer.word_colours())
    context.close()


@pytest.fixture
def phone(browser) -> Iterator[Viewer]:
    """As `viewer`, on a small phone."""
    size = {"width": 360, "height": 740}
    context = browser.new_context(viewport=size, has_touch=True, is_mobile=True)
    made = Viewer(context.new_page())
    yield made
    assert made.complaints == []
    context.close()


RECTANGLES = """all => all.map(one => {
  const { left, right, top, bottom } = one.getBoundingClientRect();
  return [left, right, top, bottom];
})"""


@pytest.mark.parametrize("tab", ["heads", "table"])
def test_a_phone_shows_the_chosen_head_and_cells_side_by_side(phone, tmp_path, tab):
    save_viewer(tmp_path / "a.html", [record(heads=12)])
    phone.open(tmp_path / "a.html").page.tap(f"#tab-{tab}")
    phone.settled()
    row = phone.page.eval_on_selector_all('.layers [data-key^="2/"]', RECTANGLES)
    assert len(row) == 13
    assert all(one[1] <= two[0] for one, two in pairwise(row))
    fit = "all => all.every(button => button.scrollWidth <= button.clientWidth)"
    assert phone.page.eval_on_selector_all(".layers button", fit)
    for key in ("2/null", "2/0"):
        phone.page.evaluate("key => document.querySelector(`[data-key='${key}']`).click()", key)
        phone.settled()
        ((left, right, _, _),) = phone.page.eval_on_selector_all(
            f'.layers [data-key="{key}"]', RECTANGLES
        )
        ((start, end, _, _),) = phone.page.eval_on_selector_all("#panel .scroll", RECTANGLES)
        ((_, names, _, _),) = phone.page.eval_on_selector_all("td:text-is('layer')", RECTANGLES)
        assert start <= names <= left < right <= end


def test_a_tall_image_is_seen_whole(phone, tmp_path):
    save_viewer(tmp_path / "a.html", [record(grid=(16, 4), size=(500, 120))])
    phone.open(tmp_path / "a.html").page.tap("#tab-words")
    phone.settled()
    for selector, most in (("#overlay", 0.7 * 740), (".word-cell canvas", 160)):
        left, right, top, bottom = phone.page.eval_on_selector_all(selector, RECTANGLES)[0]
        assert bottom - top <= most
        assert (bottom - top) / (right - left) == pytest.approx(500 / 120, rel=0.05)


def test_borders_of_patches_are_drawn_where_there_is_room(phone, tmp_path):
    for grid, hidden in (((14, 14), False), ((45, 45), True)):
        save_viewer(tmp_path / "a.html", [record(grid=grid, layers=1, heads=1, size=(80, 80))])
        phone.open(tmp_path / "a.html").page.focus("#overlay")
        phone.settled()
        assert phone.page.locator("#lines").is_hidden() == hidden


def test_help_opens_at_its_top_with_close_in_sight(phone, example):
    phone.open(example).page.tap("#open-help")
    assert phone.page.evaluate("document.getElementById('help').scrollTop") == 0
    for selector in ("#help-title", "#help button"):
        _, _, top, bottom = phone.page.eval_on_selector_all(selector, RECTANGLES)[0]
        assert 0 <= top < bottom <= 740
    phone.page.tap("#help button")
    assert not phone.page.is_visible("#help")


def test_the_map_stays_in_sight_beside_many_words(viewer, tmp_path):
    save_viewer(tmp_path / "a.html", [record("a b c d e f " * 20, size=(80, 80))])
    viewer.open(tmp_path / "a.html").page.click("#tab-words")
    viewer.page.hover(".word-cell >> nth=119")
    viewer.settled()
    assert viewer.page.evaluate("scrollY") > 500
    _, _, top, bottom = viewer.page.eval_on_selector_all("#overlay", RECTANGLES)[0]
    assert 0 <= top < bottom <= 800


def test_words_from_right_to_left_stand_and_move_so(viewer, tmp_path):
    words = "\u05db\u05dc\u05d1 \u05e7\u05d8\u05df \u05e8\u05e5"
    save_viewer(tmp_path / "a.html", [record(words, references=(words,))])
    viewer.open(tmp_path / "a.html").page.click("#sentence .word >> nth=0")
    places = viewer.page.eval_on_selector_all("#sentence .word", RECTANGLES)
    assert places[0][0] > places[1][0] > places[2][0]
    viewer.press("ArrowLeft")
    assert viewer.text("#what").startswith(words.split()[1])
    viewer.press("ArrowRight", "ArrowRight")
    assert viewer.text("#what").startswith(words.split()[2])


def luminance(colour: str) -> float:
    """Relative luminance of rgb(…) (WCAG 2.2)."""
    shares = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_words_can_be_read_on_every_colour(viewer, tmp_path):
    one = record(" ".join("abcdefgh" * 8), layers=1, heads=1)
    one.cross.weights[0, 0, :, 20] = np.linspace(0, 1, 64)
    save_viewer(tmp_path / "a.html", [one])
    viewer.open(tmp_path / "a.html").point(2.5 / 5, 4.5 / 8, click=True)
    viewer.settled()
    pairs = viewer.page.eval_on_selector_all(
        "#sentence .word", "all => all.map(({ style }) => [style.backgroundColor, style.color])"
    )
    assert len({ground for ground, _ in pairs}) > 60
    for ground, ink in pairs:
        dark, light = sorted((luminance(ground), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_focus_is_seen_on_the_chosen_thumbnail(viewer, example):
    viewer.open(example)
    outline = "() => getComputedStyle(document.querySelector('[data-key=\"2/null\"]')).outline"
    chosen = viewer.page.evaluate(outline)
    viewer.page.focus("#tab-heads")
    viewer.press("Tab")
    assert viewer.page.evaluate("document.activeElement.dataset.key") == "2/null"
    assert viewer.page.evaluate(outline) != chosen


def test_the_gallery_flags_odd_maps(viewer, tmp_path):
    one = record("even odd fine", layers=1, heads=1)
    one.cross.weights[0, 0, 0] = 1 / 40
    one.cross.weights[0, 0, 1, :3] = np.nan
    save_attention(tmp_path / "a.npz", one)
    viewer.open(build_gallery(tmp_path).page, drawn=".strip canvas")
    cells = viewer.page.locator(".strip a").all_inner_texts()
    assert [text.split() for text in cells] == [
        ["image"], ["even", "constant"], ["odd", "not", "finite"], ["fine"],
    ]  # fmt: skip
    assert "3 of 40 values" in (viewer.page.get_attribute(".strip a >> nth=2", "title") or "")


def test_it_works_in_a_sandboxed_frame(viewer, tmp_path):
    """As trackers show it: an opaque origin, scripts and nothing else allowed."""
    inside = html.escape(viewer_html([record()]))
    outer = (
        f'<!DOCTYPE html><iframe sandbox="allow-scripts" srcdoc="{inside}" '
        'width="900" height="700"></iframe>'
    )
    (tmp_path / "outer.html").write_text(outer, "utf-8")
    viewer.open(tmp_path / "outer.html", drawn="iframe")
    frame = viewer.page.frames[1]
    frame.wait_for_selector("html[data-drawn]")
    get = "() => document.getElementById('overlay').toDataURL()"
    before = frame.evaluate(get)
    frame.click("#sentence .word >> nth=0")
    viewer.press("ArrowLeft", "1")
    playwright.expect(frame.locator("#what")).to_contain_text("head 1")
    assert frame.evaluate(get) != before
    frame.click("#open-help")
    assert frame.is_visible("#help")


def test_the_largest_case_opens(viewer, tmp_path):
    """6 layers, 12 heads, 32 words and 196 patches, with a photo's worth of pixels."""
    caption = " ".join(f"word{i}" for i in range(32))
    large = record(caption, (14, 14), 6, 12, (480, 512))
    save_viewer(tmp_path / "a.html", [large])
    assert (tmp_path / "a.html").stat().st_size <= 1_500_000
    viewer.open(tmp_path / "a.html")
    assert viewer.page.locator(".layers canvas").count() == 6 * 13 + 1
    before = viewer.canvas()
    viewer.press("ArrowRight", "5")
    assert (viewer.canvas() != before).any()


def test_the_gallery_leads_through_steps_to_viewers(viewer, tmp_path):
    for step in (10, 200):
        one = record("a dog" if step == 10 else WORDS, step=step)
        save_attention(tmp_path / f"attention/step-{step:06d}/dog.npz", one)
        if step == 200:
            save_attention(tmp_path / "attention/step-000200/late#1.npz", replace(one, key=HOSTILE))
    (tmp_path / "attention/bad<b>.npz").write_bytes(b"")
    gallery = build_gallery(tmp_path)
    viewer.open(gallery.page, drawn=".strip canvas")
    viewer.count(".strip canvas", 10)
    said = "all => all.map(one => one.textContent)"
    assert viewer.page.eval_on_selector_all(".said", said) == [WORDS, WORDS]
    assert HOSTILE in viewer.text("#cards")
    assert "1 file left out" in viewer.text("#unreadable")
    viewer.page.fill("#pick", "0")
    viewer.count(".strip canvas", 3)
    assert viewer.page.eval_on_selector_all(".said", said) == [
        "a dog",
        "not drawn yet at this step",
    ]
    viewer.page.fill("#search", "hurt")
    assert viewer.page.locator(".card:visible").count() == 1
    viewer.page.fill("#search", "")
    viewer.page.click(".card a >> nth=0")
    viewer.page.wait_for_selector("html[data-drawn]")
    assert viewer.text("#facts").startswith("step 10")
    assert viewer.text("#sentence") == "a dog"
    viewer.page.click("#home a")
    viewer.page.wait_for_selector(".strip canvas")
