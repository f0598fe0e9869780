"""The search for the nearest misses none: it is what sorting all similarities gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmattn.pipeline import nearest as module
from mmattn.pipeline.nearest import nearest


def plain(queries, vectors, top):
    """Every similarity in float64, sorted; of equal ones the first comes first."""
    exact = (queries.double() @ vectors.double().T).float()
    order = exact.sort(descending=True, stable=True, dim=-1).indices[:, :top]
    return exact.gather(1, order), order


def unit(rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator), dim=-1)


@settings(max_examples=40)
@given(
    rows=st.integers(1, 60),
    top=st.integers(1, 70),
    block=st.integers(1, 70),
    asked=st.integers(0, 5),
    seed=st.integers(0, 99),
)
def test_it_is_what_sorting_all_gives(rows, top, block, asked, seed):
    vectors, queries = unit(rows, 7, seed), unit(asked, 7, seed + 1)
    similar, places = nearest(queries, vectors, top, block)
    wanted, order = plain(queries, vectors, top)
    assert places.equal(order)
    torch.testing.assert_close(similar, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", [1, 3, 7, 64, 1000])
def test_of_equal_vectors_the_first_come_first_whatever_the_block(block):
    few = unit(5, 48, 0)
    vectors = few[torch.arange(300) % 5]
    _, places = nearest(few[2:3], vectors, 70, block)
    assert places[0, :60].tolist() == list(range(2, 300, 5))


def test_what_a_float_cannot_tell_apart_is_told_apart():
    """Two vectors whose products differ in the eighth digit: float32 sums may swap them."""
    query = F.normalize(torch.ones(1, 512), dim=-1)
    vectors = query.repeat(64, 1)
    vectors[40, 7] += 3e-7
    assert nearest(query, vectors, 1, block=8)[1].tolist() == [[40]]


def test_a_query_alone_gets_what_it_gets_among_others(monkeypatch):
    monkeypatch.setattr(module, "QUERIES", 4)
    vectors, queries = unit(200, 16, 0), unit(11, 16, 1)
    together = nearest(queries, vectors, 9, 50)
    for row, query in enumerate(queries):
        alone = nearest(query[None], vectors, 9)
        assert alone[0][0].equal(together[0][row])
        assert alone[1][0].equal(together[1][row])


def test_there_may_be_nothing_to_find_and_nobody_who_looks():
    vectors = unit(4, 3, 0)
    assert nearest(vectors[:0], vectors, 2)[0].shape == (0, 2)
    assert nearest(vectors, vectors[:0], 2)[1].shape == (4, 0)
