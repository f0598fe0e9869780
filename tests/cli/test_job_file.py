"""One file for a job that is done in parts, by several processes, and again."""

import json
from pathlib import Path

import pytest

from mmattn.cli.inputs import numbered
from mmattn.cli.job_file import begin, merge_parts, part, unreadable
from mmattn.cli.jsonl import CAPTIONS
from mmattn.errors import DataError
from mmattn.pipeline.json_line import json_line


@pytest.fixture
def out(tmp_path):
    return tmp_path / "captions [1].jsonl"  # with letters that are a pattern's


WANTED = numbered([Path(name) for name in "abcdef"])


def lines(*names):
    """Lines about images; "x!" is one about an error of x."""
    values = [
        {"image": name[0], "error" if name.endswith("!") else "caption": "said"} for name in names
    ]
    return b"".join(map(json_line, values))


def in_file(path):
    values = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [value["image"] + "!" * ("error" in value) for value in values]


def left(out, retry=False):
    return "".join(one.name for one in begin(out, WANTED, retry=retry, kind=CAPTIONS))


def test_a_new_job_has_all_to_do_and_makes_no_file(out):
    assert left(out) == "abcdef"
    assert left(out, retry=True) == "abcdef"
    assert not out.exists()


def test_what_is_there_is_not_done_again(out):
    out.write_bytes(lines("c", "a!", "z"))
    assert left(out) == "bdef"
    assert out.read_bytes() == lines("c", "a!", "z")


def test_errors_of_this_job_are_tried_again_where_that_is_asked_for(out):
    out.write_bytes(lines("c", "a!", "z!", "b"))
    assert left(out, retry=True) == "adef"
    assert in_file(out) == ["c", "z!", "b"]
    assert left(out, retry=True) == "adef"


def test_a_file_behind_a_link_stays_behind_it(out, tmp_path):
    (tmp_path / "real.jsonl").write_bytes(lines("a!", "b"))
    out.symlink_to("real.jsonl")
    assert left(out, retry=True) == "acdef"
    assert out.is_symlink()
    assert in_file(tmp_path / "real.jsonl") == ["b"]


def test_a_line_that_was_cut_is_done_again(out):
    out.write_bytes(lines("a", "b")[:-4])
    assert left(out) == "bcdef"
    assert in_file(out) == ["a"]


def test_another_file_is_refused_and_stays_as_it_is(out):
    out.write_bytes(b"my diary")
    with pytest.raises(DataError, match="line 1: no line of captions"):
        left(out, retry=True)
    assert out.read_bytes() == b"my diary"


def test_parts_are_put_together_in_order_each_image_once(out):
    out.write_bytes(lines("d", "z"))
    part(out, 0).write_bytes(lines("a", "e!", "x"))
    part(out, 1).write_bytes(lines("d", "b", "c!") + lines("f")[:-3])  # d was there; f was cut
    merge_parts(out, WANTED, CAPTIONS)
    assert in_file(out) == ["d", "z", "a", "b", "c!", "e!", "x"]
    assert list(out.parent.iterdir()) == [out]
    merge_parts(out, WANTED, CAPTIONS)
    assert in_file(out) == ["d", "z", "a", "b", "c!", "e!", "x"]


def test_the_parts_of_a_killed_job_are_of_the_next_one_also_with_fewer_processes(out):
    for rank, names in enumerate(["ae", "bf", "c"]):
        part(out, rank).write_bytes(lines(*names))
    assert left(out) == "d"
    assert in_file(out) == list("abcef")
    assert list(out.parent.iterdir()) == [out]


def test_a_merge_that_was_killed_is_done_to_its_end_by_the_next(out):
    part(out, 0).write_bytes(lines("a", "c", "e"))
    part(out, 1).write_bytes(lines("b", "d"))
    for written in range(len(lines(*"abcde"))):
        out.write_bytes(lines(*"abcde")[:written])
        parts = [part(out, rank).read_bytes() for rank in (0, 1)]
        assert left(out) == "f"
        assert in_file(out) == list("abcde")
        for rank, content in enumerate(parts):
            part(out, rank).write_bytes(content)


def test_parts_of_another_job_are_not_touched(out):
    other = part(out.with_name("captions 1.jsonl"), 0)  # which a pattern would fit
    other.write_bytes(lines("a"))
    assert left(out) == "abcdef"
    assert other.read_bytes() == lines("a")


def test_only_images_of_this_job_count_as_unreadable(out):
    out.write_bytes(lines("a!", "z!", "b", "c!"))
    assert unreadable(out, WANTED, CAPTIONS) == 2
