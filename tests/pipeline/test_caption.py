"""A caption as a value: what it says, shows and saves."""

import base64
import json
import subprocess
import sys
import types
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmattn.errors import ConfigError
from mmattn.maps.archive import load_attention
from mmattn.maps.geometry import Placement
from mmattn.maps.record import AttentionRecord, Layers, MethodMaps
from mmattn.maps.words import group_words
from mmattn.pipeline import caption as module
from mmattn.pipeline.caption import Caption


def recorded(text, spans):
    """A record of attention to 2 x 2 patches and one prefix token."""
    rng = np.random.default_rng(len(text))
    weights = rng.dirichlet(np.ones(5), (2, 3, len(spans))).astype(np.float32)
    return AttentionRecord(
        key="owl.png",
        caption=text,
        offsets=tuple(spans),
        words=tuple(group_words(text, spans)),
        cross=Layers(("text.0.cross", "text.1.cross"), weights),
        grid=(2, 2),
        prefix=1,
        image=rng.integers(0, 256, (20, 30, 3), np.uint8),
        placement=Placement.resize((20, 30)),
        methods=(MethodMaps("last", weights[-1, :, :, 1:].mean(0).reshape(-1, 2, 2)),),
    )


def made(text="a small owl", spans=((0, 1), (1, 7), (7, 9), (9, 11)), attention=True, others=()):
    """A caption of the tokens of these spans."""
    return Caption(
        name="owl.png",
        text=text,
        words=tuple(text.split()),
        tokens=tuple(text[start:end] for start, end in spans),
        ids=tuple(range(3, 3 + len(spans))),
        log_probs=(-0.5,) * (len(spans) + 1),
        score=-0.5,
        attention=recorded(text, spans) if attention else None,
        others=others,
    )


EMPTY = made("", ())
SUFFIXES = ["html", "png", "npz", "json"]


def test_it_reads_as_its_text():
    caption = made()
    assert str(caption) == "a small owl"
    assert repr(caption) == "Caption('a small owl', score=-0.500, name='owl.png')"


def test_a_word_has_the_mean_map_of_its_tokens():
    caption = made()
    assert caption.maps.shape == (3, 2, 2)
    own = caption.attention.cross.weights[-1].mean(0)[:, 1:].reshape(4, 2, 2)
    assert caption.maps[2] == pytest.approx(own[2:].mean(0))
    assert EMPTY.maps.shape == (0, 2, 2)


@pytest.mark.parametrize("caption", [made(), EMPTY, made("é\x1c<b>", ((0, 1), (2, 5)))])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_saved_in_every_format(caption, suffix, tmp_path):
    path = tmp_path / "new" / f"owl.{suffix}"
    assert caption.save(str(path)) == path
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if suffix == "png":
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image), caption.picture())
    elif suffix == "npz":
        found = load_attention(path)
        assert found.caption == caption.text
        assert np.array_equal(found.cross.weights, caption.attention.cross.weights)
    elif suffix == "json":
        assert json.loads(path.read_text()) == caption.to_dict()
    else:
        assert json.dumps(caption.text)[1:-1].replace("<", "\\u003c") in path.read_text()


def test_the_suffix_may_be_in_capitals(tmp_path):
    path = made().save(tmp_path / "OWL.PNG")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["owl.jpg", "owl", "owl.html.txt", ".png"])
def test_another_suffix_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=r"saved as one of \.html, \.json, \.npz, \.png"):
        made().save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_it_is_saved_whole_or_not_at_all(suffix, tmp_path, monkeypatch):
    path = tmp_path / f"owl.{suffix}"
    path.write_text("what was there")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        made().save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "what was there"


@pytest.mark.parametrize("suffix", SUFFIXES[:3])
def test_without_attention_there_is_no_map_to_save(suffix, tmp_path):
    caption = made(attention=False)
    said = "no attention was recorded with this caption: caption with attention=True"
    with pytest.raises(ConfigError, match=said):
        caption.save(tmp_path / f"owl.{suffix}")
    with pytest.raises(ConfigError, match=said):
        _ = caption.maps
    with pytest.raises(ConfigError, match=said):
        caption.picture()
    assert not list(tmp_path.iterdir())
    assert caption.save(tmp_path / "owl.json").is_file()


def test_a_page_has_all_captions_of_the_picture(tmp_path):
    others = tuple(made(text, ((0, len(text)),)) for text in ("owl", "bird"))
    page = made(others=others).save(tmp_path / "owl.html").read_text()
    assert all(f'"caption":"{text}"' in page for text in ("a small owl", "owl", "bird"))


def test_what_no_page_holds_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAGE_MB", 1e-3)
    with pytest.raises(ConfigError, match=r"owl.html: the attention of 1 captions.*layers=-1"):
        made().save(tmp_path / "owl.html")
    assert not list(tmp_path.iterdir())


def test_it_is_json_with_its_others():
    caption = made(others=(made("owl", ((0, 3),)), EMPTY))
    found = json.loads(json.dumps(caption.to_dict(), allow_nan=False))
    assert found == {
        "image": "owl.png",
        "caption": "a small owl",
        "score": -0.5,
        "words": ["a", "small", "owl"],
        "tokens": ["a", " small", " o", "wl"],
        "ids": [3, 4, 5, 6],
        "log_probs": [-0.5] * 5,
        "others": [
            {
                "caption": "owl",
                "score": -0.5,
                "words": ["owl"],
                "tokens": ["owl"],
                "ids": [3],
                "log_probs": [-0.5] * 2,
            },
            {
                "caption": "",
                "score": -0.5,
                "words": [],
                "tokens": [],
                "ids": [],
                "log_probs": [-0.5],
            },
        ],
    }
    assert "others" not in made().to_dict()


class Tags(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("text", ["an owl", '"><script>alert(1)</script>', "<b>&amp;'", ""])
def test_a_notebook_shows_it_and_no_caption_becomes_markup(text, attention):
    found = Tags(made(text, ((0, len(text)),) if text else (), attention)._repr_html_())
    assert found.tags == (
        ["figure", "img", "figcaption"] if attention else ["figure", "figcaption"]
    )
    assert found.text == text
    if attention:
        assert found.attributes["alt"] == text
        head, data = found.attributes["src"].split(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")


@pytest.fixture
def browser(monkeypatch, tmp_path):
    """Whether there is one, and what it was asked to open."""
    state = types.SimpleNamespace(there=True, opened=[])

    def opened(address):
        state.opened.append(address)
        return state.there

    monkeypatch.setattr("webbrowser.open", opened)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(module, "in_notebook", lambda: False)
    return state


def test_a_browser_shows_the_page(browser, tmp_path, capsys):
    made().show()
    (page,) = tmp_path.rglob("*.html")
    assert browser.opened == [page.as_uri()]
    assert capsys.readouterr().out == ""


def test_without_a_browser_it_says_where_the_page_is(browser, tmp_path, capsys):
    browser.there = False
    made().show()
    (page,) = tmp_path.rglob("*.html")
    assert capsys.readouterr().out == f"a small owl\nits attention: open {page} in a browser\n"


def test_without_attention_it_is_printed(browser, capsys):
    made(attention=False).show()
    assert capsys.readouterr().out == "a small owl\n"
    assert not browser.opened


def test_a_notebook_displays_it(monkeypatch):
    shown = []
    shell = types.SimpleNamespace(kernel=object())
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython, display.display = lambda: shell, shown.append
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    caption = made()
    caption.show()
    assert shown == [caption]
    del shell.kernel  # in a terminal
    assert not module.in_notebook()
    shell = None  # in no shell
    assert not module.in_notebook()


def test_no_notebook_without_ipython(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert not module.in_notebook()


def test_saving_text_needs_no_matplotlib():
    program = "import sys, mmattn.pipeline.caption; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_the_picture_is_one_overlay_a_word():
    caption = made()
    assert caption.picture().shape[2] == 3
    less = replace(caption, attention=recorded("a", ((0, 1),)))
    assert less.picture().shape[1] < caption.picture().shape[1]
    assert EMPTY.picture().dtype == np.uint8
