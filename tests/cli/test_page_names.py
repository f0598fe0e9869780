"""Names of pages: every image has its own, inside the folder, whatever it is called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.cli.page_names import SUFFIXES, page_names, question_pages


def named(*images):
    return [str(page) for page in page_names([Path(image) for image in images])]


def test_a_page_is_called_as_its_image():
    assert named("photos/a.jpg", "b.png", "/home/me/c.tif") == [
        *("photos/a.jpg", "b.png", "home/me/c.tif")
    ]


@pytest.mark.fault("F33")
def test_no_page_leaves_the_folder():
    assert named("../a.jpg", "x/../../b.jpg", "/../c.jpg") == [
        "up/a.jpg",
        "x/up/up/b.jpg",
        "up/c.jpg",
    ]


def test_equal_names_get_a_number_also_by_their_case():
    assert named("a/b.jpg", "/a/b.jpg", "A/B.jpg", "a/b-2.jpg", "a/b") == [
        *("a/b.jpg", "a/b-2.jpg", "A/B-3.jpg", "a/b-2-2.jpg", "a/b")
    ]


def test_the_name_of_an_image_does_not_depend_on_the_others():
    assert named("x/a.jpg", "y/a.jpg") == ["x/a.jpg", "y/a.jpg"]
    assert named("y/a.jpg") == ["y/a.jpg"]


def test_a_folder_is_never_called_as_a_page():
    assert named("a.jpg", "a.jpg.html/b.jpg", "A.PNG/c") == [
        "a.jpg",
        "a.jpg.html_/b.jpg",
        "A.PNG_/c",
    ]


@pytest.mark.fault("F33")
@pytest.mark.parametrize("letter", ["x", "é", "猫", "\udcff"])
def test_long_names_leave_room_for_what_is_put_behind(letter):
    name = letter * (250 // len(letter.encode(errors="surrogateescape")))
    found = page_names([Path(f"{name}1.jpg"), Path(f"{name}2.jpg")])
    assert len(set(found)) == 2
    for page in found:
        assert page.suffix == ".jpg"
        assert len(f"{page.name}.html".encode(errors="surrogateescape")) <= 255


PARTS = st.text("aA.-2é", min_size=1, max_size=4) | st.sampled_from(
    ["..", "a.html", "a.PNG", "x" * 255, "." + "y" * 254]
)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join) | st.just("/a/a.html")


@given(st.lists(PATHS.filter(lambda path: Path(path).name not in ("", "..")), max_size=12))
def test_all_pages_can_stand_beside_each_other(images):
    """As files and folders, on a file system for which capitals are small letters."""
    pages = page_names([Path(image) for image in images])
    files = [f"{page}{suffix}".casefold() for page in pages for suffix in SUFFIXES]
    folders = {str(parent).casefold() for page in pages for parent in page.parents}
    assert len(files) == len(set(files))
    assert not folders & set(files)
    for page in pages:
        assert not page.is_absolute()
        assert ".." not in page.parts
        assert len(f"{page.name}.html".encode()) <= 255


def asked(*questions):
    return [str(page) for page in question_pages(questions)]


def test_the_page_of_a_question_has_its_text_and_a_sum_of_all():
    one, other, pair, text = asked(
        (["photos/a.jpg"], "Is it RED?"),
        (["photos/a.jpg"], "is it red"),
        (["photos/a.jpg", "b.jpg"], "Is it RED?"),
        ([], "Is it RED?"),
    )
    assert one.startswith("photos/a.jpg.is-it-red-")
    assert text.startswith("is-it-red-")
    assert len({one[-10:], other[-10:], pair[-10:], text[-10:]}) == 4
    assert asked((["photos/a.jpg"], None)) == ["photos/a.jpg"]  # as that of a caption


def test_the_page_of_a_question_is_the_same_in_every_job():
    question = (["photos/a.jpg"], "is it red?")
    assert asked((["photos/a.jpg"], "is it blue?"), question)[1:] == asked(question)
    assert len({*asked(question, (["photos/a.jpg"], ("is", "it", "red?")))}) == 2


@pytest.mark.fault("F33")
@pytest.mark.parametrize("text", ["é" * 500, "", "../../etc/passwd", "a\x00b", ("x",) * 900])
def test_no_text_leaves_the_folder_or_is_too_long(text):
    for page in question_pages([(["x" * 300 + ".png"], text), ([], text)]):
        assert ".." not in page.parts
        assert not page.is_absolute()
        assert all(len(part.encode()) <= 250 and "\x00" not in part for part in page.parts)
