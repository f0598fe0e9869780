"""From a source of labelled examples to batches: texts become tokens, labels become targets."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmattn.batch import IGNORE, LabelBatch
from mmattn.data.labelled.classes import (
    Classes,
    check_kinds,
    check_labels,
    count_labels,
    make_classes,
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


class LabelDataModule(SplitDataModule):
    """Labelled images, texts and pairs as Lightning wants them.

    A batch holds `loader.batch_size` groups: the examples that share their images, which are read
    and encoded once.

    Args:
        source: the data set.
        image_size: (height, width) that the transforms produce.
        train_transform, eval_transform: uint8 [3, h, w] -> float [3, height, width].
        tokenizer: where the tokenizer comes from, if any example has a text.
        loader: how batches are read.
        max_length: the longest text in tokens, its begin and end token included.
        seed: of order, augmentation and choice of texts.
        texts_per_image: so many examples of a group are drawn in each epoch; all if None.
        withhold: "image" or "text" to leave it out everywhere: the control for what the other one
            tells alone.
        truncate: cut longer texts instead of refusing them.
        root: the folder of the data set, which the configuration also hands to the source.
    """

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
    ):
        super().__init__(image_size, train_transform, eval_transform, loader, seed)
        if withhold is not None and withhold not in MODALITIES:
            raise ConfigError(f"data.withhold is {withhold!r}; choose image, text or null")
        self.source, self.tokenizer_options = source, tokenizer
        self.max_length, self.truncate, self.root = max_length, truncate, root
        self.texts_per_image, self.withhold = texts_per_image, withhold
        self._splits: LabelledSplits | None = None
        self._classes: dict[str, Classes] = {}
        self._tokenizer: CaptionTokenizer | None = None

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
        self._tokenizer = tokenizer or self._make_tokenizer()
        for name, dataset in self.named_sets():
            self._check_lengths(name, dataset)
        self.check_transforms()

    @property
    def splits(self) -> LabelledSplits:
        """The sets of examples; `read` comes first."""
        if self._splits is None:
            self.read()
        assert self._splits is not None
        return self._splits

    @property
    def classes(self) -> dict[str, Classes]:
        """The classes of every head; `read` comes first."""
        assert self._classes, "read() comes first"
        return self._classes

    @property
    def tokenizer(self) -> CaptionTokenizer | None:
        """The tokenizer, None where no example has a text; `read` comes first."""
        return self._tokenizer

    @property
    def sets(self) -> tuple[LabelledSet, LabelledSet, Mapping[str, LabelledSet]]:
        """The training set, the validation set, and the test sets by name."""
        return self.splits.train, self.splits.val, self.splits.test

    def named_sets(self) -> Iterator[tuple[str, LabelledSet]]:
        """Yield (name, set) for every set there is."""
        yield "training", self.splits.train
        yield "validation", self.splits.val
        for name, dataset in self.splits.test.items():
            yield f"test {name}".rstrip(), dataset

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
        train = self.splits.train.examples
        counts = {head: count_labels(head, train) for head in self.classes}
        return {
            "tokenizer": self.tokenizer,
            "test_names": self.test_names,
            "classes": self.classes,
            "lacking": self.lacking(),
            "counts": {
                head: [counts[head][name] for name in each.names]
                for head, each in self.classes.items()
            },
            "labelled": {
                head: sum(example.labels.get(head) is not None for example in train)
                for head in self.classes
            },
        }

    def lacking(self) -> dict[str, str]:
        """Return modality -> the place of the first example without it, if there is one."""
        found = {}
        for _, dataset in self.named_sets():
            for example in dataset.examples:
                for what in self.missing(example):
                    found.setdefault(what, example.place or example.key)
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
        bad = self.loader.max_bad_fraction
        return GroupReader(dataset, transform, self.seed, self.texts_per_image, bad)

    def featured(self, dataset: LabelledSet) -> LabelledSet:
        """Return a set with features for images."""
        assert self._features_of is not None
        return dataset.with_pictures(self._features_of(dataset.pictures))

    def pictures(self, sample: Group) -> Sequence[Tensor]:
        """Return a group's images."""
        return sample.images

    def collate(self, samples: list[Group]) -> LabelBatch:
        """Return the batch of some groups."""
        examples = [example for group in samples for example in group.examples]
        missing = [self.missing(example) for example in examples]
        images = [image for group in samples for image in group.images]
        rows, image_valid = self._image_rows(samples)
        ids, starts = zip(*map(self.encode, examples), strict=True)
        tokens = pad_sequence([torch.tensor(row) for row in ids], True, self._pad)
        lengths = torch.tensor([len(row) for row in ids])
        return LabelBatch(
            keys=tuple(example.key for example in examples),
            images=torch.stack(images) if images and self.withhold != "image" else None,
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

    def _make_tokenizer(self) -> CaptionTokenizer | None:
        options = self.tokenizer_options
        texts = [text for example in self.splits.train.examples for text in texts_of(example)]
        if not texts:
            return None
        if options.path is not None:
            return CaptionTokenizer.load(options.path)
        return CaptionTokenizer.train(texts, options.vocab_size, options.min_frequency)

    def _check_lengths(self, name: str, dataset: LabelledSet) -> None:
        if self.tokenizer is None:
            return
        long, longest, place = 0, 0, ""
        for example in dataset.examples:
            length = sum(len(self.tokenizer.encode(text)) for text in texts_of(example)) + 2
            long += length > self.max_length
            if length > longest:
                longest, place = length, example.place or example.key
        if not long:
            return
        found = (
            f"{long} of {len(dataset.examples)} texts of the {name} set are longer than "
            f"max_length={self.max_length} tokens; the longest has {longest}: {place}"
        )
        if not self.truncate:
            raise DataError(f"{found}. Set data.max_length={longest}, or data.truncate=true to cut")
        log.warning("%s. They are cut.", found)


def with_classes(found: LabelledSplits) -> tuple[LabelledSplits, dict[str, Classes]]:
    """Return the sets as they are used, and the classes of every head.

    Training examples of which no label is a class (an answer that is not frequent enough) are left
    out. Raises DataError for wrong labels, and for an empty set.
    """
    named: list[tuple[str, LabelledSet]] = [("training", found.train), ("validation", found.val)]
    named += [(f"test {name}".rstrip(), dataset) for name, dataset in found.test.items()]
    for name, dataset in named:
        if not len(dataset):
            raise DataError(f"the {name} set is empty: it has 0 examples")
        check_kinds(found.heads, name, dataset.examples)
    train = found.train.examples
    classes = {head: make_classes(head, spec, train) for head, spec in found.heads.items()}
    for name, dataset in named:
        if not (name == "training" and any(spec.most_common for spec in found.heads.values())):
            check_labels(found.heads, classes, name, dataset.examples)
    kept = [e for e in train if all(c.knows(e.labels.get(h)) for h, c in classes.items())]
    if len(kept) == len(train):
        return found, classes
    if not kept:
        raise DataError(f"the training set is empty: none of {len(train)} examples has a class")
    log.info("left out %d of %d training examples: no class", len(train) - len(kept), len(train))
    return _with_train(found, LabelledSet(kept, found.train.store)), classes


def texts_of(example: Example) -> list[str]:
    """Return an example's text, or its words with the space before them."""
    if example.text is None:
        return []
    return [example.text] if isinstance(example.text, str) else [f" {w}" for w in example.text]


def _with_train(found: LabelledSplits, train: LabelledSet) -> LabelledSplits:
    values: dict[str, Any] = {**vars(found), "train": train}
    return LabelledSplits(**values)


def _padded(starts: Sequence[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.tensor(list(row), dtype=torch.long) for row in starts], True, 0)
