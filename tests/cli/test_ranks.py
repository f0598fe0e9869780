"""Shares of work, and what the environment says of the processes. Two real ones: test_caption."""

import pytest
import torch

from mmattn.cli.ranks import Ranks, ranks
from mmattn.errors import ConfigError

SET = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch.setenv


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_shares_are_all_of_it_once_and_of_equal_size(size, count):
    shares = [Ranks(rank, size).share(count) for rank in range(size)]
    assert sorted(place for share in shares for place in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", [None, "1"])
def test_one_process_needs_nobody(environment, size):
    if size:
        environment("WORLD_SIZE", size)
    with ranks() as here:
        assert here == Ranks(0, 1)
        assert here.first
        here.wait()
        made = object()
        assert here.agreed(lambda: made) is made
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("size", ["two", "", "-1", "0", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(environment, size):
    environment("WORLD_SIZE", size)
    with pytest.raises(ConfigError, match=r"in the environment is no number: unset it"), ranks():
        pass


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_an_environment_of_another_program_is_refused(environment, missing, monkeypatch):
    for name in SET:
        environment(name, "2")
    monkeypatch.delenv(missing)
    said = f"WORLD_SIZE=2, but {missing} is not set: start with torchrun, or unset it"
    with pytest.raises(ConfigError, match=said), ranks():
        pass
