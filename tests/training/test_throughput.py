import time

import lightning as L
import pytest

from mmattn.training.throughput import Throughput


class Slow(L.Callback):
    """Makes each training batch and each validation take its time."""

    def __init__(self, batch, validation=0.0):
        self.batch, self.validation = batch, validation

    def on_train_batch_start(self, *_):
        time.sleep(self.batch)

    def on_validation_start(self, *_):
        time.sleep(self.validation)


@pytest.fixture
def measure(make_data, make_task, make_trainer):
    def run(throughput, slow=None, **options):
        data = make_data()
        trainer = make_trainer(*([slow] if slow else []), throughput, **options)
        trainer.fit(make_task(data), datamodule=data)
        return throughput.results()

    return run


def test_a_rate_counts_captions_and_leaves_validation_out(measure):
    found = measure(Throughput(skip=2), Slow(0.05, 0.5), max_epochs=2)
    # 24 images with 36 captions in six batches of at least 50 ms
    assert 36 / 6 / 0.05 * 0.4 < found["train/captions_per_second"] < 36 / 6 / 0.05
    assert found["train/seconds"] > 2 * (6 * 0.05 + 0.5)


def test_a_run_shorter_than_the_warm_up_has_a_rate_too(measure):
    found = measure(Throughput(skip=5), Slow(0.02), limit_train_batches=2, limit_val_batches=0)
    assert 0 < found["train/captions_per_second"] < 8 / 0.02


def test_warm_up_is_left_out_where_there_is_more(measure):
    class First(Slow):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            time.sleep(0.5 if batch_idx == 0 else 0.01)

    found = measure(Throughput(skip=1), First(0), limit_train_batches=4, limit_val_batches=0)
    assert found["train/captions_per_second"] > 4 * 4 / 0.5


def test_there_is_nothing_to_say_before_fit():
    assert Throughput().results() == {}


def test_a_resumed_run_goes_on_counting(measure):
    first, second = Throughput(skip=0), Throughput(skip=0)
    measure(first)
    state = first.state_dict()
    assert state["batches"] == 6
    second.load_state_dict(state)
    assert measure(second)["train/seconds"] > state["seconds"]
    ended = second.state_dict()
    assert (ended["batches"], ended["captions"]) == (12, 2 * state["captions"])
    assert ended["training"] > state["training"]
