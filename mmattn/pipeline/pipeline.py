"""A captioner that takes pictures and gives captions."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import Bundle
from mmattn.data.images import MAX_PIXELS
from mmattn.decoding.decoded import Limits
from mmattn.decoding.options import DecodingOptions
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError
from mmattn.model_folder.source import in_words
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.clip_model import ClipModel
from mmattn.pipeline.collected import check_sizes, collected, counted
from mmattn.pipeline.embedder import ImageEmbedder
from mmattn.pipeline.loaded import Loaded
from mmattn.pipeline.neighbours import KnownPictures, NeighbourRanker
from mmattn.pipeline.pictures import Unreadable, pictures
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.progress import shown
from mmattn.pipeline.ranking import Ranker, check_way, ranker_of
from mmattn.pipeline.writer import Writer

# What `Pipeline.caption` takes beside decoding options.
OWN = ("attention", "batch_size", "progress", "max_pixels", "threads")
OWN += ("by", "consensus_captions", "clip_model")


class Pipeline(Loaded[Bundle]):
    """A captioner with its tokenizer and preprocessing; `mmattn.load` makes one.

    Args:
        bundle: what it consists of.
        device: where it computes.

    Attributes:
        model: the captioner itself, in evaluation mode; no weight of it asks for a gradient.
        tokenizer: of its captions.
        transform: uint8 RGB [3, h, w] -> the model's input [3, height, width].
        options: how captions are written where nothing else is asked for.
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu"):
        super().__init__(bundle, device)
        self.model = bundle.model
        self.tokenizer = bundle.tokenizer
        self.transform = bundle.preprocessing.transform()
        self.options = DecodingOptions().changed(bundle.decoding)
        tokenizer = bundle.tokenizer
        self.words = Words(tokenizer.pieces, tokenizer.ways, self.model.text.vocab_size)

    def caption(
        self,
        images: Any,
        *,
        attention: bool | AttentionChoice = False,
        batch_size: int = 8,
        progress: bool | None = None,
        max_pixels: int = MAX_PIXELS,
        threads: int = 2,
        **options: Any,
    ) -> list[Caption]:
        """Caption pictures.

        Args:
            images: paths, folders, patterns, PIL images, arrays, tensors, or an iterable of any of
                these, of any sizes (see `pictures`).
            attention: keep the weights by which each caption was written: all of them, or those
                that an `AttentionChoice` names.
            batch_size: pictures computed at once.
            progress: show a progress bar; if None, on a terminal, where there are several batches.
            max_pixels: what the header of an image file may promise.
            threads: how many read pictures while the model is busy.
            options: see `DecodingOptions`: beams=4, sample=True, top_p=0.9, max_length=30 …; what
                is not given is as the model's folder says. And what several captions of a picture
                are chosen by: by="consensus", "clip" or what `neighbours` returns, with
                consensus_captions and clip_model (see `writer`).

        Returns:
            A caption for each picture, in their order; further ones are its `others`.

        Raises:
            ConfigError: for options that do not exist or exclude each other.
            DataError: for the first picture that cannot be read, or a word that the model's
                vocabulary does not have.
        """
        settings = {"attention": attention, "batch_size": batch_size, "threads": threads}
        seen, total = counted(images, max_pixels)
        found = self.stream(seen, max_pixels=max_pixels, **settings, **options)
        return list(shown(found, total, progress=progress, few=batch_size))

    def embed(
        self,
        images: Any,
        *,
        batch_size: int = 8,
        progress: bool | None = None,
        max_pixels: int = MAX_PIXELS,
        threads: int = 2,
    ) -> Float[Tensor, "N D"]:
        """Return what the image encoder makes of pictures: a vector each, to probe or to compare.

        The mean of the patches' tokens, of the encoder's width and of any length; float32, on the
        CPU. Arguments and errors are as of `caption`.
        """
        check_sizes(batch_size, threads)
        embedder = self.embedder()
        found, total = counted(images, max_pixels)
        results = embedder.results(found, batch_size=batch_size, threads=threads)
        vectors = collected(results, total, progress=progress, few=batch_size, doing="embedding")
        return torch.stack(vectors) if vectors else torch.empty(0, embedder.width)

    def embedder(self) -> ImageEmbedder:
        """Return what makes vectors of pictures."""
        return ImageEmbedder(self.model, self.bundle.preprocessing)

    def neighbours(
        self,
        captions: str | Path,
        images: str | Path,
        *,
        max_pixels: int = MAX_PIXELS,
        index: str | Path | None = None,
        **settings: Any,
    ) -> NeighbourRanker:
        """Return what chooses captions by what people said of the most similar known pictures.

        For `by` of `caption`: `pipeline.caption(images, beams=10, by=pipeline.neighbours(…))`.

        Args:
            captions: a file of captions, of the training data, say.
            images: the folder of its pictures.
            max_pixels: of an image file.
            index: a file that keeps what was seen of the pictures; made if it does not exist.
            settings: split, top and more; see `KnownPictures`, also for what is raised.
        """
        known = KnownPictures(
            captions=Path(captions),
            images=Path(images),
            max_pixels=max_pixels,
            index=None if index is None else Path(index),
            **settings,
        )
        return known.ranker(self.bundle)

    def stream(self, images: Any, **settings: Any) -> Iterator[Caption]:
        """Yield the caption of each picture when it is there; arguments as of `results`.

        For more pictures than there is memory: only a few are held at a time. Raises the DataError
        of a picture that cannot be read at its place.
        """
        return readable(self.results(images, **settings))  # a mistake is told now, not at the first

    def results(
        self,
        images: Any,
        *,
        attention: bool | AttentionChoice = False,
        batch_size: int = 8,
        max_pixels: int = MAX_PIXELS,
        threads: int = 2,
        **options: Any,
    ) -> Generator[Caption | Unreadable, None, None]:
        """Yield the caption of each picture, or what is wrong with it; arguments as of `caption`.

        Raises:
            ConfigError: for options that do not exist or exclude each other, before any picture is
                read.
        """
        check_sizes(batch_size, threads)
        writer = self.writer(attention, **options)
        found = pictures(images, max_pixels=max_pixels)
        return writer.results(found, batch_size=batch_size, threads=threads)

    def writer(
        self,
        attention: bool | AttentionChoice = False,
        *,
        by: str | Ranker = "probability",
        consensus_captions: str | Path | None = None,
        clip_model: str | Path | ClipModel | None = None,
        **options: Any,
    ) -> Writer:
        """Return what writes captions in the way that is asked for; arguments as of `caption`, and:

        Args:
            attention: as there; it is that of the captions that are chosen.
            by: what they are chosen by among `best_of`: their "probability"; the "consensus", the
                one that is most like the others by CIDEr-D (minimum Bayes risk); how well they fit
                the picture by "clip" (CLIPScore); what people said of similar pictures, by what
                `neighbours` returns; or a ranker of your own.
            consensus_captions: a file of captions, of the training data say, that tells common
                n-grams from rare ones for "consensus"; all weigh the same if None.
            clip_model: what "clip" compares pictures and captions with (see `load_clip`).
            options: of decoding.

        Raises:
            ConfigError: for options that do not exist or exclude each other, and for attention that
                this model does not have.
            DataError: for a word that its vocabulary does not have, and a file of captions that
                cannot be read.
            CheckpointError: for a `clip_model` that cannot be read.
        """
        choice = attention if isinstance(attention, AttentionChoice) else AttentionChoice()
        choice.check(self.model)
        check_names(options)
        asked = self.options.changed(options)
        check_way(by, consensus_captions, clip_model)
        check_choice(by, asked)
        longest = asked.max_length or self.bundle.max_length
        self.check_length(longest)
        limits = Limits(self.tokenizer.begin_id, self.tokenizer.end_id, longest)
        method, rules = asked.plan(self.words, limits)
        ranker = ranker_of(
            by,
            consensus_captions=consensus_captions,
            clip_model=clip_model,
            device=self.device,
        )
        other = None if ranker is None else ranker.transform
        return Writer(
            model=self.model,
            tokenizer=self.tokenizer,
            preparation=Preparation(self.bundle.preprocessing, bool(attention), other),
            limits=limits,
            method=method,
            rules=rules,
            choice=choice if attention else None,
            ranker=ranker,
        )

    def check_length(self, longest: int) -> None:
        """Raise ConfigError where the decoder has no positions for captions so long."""
        text = self.model.text
        if text.position == "learned" and longest > text.max_length:
            raise ConfigError(
                f"max_length={longest}, but this model's texts have at most {text.max_length} "
                "tokens, the end token included"
            )

    def classify(self, *inputs: Any, **settings: Any) -> Any:
        """Raise ConfigError: a captioner gives no classes."""
        raise ConfigError(f"this model is {in_words(self.bundle)}")


def check_names(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option that is almost one of `Pipeline.caption`'s own."""
    for name in options:
        (near,) = get_close_matches(name, [*OWN, *vars(DecodingOptions())], 1) or [name]
        if near in OWN:
            raise ConfigError(f"no option {name!r} here; did you mean {near}?")


def check_choice(by: str | Ranker, options: DecodingOptions) -> None:
    """Raise ConfigError where there is nothing to choose among."""
    if by != "probability" and options.candidates == 1 and options.best_of is None:
        raise ConfigError(
            f"by={by!r} chooses among several captions, and one is written: give best_of=20 with "
            "sample=True, say, or beams=8"
        )


def readable(results: Generator[Caption | Unreadable, None, None]) -> Iterator[Caption]:
    """Yield captions. Raises the DataError of a picture that could not be read."""
    with closing(results):
        for result in results:
            if isinstance(result, Unreadable):
                raise result.error
            yield result
