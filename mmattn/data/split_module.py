"""Training, validation and test sets as Lightning wants them, whatever they hold."""

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning as L
import numpy as np
from torch import Tensor

from mmattn.data.augment import KeyedReader
from mmattn.data.bad_samples import REPORT, BadSamples
from mmattn.data.dataset import AnySplits
from mmattn.data.image_cache import cache_as_set
from mmattn.data.lengths import check_lengths
from mmattn.data.loader import StatefulLoader, check_same_order
from mmattn.data.loader_options import LoaderOptions as LoaderOptions
from mmattn.data.loader_options import TokenizerOptions as TokenizerOptions
from mmattn.data.order import is_repeat
from mmattn.data.stand_ins import Sizes
from mmattn.data.token_batches import TokenBatches
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.data.worker_faults import told_of
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]
# What batches are not made of: processes that read are not sent it.
AT_HOME = (
    *("trainer", "source", "train_transform", "eval_transform"),
    *("_splits", "_features_of", "_views_of", "_image_cache", "_train_loader", "_bad"),
    *("_text_sizes", "_train_lengths"),
)


S = TypeVar("S", bound=AnySplits)


class SplitDataModule(L.LightningDataModule, Generic[S]):
    """A source's sets, their tokenizer, order, ranks and exact resume.

    What a sample is and how it is read is left to subclasses.

    Args:
        source: the data set; its `splits()` has `train`, `val`, `test` by name, and `notes`.
        image_size: (height, width) that the transforms produce.
        train_transform, eval_transform: uint8 [3, h, w] -> float [3, height, width].
        tokenizer: where the tokenizer comes from.
        loader: how batches are read.
        max_length: the longest text in tokens.
        seed: of order, augmentation and choice of texts.
        truncate: cut texts longer than `max_length` (their end token stays) instead of refusing.
        root: the folder of the data set, which the configuration also hands to the source; None
            for a built-in one.
        image_cache: a folder that keeps training images decoded (see `ImageCache`); None reads the
            files again in each epoch. Validation and test always read the files: their figures are
            of the pictures as the saved model will get them.
        image_cache_side: the longest that the shorter side of a cached image may be, in pixels;
            None is 8/7 of the longer side of `image_size`, 256 for 224.

    Attributes:
        cached: whether batches hold features instead of pixels.

    Raises:
        ConfigError: `image_cache_side` is below 1, or given without `image_cache`.
    """

    def __init__(
        self,
        source: Any,
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
        image_cache: str | None = None,
        image_cache_side: int | None = None,
    ):
        super().__init__()
        self.source, self.image_size = source, (image_size[0], image_size[1])
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.tokenizer_options, self.loader = tokenizer, loader
        self.max_length, self.seed, self.truncate = max_length, seed, truncate
        self.root = root
        self._image_cache = cache_as_set(
            image_cache, image_cache_side, self.image_size, loader.num_workers
        )
        self._splits: S | None = None
        self._features_of: Callable[[Any], Any] | None = None
        self._views_of: Callable[[Any], Any] | None = None
        self._draw_view: Transform = _as_is
        self.cached = False
        self._train_loader: StatefulLoader | None = None
        self._position: dict[str, int] | None = None
        self._text_sizes: Sizes | None = None
        self._bad: BadSamples | None = None

    @property
    def splits(self) -> S:
        """The sets; `read` comes first."""
        if self._splits is None:
            self.read()
        assert self._splits is not None
        return self._splits

    @abstractmethod
    def reader(self, dataset: Any, transform: Transform, *, training: bool = False) -> KeyedReader:
        """Return what reads the samples of one of the sets."""

    @abstractmethod
    def collate(self, samples: list[Any]) -> Any:
        """Return the batch of some samples."""

    @abstractmethod
    def pictures(self, sample: Any) -> Sequence[Tensor]:
        """Return the transformed images of a sample."""

    @abstractmethod
    def read(self) -> None:
        """Read everything and check it. Raises `DataError` or `ConfigError`."""

    @abstractmethod
    def model_settings(self) -> dict[str, Any]:
        """Return what the model's settings take from the data, by their dotted keys."""

    @abstractmethod
    def task_settings(self) -> dict[str, Any]:
        """Return what the task takes from the data, by its argument."""

    @property
    def test_names(self) -> list[str]:
        """The names of the test sets, in the order of `test_dataloader`."""
        return list(self.splits.test)

    def use_features(
        self,
        features_of: Callable[[Any], Any],
        views_of: Callable[[Any], Any] | None = None,
        draw: Transform | None = None,
    ) -> None:
        """Let batches hold the frozen features of the images instead of their pixels.

        Args:
            features_of: a set -> the set with features for images.
            views_of: the same for training, with several augmented copies of each image; training
                images are not augmented if None.
            draw: what `views_of` has of an image -> the features of one copy; may draw from torch's
                global generator.

        Raises:
            ConfigError: where decoded images are to be kept too: none would ever be read.
        """
        if self._image_cache is not None:
            raise ConfigError(
                "feature_cache keeps what is made of the images, so no decoded image is needed: "
                "set data.image_cache=null, or feature_cache=null"
            )
        self._features_of, self.cached = features_of, True
        self._views_of, self._draw_view = views_of, draw or _as_is

    def with_images(self, dataset: Any, images_of: Callable[[Any], Any]) -> Any:
        """Return a set with other images, made by `images_of` from the set of them."""
        return images_of(dataset)

    def train_dataloader(self) -> StatefulLoader:
        """Return the shuffled, augmented training batches of this rank."""
        reader = self._reading(self.splits.train, self.train_transform, training=True)
        trainer = self.trainer
        overfitting = trainer is not None and getattr(trainer, "overfit_batches", 0) > 0
        order = None if overfitting else self.token_batches(self._ranks[1])
        size = self.loader.batch_size
        loader = self._loader(reader, size, shuffle=not overfitting, drop_last=True, order=order)
        if self._position is not None:
            loader.load_state_dict(self._position)
            self._position = None
        self._train_loader = loader
        return loader

    def val_dataloader(self) -> StatefulLoader:
        """Return the validation batches: no augmentation, all texts of each image."""
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
        order = self.token_batches(world_size)
        return {
            "seed": self.seed,
            "length": len(self.splits.train),
            "global_batch": self.loader.batch_size * world_size,
        } | ({} if order is None else {"order": order.fingerprint})

    def token_batches(self, world_size: int) -> TokenBatches | None:
        """Return the training batches by the lengths of texts; None where these do not matter."""
        tokens = self.loader.tokens_per_batch
        if tokens is None:
            return None
        return TokenBatches(
            *self._sizes,
            tokens=tokens,
            most=self.loader.batch_size,
            world_size=world_size,
            seed=self.seed,
        )

    @property
    def _sizes(self) -> Sizes:
        """What `text_sizes` returns, which is asked for once."""
        if self._text_sizes is None:
            longest, texts = self.text_sizes()
            self._text_sizes = np.asarray(longest), np.asarray(texts)
        return self._text_sizes

    @abstractmethod
    def text_sizes(self) -> tuple[list[int], list[int]]:
        """Return, for each training sample, the tokens of its longest text and how many it has."""

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on where the state was taken; refuse other data, global batches and seeds."""
        check_same_order(state_dict, self.state_dict())
        self._position = state_dict if "epoch" in state_dict else None
        loader = self._train_loader
        if self._position is None or loader is None:
            return
        made = loader.state_dict()
        if made["epoch"] == made["delivered"] == 0:  # for this run: FSDP hands the state back late
            loader.load_state_dict(self._position)
            self._position = None

    def evaluation_batch(self, dataset: Any, indices: Sequence[int]) -> Any:
        """Return the samples at `indices` of one of the sets as one batch, not augmented."""
        reader = self._reading(dataset, self.eval_transform)
        return self.collate(reader.__getitems__([(0, index) for index in indices]))

    def bad_samples(self, dataset: Any) -> BadSamples | None:
        """Return what keeps count of a training set's bad samples; None where they stop the run."""
        options, trainer = self.loader, self.trainer
        if options.on_bad_sample == "raise":
            return None
        report = None if trainer is None else Path(trainer.default_root_dir) / REPORT
        self._bad = BadSamples(
            len(dataset),
            options.max_bad_fraction,
            skip=options.on_bad_sample == "skip",
            report=report,
            sizes=None if options.tokens_per_batch is None else self._sizes,
        )
        return self._bad

    def teardown(self, stage: str) -> None:
        """Say at the end of training how many images of it could not be read."""
        bad = self._bad
        if stage == "fit" and bad is not None and (count := bad.count):
            report = bad.report
            log.warning("%d training images could not be read in this run, see %s", count, report)

    def on_exception(self, exception: BaseException) -> None:
        """Say which samples were being read where a worker died during a training step."""
        loader = self._train_loader
        told = None if loader is None else told_of(exception, loader.dataset)
        if told is not None:
            exception.add_note(told)

    def make_tokenizer(self, texts: Iterable[str]) -> CaptionTokenizer:
        """Return the tokenizer that the options name, or one trained on `texts`."""
        options = self.tokenizer_options
        if options.path is not None:
            return CaptionTokenizer.load(options.path)
        return CaptionTokenizer.train(texts, options.vocab_size, options.min_frequency)

    def check_lengths(self, what: str, lengths: Sequence[int], place: Callable[[int], str]) -> None:
        """Refuse texts that are too long, or warn of them: see `lengths.check_lengths`."""
        check_lengths(what, lengths, place, self.max_length, truncate=self.truncate)

    def check_transforms(self) -> None:
        """Try the transforms on the first training image: a wrong one is better known now.

        Raises:
            ConfigError: for a transform that does not give what the model will ask for.
        """
        for name, transform in (("train", self.train_transform), ("eval", self.eval_transform)):
            reader = self.reader(self.splits.train, transform, training=True)
            try:
                images = self.pictures(reader[0, 0])
            except DataError:
                raise
            except (ValueError, TypeError, RuntimeError) as error:
                raise ConfigError(f"data.{name}_transform fails: {error}") from error
            _check_shapes(name, images, self.image_size)

    def _evaluation(self, dataset: Any) -> StatefulLoader:
        reader = self._reading(dataset, self.eval_transform, whole=True)
        return self._loader(reader, self.loader.eval_batch_size, shuffle=False, drop_last=False)

    def _reading(
        self, dataset: Any, transform: Transform, *, training: bool = False, whole: bool = False
    ) -> KeyedReader:
        """Return what reads a set; `whole`: no image may lack its features."""
        if training and self._views_of is not None:
            dataset, transform = self.with_images(dataset, self._views_of), self._draw_view
        elif self._features_of is not None:
            features_of = partial(_whole, self._features_of) if whole else self._features_of
            dataset, transform = self.with_images(dataset, features_of), _as_is
        elif training and self._image_cache is not None:
            dataset = self.with_images(dataset, self._image_cache)
        return self.reader(dataset, transform, training=training)

    @property
    def _ranks(self) -> tuple[int, int]:
        """This rank, and how many there are."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(
        self,
        reader: KeyedReader,
        batch_size: int,
        *,
        shuffle: bool,
        drop_last: bool,
        order: TokenBatches | None = None,
    ) -> StatefulLoader:
        rank, world_size = self._ranks
        return StatefulLoader(
            reader,
            batch_size=batch_size,
            seed=self.seed,
            collate_fn=self._in_workers().collate,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            order=order,
            num_workers=self.loader.num_workers,
            pin_memory=self.loader.pin_memory,
            prefetch_factor=self.loader.prefetch_factor,
            persistent_workers=self.loader.persistent_workers,
            timeout=self.loader.timeout,
        )

    def _in_workers(self) -> "SplitDataModule[S]":
        """Return a copy that makes the same batches, and that can be sent to any process."""
        sent = copy.copy(self)
        for name in AT_HOME:
            setattr(sent, name, None)
        return sent

    def is_repeat(self, dataset: Sized, batch_idx: int) -> bool:
        """Whether this rank's batch of an evaluation repeats what other ranks have of it."""
        trainer = self.trainer
        if trainer is None:
            return False
        ranks = trainer.world_size, trainer.global_rank
        return is_repeat(len(dataset), self.loader.eval_batch_size, *ranks, batch_idx)


def _whole(features_of: Callable[[Any], Any], images: Any) -> Any:
    """Return the features of images. Raises `DataError` now for one that would raise it later."""
    features = features_of(images)
    for index in sorted(getattr(features, "unreadable", ())):
        features.image(index)
    return features


def _as_is(features: Tensor) -> Tensor:
    return features


def _check_shapes(name: str, images: Sequence[Tensor], size: tuple[int, int]) -> None:
    """Raise ConfigError unless a transform gives floats [3, height, width] of this size."""
    wanted = (3, *size)
    for image in images:
        if tuple(image.shape) != wanted or not image.is_floating_point():
            raise ConfigError(
                f"data.{name}_transform gives {image.dtype} {tuple(image.shape)}, and the "
                f"model needs floats {wanted}: make it end in data.image_size and in ToNormalised"
            )
