"""From a source of captioned images to batches: the one place that turns captions into tokens."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.data.augment import Sample, SampleReader, stacked_images
from mmattn.data.dataset import CaptionDataset, CaptionSource, Splits
from mmattn.data.split_module import LoaderOptions as LoaderOptions
from mmattn.data.split_module import SplitDataModule, Transform
from mmattn.data.split_module import TokenizerOptions as TokenizerOptions
from mmattn.data.tokenizer import CaptionTokenizer

log = logging.getLogger(__name__)


class CaptionDataModule(SplitDataModule[Splits]):
    """Captioned images as Lightning wants them; `max_length` includes a caption's end token.

    The arguments are those of `SplitDataModule`.
    """

    source: CaptionSource
    _tokenizer: CaptionTokenizer | None = None

    def read(self, tokenizer: CaptionTokenizer | None = None) -> None:
        """Read the source and make the tokenizer, or take the one that is given.

        Raises:
            DataError: for anything wrong in the data, a caption that is too long included.
            ConfigError: for a transform that does not give what the model will ask for.
        """
        self._splits = self.source.splits()
        for note in self._splits.notes:
            log.info("%s", note)
        self._tokenizer = tokenizer or self.make_tokenizer(_captions(self._splits.train))
        self._check_lengths("train", self._splits.train)
        self._check_lengths("val", self._splits.val)
        self.check_transforms()

    @property
    def tokenizer(self) -> CaptionTokenizer:
        """The tokenizer; `read` comes first."""
        if self._tokenizer is None:
            self.read()
        assert self._tokenizer is not None
        return self._tokenizer

    def model_settings(self) -> dict[str, Any]:
        """Return what the settings of a captioner or joint model take from the data, by key."""
        size = self.tokenizer.vocab_size
        return {"text.vocab_size": size, "text_encoder.vocab_size": size}

    def task_settings(self) -> dict[str, Any]:
        """Return what the task takes from the data."""
        return {
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "test_names": self.test_names,
        }

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
            bad=self.bad_samples(dataset),
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
            images=stacked_images(samples),
            tokens=tokens,
            labels=labels,
            valid=labels != IGNORE,
            references=tuple(sample.captions for sample in samples),
            known=tuple(sample.known or sample.captions for sample in samples),
            cached=self.cached,
        )

    def encode(self, caption: str) -> list[int]:
        """Return a caption's ids, cut so that the end token still fits."""
        return self.tokenizer.encode(caption)[: self.max_length - 1]

    def _check_lengths(self, name: str, dataset: CaptionDataset) -> None:
        places = [(i, text) for i in range(len(dataset)) for text in dataset.captions(i)]
        encoded = self.tokenizer.backend.encode_batch(
            [text for _, text in places], add_special_tokens=False
        )

        def place(n: int) -> str:
            index, text = places[n]
            return f"of image {dataset.key(index)}: {text[:60]!r}"

        lengths = [len(item.ids) + 1 for item in encoded]
        self.check_lengths(f"{name} captions", lengths, place)


def _captions(dataset: CaptionDataset) -> Iterator[str]:
    yield from (caption for i in range(len(dataset)) for caption in dataset.captions(i))
