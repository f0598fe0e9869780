import torch

from mmattn.batch import LabelBatch
from mmattn.maps.quality.other_text import other_texts


def make_batch() -> LabelBatch:
    tokens = torch.tensor([[1, 5, 2], [1, 5, 2], [1, 6, 2], [1, 0, 0], [1, 7, 2]])
    return LabelBatch(
        keys=tuple("abcde"),
        images=torch.zeros(2, 3, 4, 4),
        image_rows=torch.tensor([[0], [0], [1], [1], [1]]),
        image_valid=None,
        tokens=tokens,
        valid=tokens > 0,
        targets={"answer": torch.arange(5)},
        missing={"image": (), "text": (3,)},
    )


def test_every_example_gets_a_text_that_it_does_not_say_itself():
    batch = make_batch()
    drawn = set()
    for seed in range(20):
        kept, other = other_texts(batch, [0, 2], [0, 1, 2, 3, 4], seed)
        assert kept == [0, 1]
        assert other.keys == ("a", "c")
        assert other.image_rows.tolist() == [[0], [1]]
        assert other.targets["answer"].tolist() == [0, 2]
        assert other.missing == {"image": (), "text": ()}
        drawn.add(tuple(other.tokens[:, 1].tolist()))
    assert drawn == {(a, c) for a in (6, 7) for c in (5, 7)}  # never the missing text, 0


def test_a_text_that_was_missing_is_no_longer():
    kept, other = other_texts(make_batch(), [3], [4], 0)
    assert kept == [0]
    assert other.tokens.tolist() == [[1, 7, 2]]
    assert other.valid.all()
    assert other.missing["text"] == ()


def test_where_nothing_else_is_said_an_example_is_left_out():
    kept, other = other_texts(make_batch(), [0, 2, 1], [0, 1], 0)
    assert kept == [1]
    assert other.keys == ("c",)
    assert other_texts(make_batch(), [0], [3], 0)[0] == []


def test_the_same_seed_draws_the_same_texts():
    batch = make_batch()
    drawn = [other_texts(batch, [0, 1, 2], range(5), 3)[1].tokens for _ in range(2)]
    assert torch.equal(*drawn)
