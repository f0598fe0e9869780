from itertools import islice

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from mmattn.data.loader import StatefulLoader
from mmattn.data.order import epoch_batches, stable_hash
from mmattn.errors import CheckpointError, ConfigError, DataError

LENGTH, BATCH, SEED = 22, 4, 3
PER_EPOCH = 5


class Keys:
    """A data set whose samples are their own (epoch, index)."""

    def __init__(self, length=LENGTH):
        self.length = length

    def __len__(self):
        return self.length

    def __getitems__(self, keys):
        return keys


def make(num_workers=0, *, length=LENGTH, **options):
    chosen = {"batch_size": BATCH, "seed": SEED, "shuffle": True, "drop_last": True} | options
    return StatefulLoader(Keys(length), collate_fn=list, num_workers=num_workers, **chosen)


def epochs(loader, number):
    """All batches of the next epochs, each asked for as Lightning does: never one too many."""
    return [batch for _ in range(number) for batch in islice(iter(loader), len(loader))]


def stream_with_states(loader, number):
    batches, states = [], []
    for _ in range(number):
        for batch in islice(iter(loader), len(loader)):
            batches.append(batch)
            states.append(loader.state_dict())
    return batches, states


def resumed(state, count, num_workers=0, **options):
    """The `count` batches that a fresh loader gives after `state`."""
    loader = make(num_workers, **options)
    loader.load_state_dict(state)
    batches = []
    while len(batches) < count:
        batches.extend(islice(iter(loader), count - len(batches)))
    return batches


def test_batches_are_the_order_under_the_epoch():
    assert epochs(make(), 2) == [
        [(epoch, index) for index in batch]
        for epoch in (0, 1)
        for batch in epoch_batches(LENGTH, BATCH, 1, SEED, epoch, True, True)
    ]


@pytest.mark.parametrize("drop_last", [True, False])
def test_resuming_after_any_batch_of_three_epochs_gives_the_rest(drop_last):
    batches, states = stream_with_states(make(drop_last=drop_last), 3)
    for done, state in enumerate(states, start=1):
        assert resumed(state, len(batches) - done, drop_last=drop_last) == batches[done:]


@pytest.mark.parametrize(("saved_with", "resumed_with"), [(2, 2), (0, 2), (2, 0)])
def test_resuming_with_other_workers_gives_the_rest(saved_with, resumed_with):
    expected = epochs(make(), 2)
    batches, states = stream_with_states(make(saved_with), 2)
    assert batches == expected
    for done in (1, PER_EPOCH, PER_EPOCH + 2):
        rest = resumed(states[done - 1], len(batches) - done, resumed_with)
        assert rest == batches[done:]


def test_resuming_twice_in_one_epoch_gives_the_rest():
    batches = epochs(make(), 1)
    first, second = make(), make()
    next(iter(first))
    second.load_state_dict(first.state_dict())
    next(iter(second))
    assert resumed(second.state_dict(), 3) == batches[2:]


def test_another_seed_or_epoch_gives_another_order():
    first, second = epochs(make(), 1), epochs(make(seed=SEED + 1), 1)
    indices = [[i for batch in run for _, i in batch] for run in (first, second)]
    both = epochs(make(), 2)
    indices.append([i for batch in both[PER_EPOCH:] for _, i in batch])
    assert len({tuple(order) for order in indices}) == 3


def test_the_epoch_has_rolled_when_its_last_batch_is_handed_over():
    loader = make()
    iteration = iter(loader)
    for delivered in range(1, PER_EPOCH):
        next(iteration)
        assert loader.state_dict()["delivered"] == delivered
    next(iteration)
    assert loader.state_dict() == {
        "epoch": 1,
        "delivered": 0,
        "seed": SEED,
        "length": LENGTH,
        "global_batch": BATCH,
    }
    assert all(type(value) is int for value in loader.state_dict().values())


def test_the_state_counts_what_was_handed_over_and_not_what_workers_fetched():
    loader = make(2, prefetch_factor=2)
    next(iter(loader))
    assert loader.state_dict()["delivered"] == 1


def test_an_iteration_that_was_given_up_starts_its_epoch_again():
    loader = make()
    whole = epochs(make(), 1)
    assert list(islice(iter(loader), 2)) == whole[:2]
    assert epochs(loader, 1) == whole


def test_making_an_iterator_without_using_it_changes_nothing():
    loader = make()
    loader.load_state_dict(make().state_dict() | {"delivered": 2})
    iter(loader)
    assert list(loader) == epochs(make(), 1)[2:]


def test_persistent_workers_survive_a_change_of_epoch_and_an_early_end():
    loader = make(2, persistent_workers=True, prefetch_factor=2)
    assert list(islice(iter(loader), 2)) == epochs(make(), 1)[:2]
    assert epochs(loader, 2) == epochs(make(), 2)


def test_settings_of_workers_do_not_matter_without_workers():
    loader = make(0, persistent_workers=True, prefetch_factor=4, timeout=30)
    assert epochs(loader, 1) == epochs(make(), 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_global_random_state_is_left_alone(num_workers):
    torch.manual_seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    epochs(make(num_workers), 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


@pytest.mark.fault("F3")
def test_two_ranks_share_the_global_batches_of_one():
    whole = epochs(make(batch_size=4), 2)
    ranks = [epochs(make(batch_size=2, rank=rank, world_size=2), 2) for rank in (0, 1)]
    assert all(len(share) == 2 for rank in ranks for share in rank)
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(b) for b in whole]


def test_a_state_of_one_rank_resumes_on_two():
    whole, states = stream_with_states(make(batch_size=4), 2)
    for done in (2, PER_EPOCH, PER_EPOCH + 1):
        ranks = [
            resumed(states[done - 1], len(whole) - done, batch_size=2, rank=rank, world_size=2)
            for rank in (0, 1)
        ]
        joined = [sorted(a + b) for a, b in zip(*ranks, strict=True)]
        assert joined == [sorted(batch) for batch in whole[done:]]


def test_evaluation_reads_each_index_once_over_all_ranks():
    options = {"shuffle": False, "drop_last": False, "batch_size": 2, "world_size": 3}
    ranks = [epochs(make(rank=rank, **options), 1) for rank in range(3)]
    assert {len(batches) for batches in ranks} == {4}
    assert sorted(key for batches in ranks for batch in batches for key in batch) == [
        (0, index) for index in range(LENGTH)
    ]


@pytest.mark.fault("F3")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 30}, "length=22 .* length=30,.*data set"),
        ({"batch_size": 2}, "global_batch=4 .* global_batch=2,.*batch_size"),
        ({"world_size": 2}, "global_batch=4 .* global_batch=8,.*ranks"),
        ({"seed": 9}, "seed=3 .* seed=9,.*set the seed"),
    ],
)
def test_a_state_of_another_order_is_refused_with_both_numbers(options, words):
    loader = make(**options)
    before = loader.state_dict()
    with pytest.raises(CheckpointError, match=words):
        loader.load_state_dict(make().state_dict())
    assert loader.state_dict() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"delivered": PER_EPOCH}, "batch 5 of epoch 0 .* 5 batches"),
        ({"delivered": -1}, "batch -1 of epoch 0"),
        ({"epoch": -1}, "batch 0 of epoch -1"),
    ],
)
def test_a_position_outside_the_epoch_is_refused(change, words):
    with pytest.raises(CheckpointError, match=words):
        make().load_state_dict(make().state_dict() | change)


def test_a_state_of_something_else_is_refused():
    with pytest.raises(CheckpointError, match="lacks delivered, epoch, global_batch, length:"):
        make().load_state_dict({"seed": SEED})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"rank": 2, "world_size": 2}, ConfigError, "rank=2 .* 0 to 1"),
        ({"length": 3}, ConfigError, "drop_last"),
        ({"length": 0}, DataError, "empty"),
    ],
)
def test_what_can_give_no_batch_is_refused_at_once(options, error, words):
    with pytest.raises(error, match=words):
        make(**options)


# A real Lightning fit, cut anywhere.


class Toy(lightning.LightningModule):
    """Dropout and Adam on a few numbers made from the keys; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 3)
        self.dropout = nn.Dropout(0.5)
        nn.init.constant_(self.layer.weight, 0.3)
        nn.init.constant_(self.layer.bias, 0.1)
        self.seen = []

    def on_train_batch_start(self, batch, batch_idx):
        torch.manual_seed(stable_hash(SEED, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch, batch_idx):
        self.seen.append([tuple(key) for key in batch.tolist()])
        return self.dropout(self.layer(batch / 10)).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


class SaveEverywhere(Callback):
    """Writes <moment>-<batches done>.ckpt after each step, validation and epoch."""

    def __init__(self, folder):
        self.folder = folder

    def save(self, trainer, moment):
        if not trainer.sanity_checking:
            done = len(trainer.lightning_module.seen)
            trainer.save_checkpoint(self.folder / f"{moment}-{done}.ckpt")

    def on_train_batch_end(self, trainer, *_):
        self.save(trainer, "step")

    def on_validation_end(self, trainer, _):
        self.save(trainer, "validation")

    def on_train_epoch_end(self, trainer, _):
        self.save(trainer, "epoch")


def stack(samples):
    return torch.tensor(samples, dtype=torch.float32)


def toy_loader(num_workers=0, **options):
    chosen = {"batch_size": BATCH, "seed": SEED, "shuffle": True, "drop_last": True} | options
    return StatefulLoader(Keys(), collate_fn=stack, num_workers=num_workers, **chosen)


def fit(folder, ckpt_path=None, num_workers=0, save=False, **options):
    module = Toy()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
        num_sanity_val_steps=1,
        callbacks=[SaveEverywhere(folder)] if save else [],
        **options,
    )
    validation = toy_loader(shuffle=False, drop_last=False)
    trainer.fit(module, toy_loader(num_workers), validation, ckpt_path=ckpt_path)
    return module


def assert_same_end(run, whole, done):
    assert run.seen == whole.seen[done:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(run.state_dict()[name], tensor), name


@pytest.mark.fault("F2")
@pytest.mark.parametrize(
    "options",
    [{}, {"limit_train_batches": 3}, {"val_check_interval": 2}],
    ids=str,
)
def test_lightning_resumes_bit_for_bit_from_any_moment_of_two_epochs(tmp_path, options):
    options = {"max_epochs": 2, **options}
    whole = fit(tmp_path, save=True, **options)
    checkpoints = list(tmp_path.glob("*.ckpt"))
    assert {path.stem.split("-")[0] for path in checkpoints} == {"step", "validation", "epoch"}
    assert len(checkpoints) >= len(whole.seen) + 4
    for path in checkpoints:
        done = int(path.stem.split("-")[1])
        assert_same_end(fit(tmp_path, ckpt_path=path, **options), whole, done)


@pytest.mark.fault("F2")
@pytest.mark.fault("F3")
@pytest.mark.parametrize(
    ("cut", "before", "after"), [(3, 0, 0), (3, 2, 0), (PER_EPOCH, 0, 2), (7, 0, 0), (7, 2, 2)]
)
def test_a_lightning_run_cut_by_max_steps_goes_on_bit_for_bit(tmp_path, cut, before, after):
    whole = fit(tmp_path, max_epochs=2)
    started = fit(tmp_path, num_workers=before, save=True, max_steps=cut)
    assert started.seen == whole.seen[:cut]
    path = tmp_path / f"step-{cut}.ckpt"
    assert_same_end(fit(tmp_path, path, num_workers=after, max_epochs=2), whole, cut)


def test_a_lightning_run_from_another_position_ends_elsewhere(tmp_path):
    """The comparison of the tests above is one that can fail."""
    whole = fit(tmp_path, save=True, max_epochs=2)
    checkpoint = torch.load(tmp_path / "step-3.ckpt", weights_only=True)
    (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    state["delivered"] = 2
    torch.save(checkpoint, tmp_path / "moved.ckpt")
    run = fit(tmp_path, ckpt_path=tmp_path / "moved.ckpt", max_epochs=2)
    assert run.seen[0] == whole.seen[2]
    assert not torch.equal(run.layer.weight, whole.layer.weight)
