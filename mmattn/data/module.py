"""From a source of captioned images to batches: the one place that turns captions into tokens."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.data.augment import Sample, SampleReader, stacked_images
from mmattn.data.dataset import CaptionDataset, CaptionSource, Splits
from mmattn.data.extra_captions import ExtraCaptions
from mmattn.data.split_module import LoaderOptions as LoaderOptions
from mmattn.data.split_module import SplitDataModule, Transform
from mmattn.data.split_module import TokenizerOptions as TokenizerOptions
from mmattn.data.tokenizer import CaptionTokenizer

log = logging.getLogger(__name__)
KEPT = 100_000  # captions whose ids are kept, about 30 MB


class CaptionDataModule(SplitDataModule[Splits]):
    """Captioned images as Lightning wants them; `max_length` includes a caption's end token.

    Args:
        extra_captions: captions of training images that another captioner wrote, to train on. The
            other arguments are those of `SplitDataModule`.
    """

    source: CaptionSource
    _tokenizer: CaptionTokenizer | None = None
    _train_lengths: Sequence[int] = ()

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
        extra_captions: ExtraCaptions | None = None,
    ):
        super().__init__(
            *(source, image_size, train_transform, eval_transform, tokenizer, loader),
            max_length=max_length,
            seed=seed,
            truncate=truncate,
            root=root,
            image_cache=image_cache,
            image_cache_side=image_cache_side,
        )
        self.extra_captions = extra_captions

    def read(self, tokenizer: CaptionTokenizer | None = None) -> None:
        """Read the source and make the tokenizer, or take the one that is given.

        Raises:
            DataError: for anything wrong in the data, a caption that is too long included.
            ConfigError: for a transform that does not give what the model will ask for.
        """
        found, extra = self.source.splits(), self.extra_captions
        self._splits = found if extra is None else extra.added_to(found)
        for note in self._splits.notes:
            log.info("%s", note)
        self._tokenizer = tokenizer or self.make_tokenizer(_captions(found.train))
        self._ids.clear()
        self._text_sizes = None
        self._train_lengths = self._check_lengths("train", self._splits.train)
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

    def text_sizes(self) -> tuple[list[int], list[int]]:
        """Return each training image's longest caption in tokens, and how many it has in a batch.

        Where captions are drawn it is the longest that may be.
        """
        drawn, train = self.loader.captions_per_image, self.splits.train
        counts = [len(train.captions(i)) for i in range(len(train))]
        lengths = iter([min(length, self.max_length) for length in self._train_lengths])
        longest = [max((next(lengths) for _ in range(count)), default=1) for count in counts]
        return longest, [drawn or max(1, count) for count in counts]

    def pictures(self, sample: Sample) -> Sequence[Tensor]:
        """Return a sample's one image."""
        return [sample.image]

    def collate(self, samples: list[Sample]) -> CaptionBatch:
        """Pad captions, and shift them into labels: the only place that does."""
        captions = max(len(sample.captions) for sample in samples)  # none: images only
        ids = [[self.encode(caption) for caption in sample.captions] for sample in samples]
        length = max((len(row) for rows in ids for row in rows), default=0) + 1
        begin, end, pad = self.tokenizer.begin_id, self.tokenizer.end_id, self.tokenizer.pad_id

        def filled(made: Callable[[list[int]], list[int]], fill: int) -> Tensor:
            """Return what is made of each caption's ids, padded: [samples, captions, length]."""
            empty = [fill] * length
            rows = [[(made(row) + empty)[:length] for row in group] for group in ids]
            padded = [group + [empty] * (captions - len(group)) for group in rows]
            # From one list: small tensors, each written to its place, take ten times as long.
            return torch.tensor(padded, dtype=torch.long).view(len(samples), captions, length)

        tokens = filled(lambda row: [begin, *row], pad)
        labels = filled(lambda row: [*row, end], IGNORE)
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

    @cached_property
    def _ids(self) -> dict[str, list[int]]:
        """The ids of whole captions that were asked for."""
        return {}

    def encode(self, caption: str) -> list[int]:
        """Return a caption's ids, cut so that the end token still fits.

        They are kept: every epoch asks for them again.
        """
        tokenizer = self.tokenizer
        ids = self._ids.get(caption)
        if ids is None:
            if len(self._ids) >= KEPT:
                self._ids.clear()
            ids = self._ids[caption] = tokenizer.encode(caption)
        return ids[: self.max_length - 1]

    def _check_lengths(self, name: str, dataset: CaptionDataset) -> list[int]:
        """Return the tokens of each caption, its end token included, image after image."""
        places = [(i, text) for i in range(len(dataset)) for text in dataset.captions(i)]
        encoded = self.tokenizer.backend.encode_batch(
            [text for _, text in places], add_special_tokens=False
        )

        def place(n: int) -> str:
            index, text = places[n]
            return f"of image {dataset.key(index)}: {text[:60]!r}"

        lengths = [len(item.ids) + 1 for item in encoded]
        self.check_lengths(f"{name} captions", lengths, place)
        return lengths


def _captions(dataset: CaptionDataset) -> Iterator[str]:
    yield from (caption for i in range(len(dataset)) for caption in dataset.captions(i))
