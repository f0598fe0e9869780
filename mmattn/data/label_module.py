"""From a source of labelled examples to batches: texts become tokens, labels become targets."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmattn.batch import IGNORE, LabelBatch
from mmattn.data.augment import stacked_images
from mmattn.data.labelled.classes import (
    Classes,
    check_kinds,
    check_labels,
    make_classes,
    summarise,
)
from mmattn.data.labelled.example import Example
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.reader import Group, GroupReader
from mmattn.data.labelled.splits import LabelledSource, LabelledSplits
from mmattn.data.labelled.text_ids import text_ids
from mmattn.data.split_module import LoaderOptions, SplitDataModule, TokenizerOptions, Transform
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError, DataError

log = logging.getLogger(__name__)
MODALITIES = ("image", "text")


class LabelDataModule(SplitDataModule[LabelledSplits]):
    """Labelled images, texts and pairs as Lightning wants them.

    A batch holds `loader.batch_size` groups: the examples that share their images, which are read
    and encoded once.

    Args:
        max_length: the longest text in tokens, its begin and end token included.
        texts_per_image: so many examples of a group are drawn in each epoch; all if None.
        withhold: "image" or "text" to leave it out everywhere: the control for what the other one
            tells alone. The other arguments are those of `SplitDataModule`.

    Raises:
        ConfigError: an argument is out of its range, or `loader.captions_per_image` is given.
    """

    source: LabelledSource

    def __init__(
        self,
        source: LabelledSource,
        image_size: Sequence[int],
        train_transform: Transform,
        eval_transform: Transform,
        tokenizer: TokenizerOptions,
        loader: LoaderOptions,
        *,
        max_length: int,
        seed: int,
        texts_per_image: int | None = None,
        withhold: str | None = None,
        truncate: bool = False,
        root: str | None = None,
        image_cache: str | None = None,
        image_cache_side: int | None = None,
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
        if withhold is not None and withhold not in MODALITIES:
            raise ConfigError(f"data.withhold is {withhold!r}; choose image, text or null")
        if loader.captions_per_image is not None:
            raise ConfigError(
                f"data.loader.captions_per_image={loader.captions_per_image} is for captions, and "
                "these examples have labels: set it to null, and data.texts_per_image instead"
            )
        self.texts_per_image, self.withhold = texts_per_image, withhold
        self._classes: dict[str, Classes] = {}
        self._tokenizer: CaptionTokenizer | None = None
        self._train_lengths: Sequence[int] = ()

    def read(self, tokenizer: CaptionTokenizer | None = None) -> None:
        """Read the source, find the classes, and make the tokenizer or take the one given.

        Raises:
            DataError: for anything wrong in the data, a label or a text that is too long included.
            ConfigError: for a transform that does not give what the model will ask for.
        """
        found = self.source.splits()
        for note in found.notes:
            log.info("%s", note)
        self._splits, self._classes = with_classes(found)
        texts = [text for example in self.splits.train.examples for text in texts_of(example)]
        self._tokenizer = tokenizer or (self.make_tokenizer(texts) if texts else None)
        self._text_sizes = None
        lengths = [self._check_lengths(*each) for each in named_sets(self.splits)]
        self._train_lengths = lengths[0]
        self.check_transforms()

    @property
    def classes(self) -> dict[str, Classes]:
        """The classes of every head; `read` comes first."""
        assert self._classes, "read() comes first"
        return self._classes

    @property
    def tokenizer(self) -> CaptionTokenizer | None:
        """The tokenizer, None where no example has a text; `read` comes first."""
        return self._tokenizer

    def model_settings(self) -> dict[str, Any]:
        """Return what a classifier's settings take from the data, by their keys."""
        words = [head for head, each in self.classes.items() if each.kind == "words"]
        return {
            "text.vocab_size": 1 if self.tokenizer is None else self.tokenizer.vocab_size,
            "heads": {head: len(each.names) for head, each in self.classes.items()},
            "word_heads": words,
        }

    def task_settings(self) -> dict[str, Any]:
        """Return what the task takes from the data."""
        return {
            "tokenizer": self.tokenizer,
            "test_names": self.test_names,
            "labels": summarise(self.classes, self.splits.train.examples),
            "lacking": self.lacking(),
        }

    def lacking(self) -> dict[str, str]:
        """Return modality -> the place of the first example without it, if there is one."""
        found = {}
        for _, dataset in named_sets(self.splits):
            for example in dataset.examples:
                for what in self.missing(example):
                    found.setdefault(what, example.where)
        return found

    def missing(self, example: Example) -> list[str]:
        """Return what an example lacks, withheld modalities included."""
        has = {"image": bool(example.images), "text": example.text is not None}
        return [what for what in MODALITIES if what == self.withhold or not has[what]]

    def reader(
        self, dataset: LabelledSet, transform: Transform, *, training: bool = False
    ) -> GroupReader:
        """Return what reads one of the sets."""
        if not training:
            return GroupReader(dataset, transform, self.seed)
        bad = self.bad_samples(dataset)
        return GroupReader(dataset, transform, self.seed, self.texts_per_image, bad)

    def with_images(self, dataset: LabelledSet, images_of: Callable[[Any], Any]) -> LabelledSet:
        """Return a set with other images, made by `images_of` from its different pictures."""
        return dataset.with_pictures(images_of(dataset.pictures))

    def text_sizes(self) -> tuple[list[int], list[int]]:
        """Return each training group's longest text in tokens, and its examples in a batch.

        Where examples are drawn it is the longest that may be.
        """
        train = self.splits.train
        groups = [train.group(i) for i in range(len(train))]
        lengths = iter(self._train_lengths)
        longest = [max(self._ids_of(each, next(lengths)) for each in group) for group in groups]
        return longest, [self.texts_per_image or len(group) for group in groups]

    def pictures(self, sample: Group) -> Sequence[Tensor]:
        """Return a group's images."""
        return sample.images

    def collate(self, samples: list[Group]) -> LabelBatch:
        """Return the batch of some groups."""
        examples = [example for group in samples for example in group.examples]
        missing = [self.missing(example) for example in examples]
        pictured = self.withhold != "image" and any(group.images for group in samples)
        rows, image_valid = self._image_rows(samples)
        ids, starts = zip(*map(self.encode, examples), strict=True)
        tokens = pad_sequence([torch.tensor(row) for row in ids], True, self._pad)
        lengths = torch.tensor([len(row) for row in ids])
        return LabelBatch(
            keys=tuple(example.key for example in examples),
            images=stacked_images(samples) if pictured else None,
            image_rows=rows,
            image_valid=None if bool(image_valid.all()) else image_valid,
            tokens=tokens,
            valid=torch.arange(tokens.shape[1]) < lengths[:, None],
            targets=self.targets(examples),
            word_starts=_padded(starts) if any(starts) else None,
            missing={
                what: tuple(b for b, lacks in enumerate(missing) if what in lacks)
                for what in MODALITIES
            },
            cached=self.cached,
        )

    def encode(self, example: Example) -> tuple[list[int], list[int]]:
        """Return an example's ids, begin and end included, and where each of its words starts.

        The begin token alone, which may be of no tokenizer, where there is no text.
        """
        text = None if self.withhold == "text" else example.text
        return text_ids(text, self.tokenizer, self.max_length)

    def targets(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return each head's targets (see `LabelBatch`)."""
        found = {}
        for head, classes in self.classes.items():
            each = [classes.target(example.labels.get(head)) for example in examples]
            if classes.kind == "words":
                found[head] = pad_sequence(
                    [torch.atleast_1d(target) for target in each], True, IGNORE
                )
            else:
                found[head] = torch.stack(each)
        return found

    @property
    def _pad(self) -> int:
        return 0 if self.tokenizer is None else self.tokenizer.pad_id

    def _image_rows(self, samples: Sequence[Group]) -> tuple[Tensor, Tensor]:
        """Return which images each example has, and which of these there are."""
        most = max((len(group.images) for group in samples), default=0) or 1
        rows, valid, first = [], [], 0
        for group in samples:
            here = len(group.images)
            own = [first + i if i < here else 0 for i in range(most)]
            there = [i < here and self.withhold != "image" for i in range(most)]
            rows += [own] * len(group.examples)
            valid += [there] * len(group.examples)
            first += here
        return torch.tensor(rows), torch.tensor(valid)

    def _check_lengths(self, name: str, dataset: LabelledSet) -> list[int]:
        """Return the tokens of each example's text, its begin and end token included."""
        tokenizer, examples = self.tokenizer, dataset.examples
        if tokenizer is None:
            return [1] * len(examples)
        lengths = [sum(len(tokenizer.encode(part)) for part in texts_of(e)) + 2 for e in examples]
        self.check_lengths(f"texts of the {name} set", lengths, lambda n: examples[n].where)
        return lengths

    def _ids_of(self, example: Example, length: int) -> int:
        """Return how many ids `encode` gives for an example whose whole text has `length`."""
        return 1 if "text" in self.missing(example) else min(length, self.max_length)


def named_sets(found: LabelledSplits) -> Iterator[tuple[str, LabelledSet]]:
    """Yield (name, set) for every set there is."""
    yield "training", found.train
    yield "validation", found.val
    for name, dataset in found.test.items():
        yield f"test {name}".rstrip(), dataset


def with_classes(found: LabelledSplits) -> tuple[LabelledSplits, dict[str, Classes]]:
    """Return the sets as they are used, and the classes of every head.

    Training examples of which no label is a class (an answer that is not frequent enough) are left
    out. Raises DataError for wrong labels, and for an empty set.
    """
    for name, dataset in named_sets(found):
        if not len(dataset):
            raise DataError(f"the {name} set is empty: it has 0 examples")
        check_kinds(found.heads, name, dataset.examples)
    train = found.train.examples
    classes = {head: make_classes(head, spec, train) for head, spec in found.heads.items()}
    for name, dataset in named_sets(found):
        if not (name == "training" and any(spec.most_common for spec in found.heads.values())):
            check_labels(found.heads, classes, name, dataset.examples)
    kept = [e for e in train if all(c.knows(e.labels.get(h)) for h, c in classes.items())]
    if len(kept) == len(train):
        return found, classes
    if not kept:
        raise DataError(f"the training set is empty: none of {len(train)} examples has a class")
    log.info("left out %d of %d training examples: no class", len(train) - len(kept), len(train))
    return replace(found, train=LabelledSet(kept, found.train.store)), classes


def texts_of(example: Example) -> list[str]:
    """Return an example's text, or its words with the space before them."""
    if example.text is None:
        return []
    return [example.text] if isinstance(example.text, str) else [f" {w}" for w in example.text]


def _padded(starts: Sequence[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.tensor(list(row), dtype=torch.long) for row in starts], True, 0)
