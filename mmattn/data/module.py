"""From a source of captioned images to batches: the one place that turns captions into tokens."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.data.augment import Sample, SampleReader
from mmattn.data.dataset import CaptionDataset, CaptionSource, Splits
from mmattn.data.loader import StatefulLoader, check_same_order
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TokenizerOptions:
    """Where the tokenizer comes from.

    Attributes:
        path: a `tokenizer.json`; trained on the training captions if None.
        vocab_size: upper bound of the trained vocabulary.
        min_frequency: pairs seen less often are not merged.
    """

    path: str | None
    vocab_size: int
    min_frequency: int = 2


@dataclass(frozen=True)
class LoaderOptions:
    """How batches are read.

    Attributes:
        batch_size: training images in one rank's batch.
        eval_batch_size: the same for validation and test.
        num_workers: reading processes; 0 reads in the training process.
        pin_memory: page-locked batches, for faster copies to a GPU.
        captions_per_image: captions drawn for each training image; all of them if None.
        max_bad_fraction: the share of training images that may be unreadable and are replaced.
    """

    batch_size: int
    eval_batch_size: int
    num_workers: int = 0
    pin_memory: bool = False
    captions_per_image: int | None = None
    max_bad_fraction: float = 0.0


class CaptionDataModule(L.LightningDataModule):
    """Captioned images as Lightning wants them.

    Args:
        source: the data set.
        image_size: (height, width) that the transforms produce.
        train_transform, eval_transform: uint8 [3, h, w] -> float [3, height, width].
        tokenizer: where the tokenizer comes from.
        loader: how batches are read.
        max_length: the longest caption in tokens, its end token included.
        seed: of order, augmentation and choice of captions.
        truncate: cut captions longer than `max_length` (their end token stays) instead of refusing.
        root: the folder of the data set, which the configuration also hands to the source; None
            for a built-in one.
    """

    def __init__(
        self,
        source: CaptionSource,
        image_size: Sequence[int],
        train_transform: Transform,
        eval_transform: Transform,
        tokenizer: TokenizerOptions,
        loader: LoaderOptions,
        *,
        max_length: int,
        seed: int,
        truncate: bool = False,
        root: str | None = None,
    ):
        super().__init__()
        self.source, self.image_size = source, (image_size[0], image_size[1])
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.tokenizer_options, self.loader = tokenizer, loader
        self.max_length, self.seed, self.truncate = max_length, seed, truncate
        self.root = root
        self._features_of: Callable[[CaptionDataset], CaptionDataset] | None = None
        self._train_loader: StatefulLoader | None = None
        self._position: dict[str, int] | None = None
        self._splits: Splits | None = None
        self._tokenizer: CaptionTokenizer | None = None

    def read(self, tokenizer: CaptionTokenizer | None = None) -> None:
        """Read the source and make the tokenizer, or take the one that is given.

        Raises:
            DataError: for anything wrong in the data, a caption that is too long included.
            ConfigError: for a transform that does not give what the model will ask for.
        """
        self._splits = self.source.splits()
        for note in self._splits.notes:
            log.info("%s", note)
        self._tokenizer = tokenizer or self._make_tokenizer(self._splits.train)
        self._check_lengths("train", self._splits.train)
        self._check_lengths("val", self._splits.val)
        self._check_transform("train", self.train_transform)
        self._check_transform("eval", self.eval_transform)

    @property
    def splits(self) -> Splits:
        """The sets of captioned images; `read` comes first."""
        if self._splits is None:
            self.read()
        assert self._splits is not None
        return self._splits

    @property
    def tokenizer(self) -> CaptionTokenizer:
        """The tokenizer; `read` comes first."""
        if self._tokenizer is None:
            self.read()
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def test_names(self) -> list[str]:
        """The names of the test sets, in the order of `test_dataloader`."""
        return list(self.splits.test)

    def use_features(self, features_of: Callable[[CaptionDataset], CaptionDataset]) -> None:
        """Let batches hold the frozen features of the images instead of their pixels."""
        self._features_of = features_of

    @property
    def cached(self) -> bool:
        """Whether batches hold features."""
        return self._features_of is not None

    def train_dataloader(self) -> StatefulLoader:
        """Return the shuffled, augmented training batches of this rank."""
        options = self.loader
        reader = self._reader(
            self.splits.train,
            self.train_transform,
            captions_per_image=options.captions_per_image,
            max_bad_fraction=options.max_bad_fraction,
        )
        trainer = self.trainer
        overfitting = trainer is not None and getattr(trainer, "overfit_batches", 0) > 0
        loader = self._loader(reader, options.batch_size, shuffle=not overfitting, drop_last=True)
        if self._position is not None:
            loader.load_state_dict(self._position)
            self._position = None
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> StatefulLoader:
        """Return the validation batches: no augmentation, all references."""
        return self._evaluation(self.splits.val)

    def test_dataloader(self) -> list[StatefulLoader]:
        """Return the batches of every test set."""
        return [self._evaluation(dataset) for dataset in self.splits.test.values()]

    def state_dict(self) -> dict[str, int]:
        """Return which training batch comes next, and what decides which samples it holds.

        Lightning saves the loader's state too, but does not hand it back where a learning-rate
        schedule asks for the run's length: that makes the loader before the state is there.
        """
        if self._train_loader is not None:
            return self._train_loader.state_dict()
        return self.order(1 if self.trainer is None else self.trainer.world_size)

    def order(self, world_size: int) -> dict[str, int]:
        """Return what decides which samples each training batch of `world_size` ranks holds."""
        return {
            "seed": self.seed,
            "length": len(self.splits.train),
            "global_batch": self.loader.batch_size * world_size,
        }

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where the state was taken; refuse other data, global batches and seeds."""
        check_same_order(state_dict, self.state_dict())
        self._position = state_dict if "epoch" in state_dict else None

    def collate(self, samples: list[Sample]) -> CaptionBatch:
        """Pad captions, and shift them into labels: the only place that does."""
        captions = max(len(sample.captions) for sample in samples)  # none: images only
        ids = [[self.encode(caption) for caption in sample.captions] for sample in samples]
        length = max((len(row) for rows in ids for row in rows), default=0) + 1
        shape = (len(samples), captions, length)
        tokens = torch.full(shape, self.tokenizer.pad_id)
        labels = torch.full(shape, IGNORE)
        for b, rows in enumerate(ids):
            for n, row in enumerate(rows):
                tokens[b, n, : len(row) + 1] = torch.tensor([self.tokenizer.begin_id, *row])
                labels[b, n, : len(row) + 1] = torch.tensor([*row, self.tokenizer.end_id])
        return CaptionBatch(
            keys=tuple(sample.key for sample in samples),
            images=torch.stack([sample.image for sample in samples]),
            tokens=tokens,
            labels=labels,
            valid=labels != IGNORE,
            references=tuple(sample.captions for sample in samples),
            cached=self.cached,
        )

    def encode(self, caption: str) -> list[int]:
        """Return a caption's ids, cut so that the end token still fits."""
        return self.tokenizer.encode(caption)[: self.max_length - 1]

    def evaluation_batch(self, dataset: CaptionDataset, indices: Sequence[int]) -> CaptionBatch:
        """Return the images at `indices` of one of the `splits` as one batch, not augmented."""
        reader = self._reader(dataset, self.eval_transform)
        return self.collate(reader.__getitems__([(0, index) for index in indices]))

    def _evaluation(self, dataset: CaptionDataset) -> StatefulLoader:
        reader = self._reader(dataset, self.eval_transform)
        return self._loader(reader, self.loader.eval_batch_size, shuffle=False, drop_last=False)

    def _reader(
        self, dataset: CaptionDataset, transform: Transform, **options: Any
    ) -> SampleReader:
        if self._features_of is not None:
            dataset, transform = self._features_of(dataset), _as_is
        return SampleReader(dataset, transform, self.seed, **options)

    def _loader(
        self, reader: SampleReader, batch_size: int, *, shuffle: bool, drop_last: bool
    ) -> StatefulLoader:
        trainer = self.trainer
        return StatefulLoader(
            reader,
            batch_size=batch_size,
            seed=self.seed,
            collate_fn=self.collate,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            num_workers=self.loader.num_workers,
            pin_memory=self.loader.pin_memory,
            persistent_workers=True,
        )

    def _make_tokenizer(self, train: CaptionDataset) -> CaptionTokenizer:
        options = self.tokenizer_options
        if options.path is not None:
            return CaptionTokenizer.load(options.path)
        captions = (caption for i in range(len(train)) for caption in train.captions(i))
        return CaptionTokenizer.train(captions, options.vocab_size, options.min_frequency)

    def _check_transform(self, name: str, transform: Transform) -> None:
        """Try a transform on the first training image: a wrong one is better known now."""
        bad = self.loader.max_bad_fraction
        reader = SampleReader(self.splits.train, transform, self.seed, max_bad_fraction=bad)
        try:
            image = reader[0, 0].image
        except DataError:
            raise
        except (ValueError, TypeError, RuntimeError) as error:
            raise ConfigError(f"data.{name}_transform fails: {error}") from error
        wanted = (3, *self.image_size)
        if tuple(image.shape) != wanted or not image.is_floating_point():
            raise ConfigError(
                f"data.{name}_transform gives {image.dtype} {tuple(image.shape)}, and the model "
                f"needs floats {wanted}: make it end in data.image_size and in ToNormalised"
            )

    def _check_lengths(self, name: str, dataset: CaptionDataset) -> None:
        places = [(i, text) for i in range(len(dataset)) for text in dataset.captions(i)]
        encoded = self.tokenizer.backend.encode_batch(
            [text for _, text in places], add_special_tokens=False
        )
        lengths = [len(item.ids) + 1 for item in encoded]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        over = sum(length > self.max_length for length in lengths)
        if not over:
            return
        index, text = places[longest]
        found = (
            f"{over} of {len(lengths)} {name} captions are longer than max_length="
            f"{self.max_length} tokens; the longest has {lengths[longest]}, of image "
            f"{dataset.key(index)}: {text[:60]!r}"
        )
        if not self.truncate:
            raise DataError(
                f"{found}. Set data.max_length={lengths[longest]}, or data.truncate=true to cut"
            )
        log.warning("%s. They are cut.", found)


def _as_is(features: Tensor) -> Tensor:
    return features
