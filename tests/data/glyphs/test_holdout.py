from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmattn.data.glyphs.holdout import (
    compositions,
    hold_out_compositions,
    hold_out_pairs,
    shuffled,
)

BASES, PARTS = [f"letter {b}" for b in "abcdef"], ["acute", "grave", "dot below", "horn"]
NAMES = st.sets(
    st.one_of(
        st.sampled_from(BASES),
        st.builds(
            lambda base, parts: f"{base} with {' and '.join(sorted(parts))}",
            st.sampled_from(BASES),
            st.sets(st.sampled_from(PARTS), min_size=1, max_size=2),
        ),
    ),
    min_size=1,
)


@given(NAMES, st.floats(0, 0.99), st.integers(0, 5))
def test_every_part_of_a_held_out_name_was_seen_with_another_base(names, share, seed):
    held = hold_out_compositions(sorted(names), share, seed)
    trained, composed = names - held, compositions(names)
    assert len(held) <= round(share * len(composed))
    seen = compositions(trained).values()
    for name in held:
        assert composed[name].base in trained
        for part in composed[name].parts:
            assert any(part in s.parts and s.base != composed[name].base for s in seen)


def test_the_share_is_reached_where_the_parts_allow_it():
    names = BASES + [f"{base} with {part}" for base in BASES for part in PARTS]
    assert len(hold_out_compositions(names, 0.5, seed=0)) == 12
    assert hold_out_compositions(names, 0.0, seed=0) == set()


def test_nothing_is_held_out_when_a_part_occurs_once():
    assert hold_out_compositions(["letter a", "letter a with horn"], 0.9, seed=0) == set()


def test_a_part_seen_only_with_its_own_base_is_not_seen_elsewhere():
    names = ["letter a", "letter a with horn", "letter a with horn and acute"]
    assert hold_out_compositions(names, 0.9, seed=0) == set()


def test_the_order_is_that_of_the_seed_and_of_no_process():
    assert shuffled("abcdef", 0) == list("aecbfd")
    assert shuffled("abcdef", 1) != shuffled("abcdef", 0) == shuffled("fedcba", 0)


pairs = st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from(["F", "G", "H"])), min_size=1)


@given(pairs, st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_character_of_a_held_out_pair_stays_in_training(chosen, fraction, seed):
    held = hold_out_pairs(sorted(chosen), fraction, seed)
    assert held <= chosen
    assert {c for c, _ in held} <= {c for c, _ in chosen - held}
    most = sum(n - 1 for n in Counter(c for c, _ in chosen).values())
    assert len(held) == min(round(fraction * len(chosen)), most)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_the_pairs_does_not_matter(seed):
    chosen = [(c, f) for c in "abcdefgh" for f in ("F", "G", "H")]
    assert hold_out_pairs(chosen, 0.3, seed) == hold_out_pairs(chosen[::-1], 0.3, seed)
