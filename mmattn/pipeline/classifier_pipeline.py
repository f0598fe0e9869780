"""A classifier that takes pictures, texts or both and gives their classes."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import ClassifierBundle
from mmattn.data.images import MAX_PIXELS
from mmattn.errors import ConfigError
from mmattn.model_folder.source import in_words
from mmattn.pipeline.classification import Classification, Text
from mmattn.pipeline.collected import check_sizes, collected
from mmattn.pipeline.labeller import Labeller
from mmattn.pipeline.loaded import Loaded
from mmattn.pipeline.monte_carlo import MonteCarlo
from mmattn.pipeline.questions import (
    Group,
    Question,
    listed_texts,
    paired,
    picture_groups,
    questions,
)
from mmattn.pipeline.verdict import Teller, Verdict


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
        attention: bool = False,
        passes: int = 0,
        seed: int = 0,
        at_least: float = 0.0,
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
            attention: tell what in the images and in the text argued for each of the classes, or
                for the label of each word: the `maps` of every answer (see `decision_relevance`).
            passes: with 2 or more, tell the mean of so many passes with dropout on, and how unsure
                they are: the `uncertainty` of every answer (Gal and Ghahramani 2016).
            seed: of what is dropped then; together with an input's place among all, and with
                nothing else, it decides that.
            at_least: a label that is less probable is not told; `top` is.

        Returns:
            What is said of each input, in their order.

        Raises:
            ConfigError: for an input without what the model needs or with what it does not read,
                numbers of images and texts that do not go together, for an unknown head, and for
                several passes of a model without dropout.
            DataError: for a text that is too long, and for the first picture that cannot be read.
        """
        check_sizes(batch_size, threads)
        settings = {"attention": attention, "passes": passes, "seed": seed, "at_least": at_least}
        labeller = self.labeller(heads, top=top, **settings)
        asked = self.questions(images, texts, truncate=truncate, max_pixels=max_pixels)
        results = labeller.results(asked, batch_size=batch_size, threads=threads)
        settings = {"progress": progress, "few": batch_size, "doing": "classifying"}
        return collected(results, len(asked), **settings)

    def embed(
        self,
        images: Any = None,
        texts: Any = None,
        *,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Float[Tensor, "N D"]:
        """Return the vector of each input that all heads read: to probe, or to find its like.

        Images and texts are one input where both are given, as of `classify`, whose arguments and
        errors these are. The vectors are of any length; float32, on the CPU.
        """
        check_sizes(batch_size, threads)
        asked = self.questions(images, texts, truncate=truncate, max_pixels=max_pixels)
        results = self.own_labeller().vectors(asked, batch_size=batch_size, threads=threads)
        settings = {"progress": progress, "few": batch_size, "doing": "embedding"}
        vectors = collected(results, len(asked), **settings)
        return torch.stack(vectors) if vectors else torch.empty(0, self.model.dim)

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
            raise ConfigError("there is nothing to read: give images, texts, or both")
        groups = None
        if images is not None:
            groups = picture_groups(images, self.model.images, max_pixels)
        words = bool(self.model.word_heads)
        wanted = None if texts is None else listed_texts(texts, words)
        return self.ask(paired(groups, wanted), truncate=truncate)

    def ask(
        self,
        pairs: Sequence[tuple[Group, Text | None]],
        *,
        truncate: bool = False,
        places: Sequence[str] = (),
    ) -> list[Question]:
        """Return pictures and texts as questions to the model; see `questions`."""
        return questions(pairs, self.bundle, truncate=truncate, places=places)

    def labeller(self, heads: Sequence[str] | str | None = None, **settings: Any) -> Teller:
        """Return what tells the classes of some heads; settings as of `classify`.

        Raises:
            ConfigError: for a head that there is not, no class of each, and several passes of a
                model without dropout.
        """
        return self.own_labeller(heads, **settings)

    def own_labeller(
        self,
        heads: Sequence[str] | str | None = None,
        *,
        top: int = 5,
        attention: bool = False,
        passes: int = 0,
        seed: int = 0,
        at_least: float = 0.0,
    ) -> Labeller:
        """Return what tells the classes as this very model sees them; as of `labeller`."""
        classes = {head: self.classes[head] for head in self.wanted(heads, top)}
        dropout = MonteCarlo(passes, seed) if passes else None
        if dropout is not None:
            dropout.check(self.model)
        verdict = Verdict(classes, top, several=dropout is not None, at_least=at_least)
        return Labeller(self.bundle, verdict, dropout, attention)

    def wanted(self, heads: Sequence[str] | str | None, top: int) -> list[str]:
        """Return the heads that are told, each once. Raises ConfigError as `labeller` does."""
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
        return list(dict.fromkeys(wanted))

    def caption(self, *images: Any, **settings: Any) -> NoReturn:
        """Raise ConfigError: a classifier writes no captions."""
        raise ConfigError(f"this model is {in_words(self.bundle)}")
