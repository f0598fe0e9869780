"""A classifier that takes pictures, texts or both and gives their classes."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import torch

from mmattn.bundle import ClassifierBundle
from mmattn.data.images import MAX_PIXELS
from mmattn.errors import ConfigError
from mmattn.model_folder.source import in_words
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.labeller import Labeller
from mmattn.pipeline.loaded import Loaded
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.progress import shown
from mmattn.pipeline.questions import Question, listed_texts, paired, picture_groups, questions


class ClassifierPipeline(Loaded[ClassifierBundle]):
    """A classifier with its tokenizer, preprocessing and classes; `mmattn.load` makes one.

    Args:
        bundle: what it consists of.
        device: where it computes.

    Attributes:
        model: the classifier itself, in evaluation mode; no weight of it asks for a gradient.
        tokenizer: of its texts; None where it reads none.
        classes: head -> its classes.
    """

    def __init__(self, bundle: ClassifierBundle, device: torch.device | str = "cpu"):
        super().__init__(bundle, device)
        self.model, self.tokenizer = bundle.model, bundle.tokenizer
        self.classes = bundle.classes

    def classify(
        self,
        images: Any = None,
        texts: Any = None,
        *,
        top: int = 5,
        heads: Sequence[str] | str | None = None,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Classification]:
        """Tell the classes of pictures, texts, or pictures with texts.

        Args:
            images: paths, folders, patterns, PIL images, arrays, tensors, or an iterable of any of
                these, of any sizes (see `pictures`). For a model of several images an input: those
                of one input, or a list of such, [(first, second), …].
            texts: a text or a list of texts; where words have labels a text may be a list of words.
                Images and texts belong together by their places; one of either is for all.
            top: so many classes of each head, most probable first.
            heads: those that are told; all if None.
            batch_size: inputs computed at once.
            threads: how many read pictures while the model is busy.
            progress: show a progress bar; if None, on a terminal, where there are several batches.
            truncate: cut texts that are longer than the model reads.
            max_pixels: what the header of an image file may promise.

        Returns:
            What is said of each input, in their order.

        Raises:
            ConfigError: for an input without what the model needs or with what it does not read,
                numbers of images and texts that do not go together, and for an unknown head.
            DataError: for a text that is too long, and for the first picture that cannot be read.
        """
        if batch_size < 1 or threads < 1:
            raise ConfigError(f"batch_size={batch_size}, threads={threads}: give 1 or more of each")
        labeller = self.labeller(heads, top=top)
        asked = self.questions(images, texts, truncate=truncate, max_pixels=max_pixels)
        results = labeller.results(asked, batch_size=batch_size, threads=threads)
        told = []
        bar = shown(results, len(asked), progress=progress, few=batch_size, doing="classifying")
        for result in bar:
            if isinstance(result, Unreadable):
                bar.close()
                results.close()
                raise result.error
            told.append(result)
        return told

    def questions(
        self,
        images: Any = None,
        texts: Any = None,
        *,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Question]:
        """Return the inputs that images and texts mean; arguments and errors as of `classify`."""
        if images is None and texts is None:
            raise ConfigError("there is nothing to classify: give images, texts, or both")
        groups = None
        if images is not None:
            groups = picture_groups(images, self.model.images, max_pixels)
        words = bool(self.model.word_heads)
        wanted = None if texts is None else listed_texts(texts, words)
        return questions(paired(groups, wanted), self.bundle, truncate=truncate)

    def labeller(self, heads: Sequence[str] | str | None = None, *, top: int = 5) -> Labeller:
        """Return what tells the classes of some heads.

        Raises:
            ConfigError: for a head that there is not, or for no class of each.
        """
        wanted = (
            [heads] if isinstance(heads, str) else list(self.classes if heads is None else heads)
        )
        if top < 1 or not wanted:
            raise ConfigError(f"top={top}, heads={wanted}: give 1 or more of each")
        for head in wanted:
            if head not in self.classes:
                near = get_close_matches(head, self.classes, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"no head {head!r}{hint} (there are {', '.join(self.classes)})")
        return Labeller(self.bundle, tuple(dict.fromkeys(wanted)), top)

    def caption(self, *images: Any, **settings: Any) -> NoReturn:
        """Raise ConfigError: a classifier writes no captions."""
        raise ConfigError(f"this model is {in_words(self.bundle)}")
