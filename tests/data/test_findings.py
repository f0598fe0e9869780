"""Counts and names in messages, and files that are the same."""

from mmattn.data.findings import identical_files, listing, nearest, some


def test_some_names_the_first_three():
    assert some(["a"]) == "1 (a)"
    assert some({"b": 1, "a": 2, "c": 3}) == "3 (b, a, c)"
    assert some([str(i) for i in range(1234)]) == "1,234 (0, 1, 2, ...)"


def test_listing_counts_what_it_does_not_show():
    assert listing(["a", "b"]) == "  a\n  b"
    assert listing(["a", "b", "c"], shown=2) == "  a\n  b\n  and 1 more"
    assert listing([]) == ""


def test_nearest_hints_only_at_what_resembles():
    assert nearest("lable", ["label", "text"]) == " (nearest: 'label')"
    assert nearest("zzz", ["label", "text"]) == ""


def test_identical_files_are_told_apart_by_content_and_split(tmp_path):
    contents = {"a": b"one", "b": b"one", "c": b"two", "d": b"two", "e": b"odd"}
    paths = {name: tmp_path / name for name in contents}
    for name, data in contents.items():
        paths[name].write_bytes(data)
    split_of = {"a": "train", "b": "val", "c": "train", "d": "train", "e": "val"}
    assert identical_files(paths, split_of) == [
        "Leak: byte-identical photos in different splits: 1 (a (train) = b (val))",
        "Byte-identical photos within one split, kept: 1 (c (train) = d (train))",
    ]
