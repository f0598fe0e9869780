import pytest

from mmattn.errors import ConfigError
from mmattn.tasks.methods.progress import Progress, check_start


@pytest.mark.parametrize(
    ("step", "start", "reached"),
    [(0, 0, True), (4, 5, False), (5, 5, True), (24, 0.25, False), (25, 0.25, True)],
)
def test_a_start_is_a_number_of_steps_or_a_share(step, start, reached):
    assert Progress(step, 100).has_reached(start, "key") is reached


@pytest.mark.parametrize(
    ("step", "start", "share"),
    [
        *[(0, 0, 0), (50, 0, 0.5), (100, 0, 1), (130, 0, 1)],
        *[(25, 0.5, 0), (75, 0.5, 0.5), (60, 20, 0.5), (90, 200, 0)],
    ],
)
def test_the_rest_of_a_run_is_counted_from_its_start(step, start, share):
    assert Progress(step, 100).since(start, "key") == pytest.approx(share)


def test_a_share_of_a_run_without_an_end_is_refused():
    assert Progress(5).has_reached(3, "key")
    with pytest.raises(ConfigError, match=r"^a\.start counts in shares .* set trainer.max_epochs"):
        Progress(5).has_reached(0.3, "a.start")


@pytest.mark.parametrize("start", [-1, -0.5, 1.5])
def test_a_start_that_is_neither_is_refused(start):
    with pytest.raises(ConfigError, match=f"a.start={start} is a number of optimiser steps, or"):
        check_start(start, "a.start")
