"""MM-IMDb: films as the authors write them, and their rule for plots and genres."""

import json

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.mm_imdb import GENRES, MMIMDb
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import DataError

shade = iter(range(10_000))


def film(
    root, name, genres=GENRES, plot=("Short.", "The longest  plot\nof all.", "Mid plot."), **more
):
    """Write a film's two files, with some of the many fields of the real ones."""
    folder = root / "dataset"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"title": f"Film {name}", "year": 1999, "plot outline": "No plot of the list at all."}
    record |= {"genres": genres, "plot": plot, "cast": [{"name": "X"}], "cover url": "http://x"}
    record |= more
    record = {key: value for key, value in record.items() if value is not ...}
    (folder / f"{name}.json").write_text(json.dumps(record))
    Image.new("RGB", (8, 12 + next(shade))).save(folder / f"{name}.jpeg")


def put_lists(root, **lists):
    (root / "split.json").write_text(json.dumps(lists))


@pytest.fixture
def root(tmp_path):
    lists = {"train": ["0000001", "0000002"], "dev": ["0000003"], "test": ["0000004"]}
    for names in lists.values():
        for name in names:
            film(tmp_path, name)
    put_lists(tmp_path, **lists)
    return tmp_path


def keys(dataset):
    return [example.key for example in dataset.examples]


def refused(source):
    with pytest.raises(DataError) as caught:
        source.splits()
    return str(caught.value)


def test_a_faultless_set(root):
    film(root, "0000002", ["War", "Drama"])
    source: LabelledSource = MMIMDb(root)
    splits = source.splits()
    assert [keys(splits.train), keys(splits.val), keys(splits.test[""])] == [
        ["0000001", "0000002"],
        ["0000003"],
        ["0000004"],
    ]
    example = splits.train.examples[1]
    assert example.labels == {"genres": ("Drama", "War")}
    assert example.text == "The longest plot of all."
    assert example.images == ("dataset/0000002.jpeg",)
    assert splits.heads["genres"].kind == "multi"
    assert with_classes(splits)[1]["genres"].names == GENRES
    assert splits.train.images(0)[0].shape[0] == 3
    assert splits.notes == ()


def test_there_are_23_genres():
    assert len(set(GENRES)) == 23
    assert {"Drama", "Film-Noir", "Sci-Fi"} < set(GENRES)
    assert not {"News", "Adult", "Talk-Show", "Reality-TV"} & set(GENRES)


def test_of_equally_long_plots_the_first_counts(root):
    film(root, "0000001", plot=["abc", "xyz"])
    assert MMIMDb(root).splits().train.examples[0].text == "abc"


def test_films_that_the_authors_leave_out_are_told(root):
    lists = {"train": [f"{i:07d}" for i in range(1, 10)], "dev": ["0000010"], "test": ["0000011"]}
    for name in lists["dev"] + lists["test"]:
        film(root, name)
    film(root, "0000003", ["News"])
    film(root, "0000004", ["Adult", "Drama"])
    film(root, "0000005", [])
    film(root, "0000006", genres=...)
    film(root, "0000007", plot=[])
    film(root, "0000008", plot=...)
    film(root, "0000009", plot=[" "])
    put_lists(root, **lists)
    splits = MMIMDb(root).splits()
    assert keys(splits.train) == ["0000001", "0000002", "0000004"]
    assert splits.train.examples[2].labels == {"genres": ("Drama",)}
    assert splits.notes == (
        "Films of the genre News, which is not used: 1 (0000003)",
        "Films without a genre that is used, left out: 3 (0000003, 0000005, 0000006)",
        "Films of the genre Adult, which is not used: 1 (0000004)",
        "Films without a plot, left out: 3 (0000007, 0000008, 0000009)",
    )


def test_repeated_ids_are_told(root):
    put_lists(root, train=["0000001", "0000002", "0000001"], dev=["0000003"], test=["0000004"])
    splits = MMIMDb(root).splits()
    assert keys(splits.train) == ["0000001", "0000002"]
    assert splits.notes == ("split.json, train: repeated ids, left out: 1 (0000001)",)


def test_missing_and_damaged_posters(root):
    (root / "dataset" / "0000001.jpeg").unlink()
    (root / "dataset" / "0000003.jpeg").write_bytes(b"<html>")
    message = refused(MMIMDb(root))
    assert "2 of 4 images cannot be used" in message
    assert "dataset/0000001.json: " in message
    put_lists(root, train=["0000001", "0000002"], dev=["0000004"], test=["0000003"])
    message = refused(MMIMDb(root, leave_out_bad=True))
    assert "Split test has no example left: 1 of its examples could be read" in message
    film(root, "0000003")
    splits = MMIMDb(root, leave_out_bad=True).splits()
    assert keys(splits.train) == ["0000002"]
    assert (
        "Images missing or damaged: 1 (dataset/0000001.jpeg); examples left out: 1" in splits.notes
    )


# ----------------------------------------------------------------------- refused


def test_missing_files(tmp_path):
    assert "mmimdb.tar.gz" in refused(MMIMDb(tmp_path / "nowhere"))
    message = refused(MMIMDb(tmp_path))
    assert "split.json: lists" in message
    assert "dataset: films" in message


@pytest.mark.parametrize(
    ("lists", "fault"),
    [
        ([], "split.json: a list, where an object was expected"),
        ({"train": [], "test": []}, "no field 'dev'"),
        ({"train": [], "dev": {}, "test": []}, "'dev' is an object, where a list was expected"),
        ({"train": [], "dev": [], "test": [], "tset": []}, "unknown list 'tset' (nearest: 'test')"),
        ({"train": [1], "dev": [], "test": []}, "train[0] is an integer, where a text such as"),
        ({"train": ["1"], "dev": ["2"], "test": ["2"]}, "2 is in dev and in test"),
    ],
)
def test_lists_of_another_form(root, lists, fault):
    (root / "split.json").write_text(json.dumps(lists))
    assert fault in refused(MMIMDb(root))


def test_no_json_at_all(root):
    (root / "split.json").write_text('{"train": [\n"0000001"')
    assert "split.json:2: no JSON" in refused(MMIMDb(root))


def test_all_films_that_cannot_be_read_in_one_error(root):
    folder = root / "dataset"
    (folder / "0000001.json").unlink()
    (folder / "0000002.json").write_text("[]")
    film(root, "0000003", genres="Drama")
    film(root, "0000004", plot=["x", 7])
    message = refused(MMIMDb(root))
    assert "4 of 4 films cannot be read" in message
    assert f"{folder / '0000001.json'} is not a file" in message
    assert f"{folder / '0000002.json'}: a list, where an object was expected" in message
    assert f"{folder / '0000003.json'}: 'genres' is a text, where a list was expected" in message
    assert f"{folder / '0000004.json'}: 'plot' holds an integer, where a text was" in message


@pytest.mark.parametrize("name", ["../0000001", "x/../../1", "a\\b"])
def test_ids_cannot_lead_out_of_the_folder(root, name):
    put_lists(root, train=[name], dev=["0000003"], test=["0000004"])
    message = refused(MMIMDb(root))
    assert "The file name" in message
    assert "1 of 3 films cannot be read" in message


def test_an_empty_split(root):
    put_lists(root, train=["0000001"], dev=[], test=["0000004"])
    assert "Split val has no example left: 0 of its examples" in refused(MMIMDb(root))
