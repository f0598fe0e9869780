from datetime import timedelta

import pytest
import torch
from torch import distributed

from mmattn.training.stopping import stop_agreement
from mmattn.training.stopping.stop_agreement import StopAgreement, rank_0_leaves_first
from mmattn.training.stopping.stop_request import StopRequest


@pytest.fixture
def group():
    """The process group of a run, of which this is the only rank."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.fault("F10")
def test_nobody_waits_longer_for_an_answer_than_for_any_other(group):
    agreement = StopAgreement(StopRequest(), 2, timedelta(seconds=77))
    (backend,) = {agreement._group._get_backend(torch.device("cpu"))}
    assert backend.options._timeout == timedelta(seconds=77)


@pytest.mark.fault("F8")
@pytest.mark.parametrize("rank", [0, 1])
def test_the_others_wait_for_rank_0_as_long_as_its_loggers_may_take(group, monkeypatch, rank):
    did = []
    store = type("Store", (), {})()
    store.set = lambda name, value: did.append(name)
    store.wait = lambda names, limit: did.append((*names, limit.total_seconds()))
    monkeypatch.setattr(stop_agreement, "run_store", lambda: store)
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(stop_agreement.REQUEST, "deferred", True)
    with pytest.raises(SystemExit), rank_0_leaves_first(100):
        raise SystemExit(143)
    assert did == (["closed"] if rank == 0 else [("closed", 100 + stop_agreement.LEAVING)])


def test_whoever_fails_waits_for_nobody(group, monkeypatch):
    monkeypatch.setattr(stop_agreement, "run_store", None)
    monkeypatch.setattr(stop_agreement.REQUEST, "deferred", True)
    with pytest.raises(ValueError, match="mine"), rank_0_leaves_first(100):
        raise ValueError("mine")
