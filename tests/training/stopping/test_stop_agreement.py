from datetime import timedelta

import pytest
import torch
from torch import distributed

from mmattn.training.stopping.stop_agreement import StopAgreement
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
