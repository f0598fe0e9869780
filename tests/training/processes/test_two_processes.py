"""Two processes on the CPU: rank 0 draws alone, while the other one takes part in nothing."""

from datetime import timedelta
from pathlib import Path

from torch import distributed

from mmattn.training.pictures.attention_logger import AttentionLogger
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger
from mmattn.training.pictures.probes import Probes

LIMIT = timedelta(seconds=30)


class Alone:
    """Lets rank 1 into a hook only after rank 0 has left it.

    A collective in the hook would wait for rank 1, which waits in no collective: both time out.
    """

    store: distributed.Store
    visits = 0

    def _visit(self, hook, *args):
        self.visits += 1
        name = f"{type(self).__name__}-{self.visits}"
        if distributed.get_rank() == 1:
            self.store.wait([name], LIMIT)
        hook(*args)
        if distributed.get_rank() == 0:
            self.store.set(name, "left")

    def on_validation_epoch_end(self, *args):
        self._visit(super().on_validation_epoch_end, *args)

    def on_train_batch_end(self, *args):
        self._visit(super().on_train_batch_end, *args)

    def on_test_end(self, *args):
        self._visit(super().on_test_end, *args)

    def on_fit_end(self, *args):
        self._visit(super().on_fit_end, *args)


class Maps(Alone, AttentionLogger):
    pass


class Heads(Alone, HeadStatisticsLogger):
    pass


def train(rank, argument):
    """Train and test as one of two processes; each has a folder of its own to write to."""
    folder, make_data, make_task, make_trainer = argument
    own = str(folder / f"rank-{rank}")
    maps = Maps(own, probes=Probes(size=2), every_n_steps=2, test_images=1)
    heads = Heads(own, probes=Probes(size=2))
    maps.store = heads.store = distributed.FileStore(str(folder / "visits"), 2)
    data = make_data(batch_size=2)
    trainer = make_trainer(maps, heads, strategy="ddp", devices=2)
    trainer.fit(make_task(data), datamodule=data)
    trainer.test(trainer.lightning_module, datamodule=data, verbose=False)
    return {"rank": trainer.global_rank, "step": trainer.global_step, "visits": maps.visits}


def test_only_rank_0_draws_and_needs_no_other_to_do_it(
    in_two_processes, make_data, make_task, make_trainer, tmp_path
):
    argument = (tmp_path, make_data, make_task, make_trainer)
    first, second = in_two_processes(train, [argument] * 2, timeout=90)
    assert (first.pop("rank"), second.pop("rank")) == (0, 1)
    assert first == second == {"step": 6, "visits": 6 + 1 + 1 + 1}
    assert not Path(tmp_path, "rank-1").exists()
    written = {path.name for path in (tmp_path / "rank-0").iterdir()}
    assert {"step-000002", "step-000004", "step-000006", "heads.csv"} <= written
    assert (tmp_path / "rank-0" / "step-000006" / "test-b").is_dir()
    assert len(list((tmp_path / "rank-0" / "step-000006").glob("*.npz"))) == 2
