"""From a source of captioned images to batches: the one place that turns captions into tokens."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.data.augment import Sample, SampleReader
from mmattn.data.dataset import CaptionDataset, CaptionSource, Splits
from mmattn.data.split_module import LoaderOptions as LoaderOptions
from mmattn.data.split_module import SplitDataModule, Transform
from mmattn.data.split_module import TokenizerOptions as TokenizerOptions
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import DataError

log = logging.getLogger(__name__)


class CaptionDataModule(SplitDataModule):
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
        super().__init__(image_size, train_transform, eval_transform, loader, seed)
        self.source, self.tokenizer_options = source, tokenizer
        self.max_length, self.truncate, self.root = max_length, truncate, root
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
        self.check_transforms()

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

    def model_settings(self) -> dict[str, Any]:
        """Return what a captioner's settings take from the data, by their keys."""
        return {"text.vocab_size": self.tokenizer.vocab_size}

    def task_settings(self) -> dict[str, Any]:
        """Return what the task takes from the data."""
        return {
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "test_names": self.test_names,
        }

    @property
    def sets(self) -> tuple[CaptionDataset, CaptionDataset, Mapping[str, CaptionDataset]]:
        """The training set, the validation set, and the test sets by name."""
        return self.splits.train, self.splits.val, self.splits.test

    def reader(
        self, dataset: CaptionDataset, transform: Transform, *, training: bool = False
    ) -> SampleReader:
        """Return what reads one of the sets."""
        if not training:
            return SampleReader(dataset, transform, self.seed)
        options = self.loader
        return SampleReader(
            dataset,
            transform,
            self.seed,
            captions_per_image=options.captions_per_image,
            max_bad_fraction=options.max_bad_fraction,
        )

    def pictures(self, sample: Sample) -> Sequence[Tensor]:
        """Return a sample's one image."""
        return [sample.image]

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

    def _make_tokenizer(self, train: CaptionDataset) -> CaptionTokenizer:
        options = self.tokenizer_options
        if options.path is not None:
            return CaptionTokenizer.load(options.path)
        captions = (caption for i in range(len(train)) for caption in train.captions(i))
        return CaptionTokenizer.train(captions, options.vocab_size, options.min_frequency)

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
