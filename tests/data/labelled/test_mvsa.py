"""MVSA: the rule that makes one label of several, texts in several encodings, faults refused."""

import itertools

import pytest
from PIL import Image

from mmattn.data.label_module import with_classes
from mmattn.data.labelled.mvsa import CLASSES, MVSA
from mmattn.data.labelled.splits import LabelledSource
from mmattn.errors import ConfigError, DataError

SIGNS = {"+": "positive", "0": "neutral", "-": "negative"}


def pair(signs):
    """`+0` -> `positive,neutral`: text, image."""
    return ",".join(SIGNS[sign] for sign in signs)


def build(root, rows):
    """Write a release: id -> the annotators' signs of text and image."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    annotators = len(next(iter(rows.values())))
    lines = ["\t".join(["ID", *["text,image"] * annotators])]
    for number, signs in rows.items():
        lines.append("\t".join([str(number), *map(pair, signs)]))
        Image.new("RGB", (8 + number, 8)).save(root / "data" / f"{number}.jpg")
        (root / "data" / f"{number}.txt").write_bytes(f"tweet {number} #happy\r\n".encode())
    (root / "labelResultAll.txt").write_text("\r\n".join(lines) + "\r\n")
    return root


def many(*choices, copies=10):
    """`copies` tweets of each choice of signs."""
    return dict(enumerate(itertools.chain.from_iterable([list(choices)] * copies), start=1))


@pytest.fixture
def root(tmp_path):
    return build(tmp_path / "MVSA_Single", many(("++",), ("00",), ("--",)))


def parts(splits):
    return [splits.train, splits.val, splits.test[""]]


def found(splits):
    """Id -> label, over all splits."""
    examples = itertools.chain.from_iterable(part.examples for part in parts(splits))
    return {int(example.key): example.labels["sentiment"] for example in examples}


def refused(source, error=DataError):
    with pytest.raises(error) as caught:
        source.splits()
    return str(caught.value)


def add_line(root, line):
    path = root / "labelResultAll.txt"
    path.write_bytes(path.read_bytes() + line.encode() + b"\r\n")


def test_a_faultless_set(root):
    source: LabelledSource = MVSA(root)
    splits = source.splits()
    assert [len(part) for part in parts(splits)] == [24, 3, 3]
    for part in parts(splits)[1:]:
        assert sorted(e.labels["sentiment"] for e in part.examples) == list(CLASSES)
    (note,) = splits.notes
    assert note.endswith("divided here with seed 0: 24 for train, 3 for val, 3 for test")
    first = splits.train.examples[0]
    assert first.text == f"tweet {first.key} #happy"
    assert first.images == (f"data/{first.key}.jpg",)
    assert splits.train.images(0)[0].shape == (3, 8, 8 + int(first.key))
    assert with_classes(splits)[1]["sentiment"].names == CLASSES


def test_what_is_held_out_depends_on_the_seed(root):
    keys = [{e.key for e in MVSA(root, seed=seed).splits().val.examples} for seed in (1, 1, 2)]
    assert keys[0] == keys[1] != keys[2]
    splits = MVSA(root, val_fraction=0.2, test_fraction=0.3).splits()
    assert [len(part) for part in parts(splits)] == [15, 6, 9]


# Xu and Mao's table: the number of positive, neutral and negative labels among text and image.
TABLE = {(2, 0, 0): "+", (1, 1, 0): "+", (0, 1, 1): "-", (0, 0, 2): "-", (0, 2, 0): "0"}


@pytest.mark.parametrize("text", "+0-")
@pytest.mark.parametrize("image", "+0-")
def test_the_rule_of_xu_and_mao(tmp_path, text, image):
    rows = many(("++",), ("00",), ("--",)) | {99: (text + image,)}
    label = found(MVSA(build(tmp_path, rows)).splits()).get(99)
    both = text + image
    sign = TABLE.get((both.count("+"), both.count("0"), both.count("-")))
    assert label == (SIGNS[sign] if sign else None)


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        (("++", "++", "--"), "positive"),
        (("+0", "+0", "00"), "positive"),
        (("0-", "+-", "0+"), "negative"),
        (("00", "0+", "-0"), "neutral"),
        (("++", "+-", "0-"), None),  # positive text, negative image
        (("++", "0+", "-+"), None),  # all differ on the text
        (("++", "+0", "+-"), None),  # all differ on the image
    ],
)
def test_two_of_three_annotators_decide(tmp_path, votes, label):
    rows = many(("++",) * 3, ("00",) * 3, ("--",) * 3) | {99: votes}
    assert found(MVSA(build(tmp_path, rows)).splits()).get(99) == label


def test_what_is_left_out_is_told(tmp_path):
    rows = many(("++",) * 3, ("00",) * 3, ("--",) * 3)
    rows |= {91: ("+-",) * 3, 92: ("-+",) * 3, 93: ("++", "0+", "-+")}
    build(tmp_path, rows)
    (tmp_path / "data" / "1.txt").write_text(" \n")
    assert MVSA(tmp_path).splits().notes[:3] == (
        "Tweets with a positive and a negative side, left out: 2 (91, 92)",
        "Tweets on whose text or image no two annotators agree, left out: 1 (93)",
        "Empty texts, left out: 1 (1)",
    )


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("héllo".encode(), "héllo"),
        ("你好".encode("gb18030"), "你好"),
        (b"caf\xe9", "café"),
        (b"two\r\nlines", "two lines"),
    ],
)
def test_texts_in_several_encodings(root, data, text):
    (root / "data" / "1.txt").write_bytes(data)
    examples = itertools.chain.from_iterable(part.examples for part in parts(MVSA(root).splits()))
    assert next(e.text for e in examples if e.key == "1") == text


def test_a_text_in_none_of_the_encodings(root):
    (root / "data" / "1.txt").write_bytes(b"caf\xe9")
    message = refused(MVSA(root, encodings=["utf-8"]))
    assert "labelResultAll.txt:2: data/1.txt is none of utf-8" in message
    assert "Try utf-8, gb18030 or latin-1" in refused(MVSA(root, encodings=["utf-9"]), ConfigError)


def test_damaged_pictures(root):
    (root / "data" / "1.jpg").write_bytes(b"")
    (root / "data" / "2.jpg").unlink()
    message = refused(MVSA(root))
    assert "2 of 30 images cannot be used" in message
    assert f"labelResultAll.txt:2: {root / 'data' / '1.jpg'} is empty" in message
    assert f"labelResultAll.txt:3: {root / 'data' / '2.jpg'} cannot be read" in message
    splits = MVSA(root, leave_out_bad=True).splits()
    assert len(found(splits)) == 28
    assert any("examples left out: 2" in note for note in splits.notes)


def test_identical_pictures_are_told(root):
    splits = MVSA(root).splits()
    one, two = (root / "data" / f"{part.examples[0].key}.jpg" for part in parts(splits)[:2])
    two.write_bytes(one.read_bytes())
    assert any(note.startswith("Leak: byte-identical") for note in MVSA(root).splits().notes)


# ----------------------------------------------------------------------- refused


def test_missing_files(tmp_path):
    assert "labelResultAll.txt and data/ as root" in refused(MVSA(tmp_path / "nowhere"))
    message = refused(MVSA(tmp_path))
    assert "labelResultAll.txt: labels" in message
    assert "data: texts and pictures" in message


@pytest.mark.parametrize(
    "header", ["1\tpositive,positive", "ID\ttext,image\ttext,image", "ID,text,image", "ID\ta,b"]
)
def test_another_header(root, header):
    (root / "labelResultAll.txt").write_text(f"{header}\n1\tpositive,positive\n")
    assert "labelResultAll.txt:1: the header is" in refused(MVSA(root))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("x\tpositive,positive", "no id in front of the first tab: 'x'"),
        ("../1\tpositive,positive", "no id"),
        ("1\tpositive,positive", "the id 1 again, first on line 2"),
        ("99\tpositive,positive\tneutral,neutral", "labels of 2 annotators, and the header has 1"),
        ("99", "labels of 0 annotators"),
        ("99\tpositive", "'positive' is not the sentiment of text and image"),
        ("99\tpositive,neutrl", "unknown sentiment 'neutrl' (nearest: 'neutral')"),
        ("99\tpositive,7", "unknown sentiment '7': negative, neutral, positive"),
        ("99\tpositive,positive", "data/99.txt cannot be read: No such file"),
    ],
)
def test_malformed_lines(root, line, fault):
    add_line(root, line)
    message = refused(MVSA(root))
    assert f"labelResultAll.txt:32: {fault}" in message


def test_all_malformed_lines_in_one_error(root):
    add_line(root, "x\ty")
    add_line(root, "1\tpositive,positive")
    assert "labelResultAll.txt has 2 problems" in refused(MVSA(root))


def test_no_tweet_left(tmp_path):
    build(tmp_path, {1: ("+-",), 2: ("-+",)})
    message = refused(MVSA(tmp_path))
    assert "has no tweet that can be used" in message
    assert "Tweets with a positive and a negative side, left out: 2 (1, 2)" in message


def test_too_few_tweets_to_hold_any_out(tmp_path):
    build(tmp_path, {1: ("++",), 2: ("00",), 3: ("--",)})
    assert "leaves 0 for val" in refused(MVSA(tmp_path))
