import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmattn.errors import DataError
from mmattn.metrics.distinct import distinct_rows

KEYS = (2**62, 7, 7 + 2**62, 0)
rows = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-2, 2), st.integers(-2, 2)))


def columns(rows):
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 3)
    return table[:, 0], {"values": table[:, 1:].float() / 4}


@given(rows.filter(len))
def test_of_each_key_the_first_row_in_lexicographic_order_counts(rows):
    keys, kept = columns(rows)
    chosen = distinct_rows(keys, kept)
    expected = sorted(
        {key: min(row for row in rows if row[0] == key) for key, _, _ in rows}.items()
    )
    assert keys[chosen].tolist() == [key for key, _ in expected]
    assert (kept["values"][chosen] * 4).tolist() == [list(row[1:]) for _, row in expected]


def test_keys_that_differ_in_their_last_bit_are_two():
    keys = torch.tensor([2**62 + 1, 2**62, 2**62 + 1])
    assert distinct_rows(keys, {"values": torch.tensor([0.0, 1.0, -1.0])}).tolist() == [1, 2]


def test_no_rows_give_no_rows():
    assert distinct_rows(torch.empty(0, dtype=torch.long), {}).tolist() == []


@pytest.mark.parametrize(
    "targets", [torch.tensor([1, 0, 2]), torch.tensor([[True, True], [True, True], [True, False]])]
)
def test_labels_that_contradict_are_refused(targets):
    keys = torch.tensor([12, 5, 12])
    with pytest.raises(DataError, match=r"two different labels .* key is 12\)"):
        distinct_rows(keys, {"values": torch.zeros(3, 2), "targets": targets})
