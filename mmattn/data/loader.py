"""A loader whose position is a handful of integers, so that a resumed run sees the same batches."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch.utils.data import DataLoader, Dataset

from mmattn.data.order import batch_count, epoch_batches, rank_batches
from mmattn.data.token_batches import TokenBatches
from mmattn.data.worker_faults import CatchingReader, Caught, collated, worker_faults
from mmattn.data.worker_signals import leave_signals_to_parent
from mmattn.errors import CheckpointError, ConfigError

# What must be as it was when the state was saved, and how to make it so.
REMEDIES = {
    "length": "give this run the data set that the checkpoint was trained on",
    "global_batch": "choose batch_size and the number of ranks so that their product is the same",
    "seed": "set the seed of the run that wrote the checkpoint",
    # A hash of the texts' lengths and of what is made of them; 0 where batches are of one size.
    "order": "keep tokens_per_batch, batch_size, number of ranks and tokenizer as they were",
}


@runtime_checkable
class KeyedDataset(Protocol):
    """A map-style data set that is asked for (epoch, index), a whole batch at a time."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitems__(self, items: list[tuple[int, int]]) -> list[Any]:
        """Return one sample for each (epoch, index)."""
        ...


class StatefulLoader:
    """The batches of one rank, epoch after epoch, resumable after any of them.

    This is what Lightning gets with `Trainer(use_distributed_sampler=False)`: it saves `state_dict`
    with a checkpoint and hands it back before the first batch. The state counts the batches that
    the trainer was given, not those that workers have fetched ahead.

    The order comes from `epoch_batches` and does not depend on `num_workers`, and the global random
    state is left alone. An iteration runs to the end of its epoch, and the next one takes the next
    epoch. One that was given up starts its epoch again; the first one after `load_state_dict` goes
    on where the state was taken.

    Args:
        dataset: the samples, keyed by (epoch, index) so that randomness can be keyed on both.
        batch_size: samples in one rank's batch.
        seed: of the order.
        collate_fn: list of samples -> batch.
        shuffle: draw a new order for each epoch; otherwise keep that of the data set.
        drop_last: leave out the ragged end of an epoch.
        rank: which share of each global batch is ours, 0 to `world_size - 1`.
        world_size: number of ranks.
        order: batches of another kind, by epoch; `batch_size`, `shuffle` and `drop_last` then do
            not count.
        num_workers: processes that read samples; with 0 this process reads them, and the settings
            of workers below have nothing to act on.
        pin_memory: put batches into page-locked memory, for faster copies to a GPU.
        prefetch_factor: batches that each worker fetches ahead; None is torch's default.
        persistent_workers: keep the workers from one epoch to the next.
        timeout: seconds to wait for a worker's batch before raising; 0 waits for ever.

    Raises:
        DataError: the data set is empty.
        ConfigError: there would be no batch, or `rank` is not below `world_size`.
    """

    def __init__(
        self,
        dataset: KeyedDataset,
        *,
        batch_size: int,
        seed: int,
        collate_fn: Callable[[list[Any]], Any],
        shuffle: bool,
        drop_last: bool,
        rank: int = 0,
        world_size: int = 1,
        order: TokenBatches | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        timeout: int = 0,
    ):
        length = len(dataset)
        self._fixed = {"seed": seed, "length": length, "global_batch": batch_size * world_size}
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} must lie in 0 to {world_size - 1} (world_size - 1)")
        if order is None:
            self._count = batch_count(length, batch_size, world_size, drop_last)
            sizes = (length, batch_size, world_size, seed)
            batches = partial(epoch_batches, *sizes, shuffle=shuffle, drop_last=drop_last)
        else:
            self._count, batches = len(order), order
            self._fixed["order"] = order.fingerprint
        self._resumed = False
        self.dataset = dataset
        self.batch_sampler = _EpochKeys(batches, rank, world_size)
        self._loader = DataLoader(
            cast(Dataset[Any], CatchingReader(dataset) if num_workers else dataset),
            batch_sampler=self.batch_sampler,
            collate_fn=partial(collated, collate_fn) if num_workers else collate_fn,
            num_workers=num_workers,
            pin_memory=pin_memory,
            prefetch_factor=prefetch_factor if num_workers else None,
            persistent_workers=persistent_workers and num_workers > 0,
            timeout=timeout if num_workers else 0,
            worker_init_fn=leave_signals_to_parent,
            # Without a generator of its own, every epoch would draw from the global one.
            generator=torch.Generator().manual_seed(seed),
        )

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch, also where the next one is resumed."""
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches that are left of the epoch."""
        position = self.batch_sampler
        if not self._resumed:
            position.delivered = 0
        self._resumed = False
        batches = iter(self._loader)
        while True:
            with worker_faults(self.dataset):
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, Caught):
                raise batch.error
            position.delivered += 1
            if position.delivered == self._count:
                # Now, for the trainer counts batches: it never asks for one more than there are.
                position.epoch, position.delivered = position.epoch + 1, 0
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the position, and what must be the same for it to mean the same: plain integers.

        `epoch` and `delivered` name the next batch; after the last one of an epoch they are
        (epoch + 1, 0).
        """
        position = self.batch_sampler
        return {"epoch": position.epoch, "delivered": position.delivered, **self._fixed}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Go on from `state_dict`, which another number of ranks or workers may have saved.

        Raises `CheckpointError` if the data set's length, the global batch or the seed is another,
        or the state is none of this class.
        """
        missing = sorted(self.state_dict().keys() - state_dict.keys())
        if missing:
            raise CheckpointError(
                f"the checkpoint's loader state lacks {', '.join(missing)}: another loader saved "
                "it, so this run cannot go on from it; start one from its weights instead"
            )
        check_same_order(state_dict, self._fixed)
        epoch, delivered = state_dict["epoch"], state_dict["delivered"]
        if epoch < 0 or not 0 <= delivered < self._count:
            raise CheckpointError(
                f"the checkpoint stands at batch {delivered} of epoch {epoch} and an epoch of this "
                f"run has {self._count} batches: set drop_last as it was"
            )
        self.batch_sampler.epoch, self.batch_sampler.delivered = epoch, delivered
        self._resumed = True


def check_same_order(saved: Mapping[str, int], own: Mapping[str, int]) -> None:
    """Raise CheckpointError unless seed, length and global batch are as they were saved."""
    for name, remedy in REMEDIES.items():
        was, now = saved.get(name, 0), own.get(name, 0)
        if was != now:
            raise CheckpointError(
                f"the checkpoint was saved with {name}={was} and this run has {name}={now}, "
                f"so its batches would be others: {remedy}"
            )


class _EpochKeys:
    """The position in the order, and the keys of the batches that follow it in its epoch."""

    def __init__(self, order: Callable[[int], list[list[int]]], rank: int, world_size: int):
        self._order, self._ranks = order, (rank, world_size)
        self.epoch = 0
        self.delivered = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        for batch in rank_batches(self._order(epoch), *self._ranks)[self.delivered :]:
            yield [(epoch, index) for index in batch]

    @property
    def sampler(self) -> "_EpochKeys":
        """Lightning calls `loader.batch_sampler.sampler.set_epoch` before each training epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Move to the start of `epoch`, unless this is where we are.

        The trainer's word counts in two cases: it hands no state back when the checkpoint was
        written at the end of an epoch, and with `limit_train_batches` its epochs are shorter.
        """
        if epoch != self.epoch:
            self.epoch, self.delivered = epoch, 0
