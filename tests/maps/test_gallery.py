"""The gallery: every image that can be read, grouped over training, and a line for what cannot."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmattn.errors import DataError
from mmattn.maps.archive import AttentionRecord, Layers, save_attention
from mmattn.maps.gallery import MOST_STEPS, Group, build_gallery, file_names, grouped
from mmattn.maps.geometry import Placement
from mmattn.maps.words import group_words

RNG = np.random.default_rng(0)


def record(key: str = "owl.jpg", step: int | None = None) -> AttentionRecord:
    caption, spans = "snowy owl", ((0, 5), (5, 9))
    raw = RNG.random((2, 2, 2, 6), dtype=np.float32)
    return AttentionRecord(
        key=key,
        caption=caption,
        offsets=spans,
        words=tuple(group_words(caption, spans)),
        cross=Layers(("text.0.cross", "text.1.cross"), raw / raw.sum(-1, keepdims=True)),
        grid=(2, 3),
        prefix=0,
        image=RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        placement=Placement.resize((20, 30)),
        references=("an owl",),
        step=step,
    )


def data_of(page: Path) -> dict:
    text = page.read_text("utf-8")
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with one image of its probe set at three steps, and one of a test set at the last."""
    folder = tmp_path / "run"
    for step in (10, 100, 90):
        save_attention(folder / f"attention/step-{step:06d}/owl.npz", record(step=step))
    save_attention(folder / "attention/step-000100/test-fonts/a.npz", record("a b/<c>", 100))
    (folder / "checkpoints").mkdir()
    return folder


def test_a_run_is_grouped_by_set_and_image_and_ordered_by_step(run):
    gallery = build_gallery(run)
    assert gallery.page == run / "attention" / "gallery" / "index.html"
    assert gallery.unreadable == ()
    assert [path.name for path in gallery.viewers] == ["owl.html", "test-fonts-a.html"]
    data = data_of(gallery.page)
    assert data["steps"] == [10, 90, 100]
    shown = [
        (group["set"], group["name"], group["viewer"], [e["step"] for e in group["entries"]])
        for group in data["groups"]
    ]
    assert shown == [
        ("", "owl.jpg", "owl.html", [10, 90, 100]),
        ("test-fonts", "a b/<c>", "test-fonts-a.html", [100]),
    ]
    assert data["groups"][0]["references"] == ["an owl"]
    assert data["groups"][0]["entries"][0]["words"] == ["snowy", "owl"]
    assert "<c>" not in gallery.page.read_text("utf-8")


def test_each_viewer_holds_its_steps_and_leads_back(run):
    gallery = build_gallery(run)
    data = data_of(gallery.viewers[0])
    assert data["home"] == "index.html"
    assert [caption["step"] for caption in data["captions"]] == [10, 90, 100]


def test_the_gallery_can_be_built_again_with_more(run):
    build_gallery(run)
    save_attention(run / "attention/step-000200/owl.npz", record(step=200))
    data = data_of(build_gallery(run).page)
    assert data["steps"] == [10, 90, 100, 200]
    assert len(data["groups"]) == 2


def test_any_folder_of_files_will_do(tmp_path):
    save_attention(tmp_path / "b.npz", record("b"))
    save_attention(tmp_path / "deep" / "er" / "a.npz", record("a", step=7))
    gallery = build_gallery(tmp_path, tmp_path / "pages")
    data = data_of(gallery.page)
    assert [(g["set"], g["name"]) for g in data["groups"]] == [("", "b"), ("deep/er", "a")]
    assert [g["entries"][0]["step"] for g in data["groups"]] == [None, 7]
    assert {path.parent for path in gallery.viewers} == {tmp_path / "pages"}


def test_files_that_cannot_be_read_are_listed_and_fatal_only_if_all_are(run):
    bad = run / "attention/step-000090/owl.npz"
    bad.write_bytes(bad.read_bytes()[:200])
    (run / "attention/foreign.npz").write_bytes(b"")
    gallery = build_gallery(run)
    assert len(gallery.unreadable) == 2
    assert {str(bad), str(run / "attention/foreign.npz")} == {
        line.split(": ")[0] for line in gallery.unreadable
    }
    data = data_of(gallery.page)
    assert [line.split(": ")[0] for line in data["unreadable"]] == [
        "foreign.npz",
        "step-000090/owl.npz",
    ]
    assert str(run) not in gallery.page.read_text("utf-8")
    assert [entry["step"] for entry in data["groups"][0]["entries"]] == [10, 100]
    for path in run.rglob("*.npz"):
        path.write_bytes(b"no")
    with pytest.raises(DataError, match=r"none of the files .* can be shown; .*foreign\.npz: "):
        build_gallery(run)


def test_a_folder_without_attention_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path))} holds .*no \*\.npz"):
        build_gallery(tmp_path)
    with pytest.raises(DataError, match="missing does not exist"):
        build_gallery(tmp_path / "missing")


def test_links_are_not_followed(run, tmp_path):
    outside = tmp_path / "outside"
    save_attention(outside / "secret.npz", record("secret"))
    (run / "attention/linked.npz").symlink_to(outside / "secret.npz")
    (run / "attention/folder").symlink_to(outside)
    data = data_of(build_gallery(run).page)
    assert [group["name"] for group in data["groups"]] == ["owl.jpg", "a b/<c>"]


def test_pages_are_not_written_through_a_link_or_over_another_page(run, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "site")
    with pytest.raises(DataError, match="link"):
        build_gallery(run, tmp_path / "link")
    (tmp_path / "site/index.html").write_text("<p>mine</p>")
    with pytest.raises(DataError, match="not a gallery"):
        build_gallery(run, tmp_path / "site")
    assert (tmp_path / "site/index.html").read_text() == "<p>mine</p>"


def test_of_many_steps_the_first_and_last_are_read(tmp_path):
    one = record()
    for step in range(60):
        save_attention(tmp_path / f"step-{step}" / "owl.npz", one)
    data = data_of(build_gallery(tmp_path).page)
    assert len(data["steps"]) == MOST_STEPS
    assert (data["steps"][0], data["steps"][-1]) == (0, 59)
    gaps = np.diff(data["steps"])
    assert gaps.max() - gaps.min() <= 1


def test_steps_that_do_not_fit_a_page_are_thinned_and_the_last_stays(tmp_path):
    for step in range(3):
        image = RNG.integers(0, 256, (120, 120, 3), dtype=np.uint8)
        one = replace(record(), image=image, placement=Placement.resize((120, 120)))
        save_attention(tmp_path / f"step-{step}" / "owl.npz", one)
    gallery = build_gallery(tmp_path, budget_mb=0.1)
    steps = [caption["step"] for caption in data_of(gallery.viewers[0])["captions"]]
    assert steps in ([0, 2], [2])
    with pytest.raises(DataError, match="budget"):
        build_gallery(tmp_path, budget_mb=0.01)


def test_a_file_named_after_its_step_belongs_to_its_folder(tmp_path):
    for step in (3, 20):
        save_attention(tmp_path / "owl" / f"step-{step}.npz", record())
    (group,) = grouped(tmp_path, tmp_path / "gallery")
    assert (group.set, group.name, [step for step, _ in group.files]) == ("", "owl", [3, 20])


def test_page_names_are_plain_and_differ():
    groups = [
        Group("", "index", []),
        Group("a", "b", []),
        Group("", "a-b", []),
        Group("", "A-B", []),
        Group("../x", "é/..", []),
        Group("", "n" * 300, []),
    ]
    names = file_names(groups)
    assert len({name.lower() for name in names} | {"index.html"}) == len(groups) + 1
    assert names[1:4] == ["a-b.html", "a-b-2.html", "A-B-3.html"]
    assert all(re.fullmatch(r"[\w+.-]{1,120}\.html", name, re.A) for name in names)
    assert not any(name.startswith(".") for name in names)
