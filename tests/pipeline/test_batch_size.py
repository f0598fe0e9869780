"""The batch size that is fastest here: found by trying, within what memory there is."""

import pytest
import torch

from mmattn.errors import ConfigError
from mmattn.pipeline import batch_size
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.batch_size import fastest_batch_size
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pooling import AttentionPooler


@pytest.fixture
def writer(pipeline):
    return pipeline.writer()


@pytest.fixture
def timed(monkeypatch):
    """Let a batch of a size take so long as a function says; returns the sizes that were tried."""
    tried = []

    def use(seconds):
        def measure(writer, size):
            tried.append(size)
            return seconds(size)

        monkeypatch.setattr(batch_size, "seconds", measure)
        return tried

    return use


@pytest.mark.parametrize(
    ("seconds", "most", "found", "tried"),
    [
        (lambda size: 1.0, 256, 256, [1, 2, 4, 8, 16, 32, 64, 128, 256]),  # free of charge
        (lambda size: 1.0, 10_000, 256, [1, 2, 4, 8, 16, 32, 64, 128, 256]),
        (lambda size: 1.0, 20, 16, [1, 2, 4, 8, 16]),
        (lambda size: 1.0, 1, 1, [1]),
        (lambda size: 1.0, 0, 1, [1]),
        (lambda size: size, 256, 1, [1, 2]),  # no gain at all
        (lambda size: size**0.99, 256, 1, [1, 2]),  # too little
        (lambda size: max(size, 4), 256, 4, [1, 2, 4, 8]),
    ],
)
def test_sizes_are_doubled_as_long_as_that_pays(writer, timed, seconds, most, found, tried):
    asked = timed(seconds)
    assert fastest_batch_size(writer, most) == found
    assert asked == tried


def out_of_memory_above(limit):
    def seconds(size):
        if size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    return seconds


def test_memory_is_the_limit(writer, timed):
    asked = timed(out_of_memory_above(5))
    assert fastest_batch_size(writer) == 4
    assert asked == [1, 2, 4, 8]


def test_no_memory_for_one_is_said(writer, timed):
    timed(out_of_memory_above(0))
    with pytest.raises(ConfigError, match="memory does not suffice for one picture: load"):
        fastest_batch_size(writer)


def test_another_failure_is_not_hidden(writer, timed):
    timed(lambda size: [][size])
    with pytest.raises(IndexError):
        fastest_batch_size(writer)


def test_a_real_writer_is_measured(make_captioner, pipeline):
    pooled = Pipeline(make_captioner(pooler=AttentionPooler(5, 16, 2, 16)))
    for writer in (
        pipeline.writer(beams=2, returned=2),
        pipeline.writer(AttentionChoice(layers=-1), sample=True),
        pooled.writer(attention=True),
    ):
        assert fastest_batch_size(writer, 4) in (1, 2, 4)
