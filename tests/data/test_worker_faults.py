"""Readers that die, hang or fail: the run ends soon, with a message that names the sample."""

import os
import time

import pytest
import torch

from mmattn.data.augment import SampleReader
from mmattn.data.loader import StatefulLoader
from mmattn.data.worker_faults import told_of
from mmattn.errors import ConfigError, DataError, ReadError, UserError

pytestmark = pytest.mark.fault("F12")
CULPRIT = 5


class Pictures:
    """Twelve small pictures; what happens on reading one of them is up to the test."""

    def __init__(self, happens):
        self.happens = happens

    def __len__(self):
        return 12

    def key(self, index):
        return f"{index}.jpg"

    def captions(self, index):
        return (f"caption of {index}",)

    def image(self, index):
        if index == CULPRIT:
            self.happens()
        return torch.zeros(3, 4, 4, dtype=torch.uint8)


def batches(happens, num_workers, **options):
    reader = SampleReader(Pictures(happens), lambda image: image.float(), seed=1)
    options = {"batch_size": 3, "seed": 1, "shuffle": False, "drop_last": False} | options
    loader = StatefulLoader(reader, collate_fn=list, num_workers=num_workers, **options)
    return sum(len(batch) for batch in loader)


def test_all_is_read_where_nothing_happens():
    assert batches(lambda: None, 2) == 12


def test_a_worker_that_dies_is_one_message_with_the_sample():
    def die():
        time.sleep(0.5)  # until the next batch is waited for: torch tells at once, wherever that is
        os._exit(9)

    with pytest.raises(DataError, match=r"died.*num_workers.*'5\.jpg'.*worker \(pid") as caught:
        batches(die, 1)
    assert "\n" not in str(caught.value)


def test_a_worker_that_hangs_is_given_up(tmp_path):
    start = time.monotonic()
    with pytest.raises(DataError, match=r"no batch in time.*data.loader.timeout.*'5\.jpg'"):
        batches(lambda: time.sleep(600), 1, timeout=2)
    assert time.monotonic() - start < 300


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unforeseen_error_names_the_sample(num_workers):
    def fail():
        raise ZeroDivisionError("nobody thought of it")

    with pytest.raises(ZeroDivisionError, match="nobody thought of it") as caught:
        batches(fail, num_workers)
    notes = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "sample 5 of the set, '5.jpg', in epoch 0" in notes


class RichError(DataError):
    """A mistake that no process can be sent: it is made from more than its message."""

    def __init__(self, file, line):
        super().__init__(f"{file}:{line} is wrong")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RichError("a.csv", 3), DataError),
        (ConfigError("b"), ConfigError),
        (UserError("c"), UserError),
        (ReadError("d"), ReadError),
    ],
)
def test_a_mistake_in_the_input_is_its_message_alone(error, kind):
    def fail():
        raise error

    with pytest.raises(kind) as caught:
        batches(fail, 1)
    assert type(caught.value) is kind
    assert str(caught.value) == str(error)


def test_other_errors_are_not_blamed_on_workers():
    assert told_of(RuntimeError("shapes do not match"), None) is None
    assert told_of(ValueError("DataLoader worker"), None) is None
    assert "samples that are not known" in str(told_of(RuntimeError("DataLoader worker"), None))
