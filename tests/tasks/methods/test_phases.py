from functools import partial

import pytest
import torch
from torch.optim import SGD

from mmattn.errors import ConfigError
from mmattn.tasks.methods.phases import two_phases
from mmattn.tasks.optimisation import WarmupCosine


def make_optimizer(*rates):
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def rates(optimizer, schedule, steps):
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return found


def test_a_schedule_is_followed_by_a_constant_rate():
    optimizer, plain = make_optimizer(0.1, 0.05), make_optimizer(0.1, 0.05)
    make = partial(WarmupCosine, warmup=2)
    found = rates(optimizer, two_phases(optimizer, make, 6, 0.01), 9)
    assert found[:6] == rates(plain, make(plain, total_steps=6), 6)
    assert found[6:] == [pytest.approx([0.01, 0.005])] * 3  # the second group keeps its ratio


def test_without_a_schedule_or_a_first_phase():
    optimizer = make_optimizer(0.1)
    assert rates(optimizer, two_phases(optimizer, None, 2, 0.01), 4) == [
        *([pytest.approx([0.1])] * 2),
        *([pytest.approx([0.01])] * 2),
    ]
    optimizer = make_optimizer(0.1)
    assert rates(optimizer, two_phases(optimizer, None, 0, 0.01), 1) == [[pytest.approx(0.01)]]
    optimizer = make_optimizer(0.1)
    assert rates(optimizer, two_phases(optimizer, None, 1, None), 2)[1] == [pytest.approx(0.1)]


@pytest.mark.parametrize("cut", [2, 4, 5, 7])
def test_it_goes_on_from_any_step(cut):
    def make():
        optimizer = make_optimizer(0.1, 0.05)
        return optimizer, two_phases(optimizer, partial(WarmupCosine, warmup=2), 5, 0.01)

    whole = rates(*make(), 9)
    optimizer, schedule = make()
    rates(optimizer, schedule, cut)
    state = optimizer.state_dict(), schedule.state_dict()
    optimizer, schedule = make()
    optimizer.load_state_dict(state[0])
    schedule.load_state_dict(state[1])
    assert rates(optimizer, schedule, 9 - cut) == whole[cut:]


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.lr is 0"):
        two_phases(make_optimizer(0.0), None, 1, 0.01)
