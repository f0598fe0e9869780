import pytest
import torch
from torch import nn

from mmattn.training.processes.shared_buffers import SharedBuffers, share_buffers


def statistics_of(rank, shared):
    norm = nn.BatchNorm1d(2)
    norm(torch.full((4, 2), float(rank)) + torch.arange(4.0)[:, None])
    if shared:
        share_buffers(norm)
    return norm.running_mean.tolist()


@pytest.mark.fault("F3")
@pytest.mark.parametrize("shared", [True, False])
def test_every_rank_measures_with_the_statistics_of_rank_0(in_two_processes, shared):
    first, second = in_two_processes(statistics_of, [shared, shared])
    assert first == statistics_of(0, False)
    assert (first == second) == shared


def test_one_rank_keeps_its_own(make_data, make_task, make_trainer):
    data = make_data()
    make_trainer(SharedBuffers()).fit(make_task(data), datamodule=data)  # nobody to share with
