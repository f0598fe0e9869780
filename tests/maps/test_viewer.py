"""The viewer's file: small, closed to the network and to markup in data, true to the numbers."""

import base64
import hashlib
import io
import json
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmattn.maps.archive import AttentionRecord, Layers, MethodMaps
from mmattn.maps.geometry import Placement
from mmattn.maps.viewer import save_viewer, viewer_html
from mmattn.maps.viewer.payload import Detail, between, data_address, payload, planes
from mmattn.maps.viewer.tables import (
    CONSTANT,
    CONSTANT_LESS_MEAN,
    NOT_A_NUMBER,
    Tables,
    flags,
    statistics,
)
from mmattn.maps.words import group_words

RNG = np.random.default_rng(0)
HOSTILE = "</script><img src=x onerror=alert(1)><!-- & \u2028 \ud800 ' \" ]]>"


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32)


def record(
    caption: str = "a snowy owl",
    grid: tuple[int, int] = (3, 5),
    layers: int = 2,
    heads: int = 3,
    prefix: int = 2,
    side: int = 40,
) -> AttentionRecord:
    """One token a word; random weights; a noisy image, the worst case for its size."""
    spans = tuple(match.span() for match in re.finditer(r"\S+", caption))
    keys = prefix + grid[0] * grid[1]
    return AttentionRecord(
        key="owl.jpg",
        caption=caption,
        offsets=spans,
        words=tuple(group_words(caption, spans)),
        cross=Layers(
            tuple(f"text.{i}.cross" for i in range(layers)),
            softmax(2 * RNG.standard_normal((layers, heads, len(spans), keys))),
        ),
        grid=grid,
        prefix=prefix,
        image=RNG.integers(0, 256, (side, side, 3), dtype=np.uint8),
        placement=Placement.resize((side, side)),
    )


class Elements(HTMLParser):
    """The elements of a page, and the text of its scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in self.texts else None
        if self._inside:
            self.texts[self._inside].append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.texts[self._inside][-1] += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


def data_of(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def unpacked(page: str, index: int = 0) -> tuple[dict, np.ndarray, np.ndarray]:
    """A caption's JSON, and its statistics [R, 4] and levels as a browser reads them."""
    about = data_of(page)["captions"][index]
    (block,) = re.findall(rf'id="block-{about["block"]}">([^<]*)<', page)
    raw = zlib.decompress(base64.b64decode(block))
    split = 16 * about["rows"]
    return about, np.frombuffer(raw[:split], "<f4").reshape(-1, 4), np.frombuffer(raw[split:], "u1")


def shown_maps(page: str, kind: dict) -> np.ndarray:
    """The maps [rows, columns] of a kind, decoded by hand from what `tables.py` promises."""
    _, statistic, levels = unpacked(page)
    table = kind["table"]
    rows, columns = table["rows"], table["columns"]
    cells = levels[table["cell"] :][: rows * columns].reshape(rows, columns).astype(np.float64)
    scale = statistic[table["row"] :][:rows, :1]
    values = (cells - 127) / 127 * scale if table["signed"] else cells / 254 * scale
    return np.where(cells == NOT_A_NUMBER, np.nan, values)


# ---- closed to the network and to markup


def test_the_file_needs_nothing_else():
    page = viewer_html([record()])
    assert re.findall(r"(?i)https?:|//\w+\.\w+", page) == []
    elements = Elements(page)
    loading = {"src", "href", "srcset", "data", "action", "poster", "background"}
    assert [found for found in elements.found if loading & found[1].keys()] == []
    assert {"link", "iframe", "object", "embed", "base"} & {
        tag for tag, _ in elements.found
    } == set()
    assert re.findall(r"(?i)url\(|@import|@font-face", elements.texts["style"][0]) == []


def test_the_policy_allows_exactly_its_own_script_and_style():
    elements = Elements(viewer_html([record()]))
    (policy,) = [
        meta["content"]
        for meta in elements.tags("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    running = [
        text
        for text, attributes in zip(elements.texts["script"], elements.tags("script"), strict=True)
        if "type" not in attributes
    ]
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(elements.texts["style"][0]),
        "script-src": digest(*running),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert [tag for tag, attributes in elements.found if "style" in attributes] == []


def test_text_of_data_is_never_markup():
    hostile = replace(
        record(HOSTILE),
        key=HOSTILE,
        references=(HOSTILE,),
        methods=(MethodMaps(HOSTILE, np.ones((len(record(HOSTILE).offsets), 3, 5))),),
    )
    page = viewer_html([hostile])
    page.encode()
    plain = Elements(viewer_html([record()]))
    elements = Elements(page)
    assert [tag for tag, _ in elements.found] == [tag for tag, _ in plain.found]
    assert elements.tags("img") == []
    about = data_of(page)["captions"][0]
    assert (about["key"], about["caption"], about["references"]) == (HOSTILE, HOSTILE, [HOSTILE])
    assert about["kinds"][1]["title"] == HOSTILE
    assert elements.texts["title"][0].startswith(HOSTILE.replace("\ud800", "?"))


def test_scripts_insert_text_only_and_ask_for_nothing():
    folder = files("mmattn.maps.viewer")
    code = "\n".join(f.read_text() for f in folder.iterdir() if f.name.endswith(".js"))
    assert len(code) > 10_000
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|fetch\(|"
        r"XMLHttp|WebSocket|localStorage|sessionStorage|cookie|import\(|</|<!--|window\.(top|parent)"
    )
    assert re.findall(forbidden, code) == []


# ---- true to the numbers


def test_maps_are_within_half_a_level_of_the_exact_ones():
    one = record()
    page = viewer_html([one])
    about, statistic, _ = unpacked(page)
    (kind,) = about["kinds"]
    patches = one.cross.weights[..., one.prefix :].astype(np.float64)
    rows = []
    for layer in patches:
        rows += [*layer, layer.mean(0)]
    exact = np.concatenate([*rows, patches.mean((0, 1))])  # [(2 * 4 + 1) * 3, 15]
    shown = shown_maps(page, kind)
    assert shown.shape == exact.shape == (27, 15)
    bound = exact.max(-1, keepdims=True) / 508
    assert (np.abs(shown - exact) <= bound * (1 + 1e-3)).all()
    assert statistic[:, 1] == pytest.approx(exact.max(-1), rel=1e-6)
    assert statistic[:, 2] == pytest.approx(exact.sum(-1), rel=1e-6)
    shares = exact / exact.sum(-1, keepdims=True)
    assert statistic[:, 3] == pytest.approx(-(shares * np.log2(shares)).sum(-1), rel=1e-5)


def test_a_word_is_the_mean_of_its_tokens():
    spans = ((0, 2), (2, 5), (5, 9))
    one = replace(
        record(),
        caption="snowy owl",
        offsets=spans,
        words=tuple(group_words("snowy owl", spans)),
        cross=Layers(("text.0.cross",), softmax(RNG.standard_normal((1, 1, 3, 17)))),
    )
    page = viewer_html([one])
    about, statistic, _ = unpacked(page)
    assert about["words"] == ["snowy", "owl"]
    tokens = one.cross.weights[0, 0, :, 2:]
    exact = np.stack([tokens[:2].mean(0), tokens[2]])
    shown = shown_maps(page, about["kinds"][0])
    np.testing.assert_allclose(shown[:2], exact, atol=exact.max() / 500)
    assert statistic[:2, 2] == pytest.approx(exact.sum(-1), rel=1e-6)


def test_signed_maps_keep_their_signs():
    one = record()
    maps = RNG.standard_normal((3, 3, 5))
    page = viewer_html([replace(one, methods=(MethodMaps("gradient", maps, True),))])
    kind = unpacked(page)[0]["kinds"][1]
    assert kind["table"]["signed"]
    assert kind["layers"] == []
    exact = maps.reshape(3, 15)
    bound = np.abs(exact).max(-1, keepdims=True) / 254
    assert (np.abs(shown_maps(page, kind) - exact) <= bound * (1 + 1e-3)).all()


def test_self_attention_of_both_sides():
    text, vision = softmax(RNG.random((2, 3, 3, 3))), softmax(RNG.random((1, 2, 17, 17)))
    one = replace(
        record(),
        text_self=Layers(("text.0.self", "text.1.self"), text),
        vision_self=Layers(("vision.0.self",), vision),
    )
    page = viewer_html([one])
    about = unpacked(page)[0]
    shown = shown_maps(page, about["text"]).reshape(9, 3, 3)
    np.testing.assert_allclose(shown[:3], text[0], atol=0.002)
    np.testing.assert_allclose(shown[8], text.mean((0, 1)), atol=0.002)
    assert about["text"]["tokens"] == ["a", "snowy", "owl"]
    patches = about["kinds"][1]
    assert patches["query"] == "patch"
    assert patches["heads"] == 0
    exact = vision[0].mean(0)[2:, 2:]
    np.testing.assert_allclose(shown_maps(page, patches)[:15], exact, atol=exact.max() / 500)


def test_what_is_no_number_is_marked_and_leaves_the_rest():
    values = np.array([[0.5, np.nan, 0.25, np.inf], [0.0, 0.0, 0.0, 0.0]])
    tables = Tables()
    table = tables.add(values)
    raw = zlib.decompress(base64.b64decode(tables.packed()))
    numbers = np.frombuffer(raw[:32], "<f4").reshape(2, 4)
    assert np.frombuffer(raw[32:40], "u1").tolist() == [254, 255, 127, 255, 0, 0, 0, 0]
    assert np.frombuffer(raw[40:], "u1").tolist() == [0, CONSTANT]
    assert numbers[0, :3].tolist() == [0.5, 0.5, 0.75]
    assert numbers[1, :3].tolist() == [0, 0, 0]
    assert np.isnan(numbers[1, 3])
    assert table == (0, 0, 2, 4, False)


def test_entropy_by_hand():
    rows = np.array([[0.1, 0.1, 0.1, 0.1], [0.7, 0, 0, 0], [0.2, 0.2, 0, 0], [0.5, -0.5, 1, 0]])
    peak, mass, entropy = statistics(rows)
    assert entropy[:3] == pytest.approx([2, 0, 1])
    assert np.isnan(entropy[3])
    assert peak.tolist() == [0.1, 0.7, 0.2, 1]
    assert mass == pytest.approx([0.4, 0.7, 0.4, 1])


def test_a_map_is_constant_by_its_values_not_its_levels():
    """A difference of 1 in 1,000 is real, if less than half a level; one of 1e-8 is rounding."""
    rows = np.full((6, 5), 0.02)
    rows[1, 2] *= 1.001
    rows[2, 2] *= 1 + 1e-8
    rows[3, 0] = np.nan
    rows[4] = np.inf
    rows[5] = [0.3, 0, 0, 0, np.nan]
    assert flags(rows).tolist() == [CONSTANT, 0, CONSTANT, CONSTANT, 0, 0]
    tables = Tables()
    tables.add(rows)
    levels = zlib.decompress(base64.b64decode(tables.packed()))[16 * 6 :]
    assert set(levels[5:10]) == {254}
    assert list(levels[-6:]) == flags(rows).tolist()


def test_words_with_one_map_have_nothing_left_without_their_mean():
    """Two planes of two words: alike; apart. In float32, as maps are."""
    alike, other = RNG.random((2, 7), dtype=np.float32)
    rows = np.stack([alike, alike, alike, other])
    assert flags(rows, 2).tolist() == [CONSTANT_LESS_MEAN] * 2 + [0] * 2
    assert flags(rows).tolist() == [0] * 4
    assert flags(np.full((2, 7), 0.1), 2).tolist() == [CONSTANT | CONSTANT_LESS_MEAN] * 2
    assert flags(np.zeros((0, 7)), 0).tolist() == []


def test_flags_lie_beside_their_rows_in_a_page():
    one = record("even odd", layers=1, heads=2)
    one.cross.weights[0, :, 0] = 1 / 17
    one = replace(one, methods=(MethodMaps("flat", np.full((2, 3, 5), -1.0), True),))
    about, _, levels = unpacked(viewer_html([one]))
    found = levels[-about["rows"] :].tolist()
    both = CONSTANT | CONSTANT_LESS_MEAN
    # Two heads, their mean and the mean of all layers, two words each; then the method's.
    assert found == [CONSTANT, 0] * 4 + [both, both]


def test_planes_are_heads_then_their_mean_then_the_mean_of_layers():
    weights = RNG.random((2, 3, 4, 5)).astype(np.float32)
    found = planes(weights, heads=True)
    assert found.shape == (9, 4, 5)
    np.testing.assert_array_equal(found[4:7], weights[1])
    np.testing.assert_allclose(found[3], weights[0].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found[8], weights.mean((0, 1)), rtol=1e-6)
    np.testing.assert_allclose(planes(weights, heads=False), found[[3, 7, 8]], rtol=1e-6)


def test_means_of_float16_weights_are_not_rounded_to_it():
    weights = np.full((1, 3, 1, 1), 2049, np.float32).astype(np.float16) + np.float16(0)
    weights[0, 0] = 1  # the mean of 1, 2048 and 2048 is no float16
    assert planes(weights, heads=False)[0, 0, 0] == pytest.approx(4097 / 3)


@given(st.text(alphabet="ab \t\u3000🙂é", max_size=20))
def test_words_and_what_lies_between_make_the_caption(caption):
    spans = tuple((i, i + 1) for i in range(len(caption)))
    words = group_words(caption, spans)
    pieces = between(caption, words)
    assert len(pieces) == len(words) + 1
    texts = [word.text for word in words]
    assert pieces[0] + "".join(a + b for a, b in zip(texts, pieces[1:], strict=True)) == caption


@settings(max_examples=25)
@given(st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.booleans())
def test_every_size_has_a_page(words, layers, heads, prefix, all_heads):
    one = record(" ".join("ab"[:1] * words), (2, 3), layers, heads, prefix)
    made = payload(one, Detail(heads=all_heads))
    (kind,) = made.about["kinds"]
    rows = (layers * (heads + 1) + 1 if all_heads else layers + 1) * words
    assert kind["table"] == {"row": 0, "cell": 0, "rows": rows, "columns": 6, "signed": False}
    assert made.about["rows"] == rows
    assert len(zlib.decompress(base64.b64decode(made.tables))) == 16 * rows + 6 * rows + rows


# ---- images


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def test_small_images_are_kept_exactly_and_photos_closely():
    glyph = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(data_address(glyph)), glyph)
    ramp = np.linspace(0, 255, 200, dtype=np.uint8)
    photo = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], ramp[::-1, None]), -1)
    noisy = np.clip(photo + RNG.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
    address = data_address(noisy)
    assert address.startswith("data:image/jpeg;base64,")
    assert np.abs(decoded(address).astype(int) - noisy).mean() < 6


def test_captions_of_one_image_hold_it_once():
    one = record(side=200)
    steps = [replace(one, step=step) for step in (1, 2, 3)]
    page = viewer_html(steps)
    assert page.count("data:image/") == 1
    assert [about["image"] for about in data_of(page)["captions"]] == [0, 0, 0]
    assert [about["step"] for about in data_of(page)["captions"]] == [1, 2, 3]


def test_the_colours_are_those_of_the_pictures():
    look = data_of(viewer_html([record()]))["look"]
    heat = np.frombuffer(base64.b64decode(look["heat"]), "u1").reshape(256, 3)
    expected = np.array(matplotlib.colormaps["inferno"].colors) * 255  # type: ignore[attr-defined]
    assert np.abs(heat - expected).max() <= 0.5 + 1e-9


# ---- size


def test_six_layers_of_twelve_heads_and_32_words_fit():
    """The acceptance case, with the worst image there is: noise."""
    words = " ".join(f"word{i}" for i in range(32))
    large = record(words, (14, 14), layers=6, heads=12, prefix=1, side=512)
    page = viewer_html([large])
    assert len(page.encode()) <= 1_500_000
    about = unpacked(page)[0]
    assert about["kinds"][0]["heads"] == 12
    assert about["kinds"][0]["table"]["rows"] == (6 * 13 + 1) * 32


def test_what_does_not_fit_is_left_out_and_said():
    """A budget one byte below each page's size: the next page has less, and says what."""
    one = record("a snowy owl", (8, 8), layers=2, heads=4, side=450)
    one = replace(one, text_self=Layers(("text.0.self",), softmax(RNG.random((1, 4, 3, 3)))))
    held, said, size = [], [], 1_500_001
    while size:
        try:
            page = viewer_html([one], budget_mb=(size - 1) / 1e6)
        except ValueError:
            break
        assert len(page.encode()) < size
        size = len(page.encode())
        data = data_of(page)
        about = data["captions"][0]
        side = decoded(data["images"][0]).shape[0]
        held.append((side, about["kinds"][0]["heads"], about["text"] is not None))
        said.append(" ".join(about["notes"]))
    assert held == [
        (450, 4, True),
        (384, 4, True),
        (384, 4, False),
        (256, 4, False),
        (256, 0, False),
        (128, 0, False),
    ]
    assert said[0] == ""
    assert said[1] == "The image is shown at 384 × 384 of its 450 × 450 pixels."
    assert ["self-attention is left out" in notes for notes in said] == [False] * 2 + [True] * 4
    assert ["means over heads" in notes for notes in said] == [False] * 4 + [True] * 2


def test_what_fits_in_no_way_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"0\.\d\d MB even without single heads.* 0\.01 MB"):
        viewer_html([record()], budget_mb=0.01)
    with pytest.raises(ValueError, match="at least one"):
        viewer_html([])


def test_save_viewer_writes_the_page_whole(tmp_path):
    one = record()
    save_viewer(tmp_path / "new" / "a.html", [one])
    assert (tmp_path / "new" / "a.html").read_text("utf-8") == viewer_html([one])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.html"]


# ---- colours of the page


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_text_has_contrast_in_both_themes():
    sheet = files("mmattn.maps.viewer").joinpath("page.css").read_text()
    themes = re.findall(r":root \{(.*?)\}", sheet, re.S)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for text in ("ink", "faint", "accent"):
            for ground in ("paper", "card", "shade"):
                dark, light = sorted((luminance(colours[text]), luminance(colours[ground])))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
