"""A captioner that takes pictures and gives captions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.bundle import Bundle
from mmattn.data.images import MAX_PIXELS
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.options import DecodingOptions
from mmattn.decoding.sampling import Sampling
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError, DataError
from mmattn.maps.words import group_words
from mmattn.pipeline.attention import AttentionChoice, Heard, attention_record
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.pictures import pictures
from mmattn.pipeline.prefetch import Ready, batched, ready


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be captioned, and why."""

    name: str
    error: DataError


class Pipeline:
    """A captioner with its tokenizer and preprocessing; `mmattn.load` makes one.

    Args:
        bundle: what it consists of.
        device: where it computes.

    Attributes:
        model: the captioner itself, in evaluation mode.
        tokenizer: of its captions.
        options: how captions are written where nothing else is asked for.
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu"):
        self.bundle, self.device = bundle, torch.device(device)
        self.model = bundle.model.eval().to(self.device)
        self.tokenizer = bundle.tokenizer
        self.transform = bundle.preprocessing.transform()
        self.options = DecodingOptions().changed(bundle.decoding)
        tokenizer = bundle.tokenizer
        self.words = Words(tokenizer.pieces, tokenizer.ways, self.model.text.vocab_size)

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.model.parameters()).dtype

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Pipeline":
        """Move the model to a device or a type such as torch.bfloat16, in place; return self."""
        self.device = self.device if device is None else torch.device(device)
        self.model.to(device=self.device, dtype=dtype)
        return self

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
                is not given is as the model's folder says.

        Returns:
            A caption for each picture, in their order; further ones are its `others`.

        Raises:
            ConfigError: for options that do not exist or exclude each other.
            DataError: for the first picture that cannot be read, or a word that the model's
                vocabulary does not have.
        """
        settings = {"attention": attention, "batch_size": batch_size, "max_pixels": max_pixels}
        found = self.stream(images, threads=threads, **settings, **options)
        return list(shown(found, total(images), batch_size, progress))

    def stream(self, images: Any, **settings: Any) -> Iterator[Caption]:
        """Yield the caption of each picture when it is there; arguments as of `caption`.

        For more pictures than there is memory: only a few are held at a time.
        """
        for one in self.results(images, **settings):
            if isinstance(one, Unreadable):
                raise one.error
            yield one

    def results(
        self,
        images: Any,
        *,
        attention: bool | AttentionChoice = False,
        batch_size: int = 8,
        max_pixels: int = MAX_PIXELS,
        threads: int = 2,
        **options: Any,
    ) -> Iterator[Caption | Unreadable]:
        """Yield the caption of each picture, or what is wrong with it; arguments as of `caption`.

        Raises:
            ConfigError: for options that do not exist or exclude each other, before any picture is
                read.
        """
        if batch_size < 1 or threads < 1:
            raise ConfigError(f"batch_size={batch_size}, threads={threads}: give 1 or more of each")
        writer = Writer(self, self.options.changed(options), choice_of(attention))
        stream = ready(
            pictures(images, max_pixels=max_pixels),
            self.transform,
            threads=threads,
            ahead=2 * batch_size + threads,
            keep=writer.choice is not None,
        )
        return (one for batch in batched(stream, batch_size) for one in writer.write(batch))

    def save(self, folder: str | Path, **settings: Any) -> Path:
        """Write the model folder that `mmattn.load` reads; see `write_folder` for the settings."""
        from mmattn.model_folder.format import write_folder

        write_folder(self.bundle, folder, **settings)
        return Path(folder)

    def push_to_hub(self, repo_id: str, **settings: Any) -> str:
        """Upload the model folder to the Hugging Face hub; see `push_to_hub` for the settings."""
        from tempfile import TemporaryDirectory

        from mmattn.model_folder.hub import push_to_hub

        with TemporaryDirectory() as scratch:
            return push_to_hub(self.save(Path(scratch) / "model"), repo_id, **settings)


class Writer:
    """Writes the captions of one batch after the other, all in the same way."""

    def __init__(
        self, pipeline: Pipeline, options: DecodingOptions, choice: AttentionChoice | None
    ):
        self.pipeline, self.choice = pipeline, choice
        tokenizer = pipeline.tokenizer
        longest = options.max_length or pipeline.bundle.max_length
        check_length(longest, pipeline)
        self.limits = Limits(tokenizer.begin_id, tokenizer.end_id, longest)
        self.method, self.rules = options.plan(pipeline.words, self.limits)
        if choice is not None:
            choice.listen(pipeline.model)  # a layer that does not exist is said before any work

    def write(self, batch: list[Ready]) -> list[Caption | Unreadable]:
        """Return what becomes of a batch's pictures, in their order."""
        good = [one for one in batch if one.error is None]
        written = iter(self.captions(good) if good else [])
        return [
            next(written) if one.error is None else Unreadable(one.name, one.error) for one in batch
        ]

    @torch.no_grad()
    def captions(self, batch: list[Ready]) -> list[Caption]:
        """Return the captions of readable pictures."""
        pipeline = self.pipeline
        heard = None if self.choice is None else self.choice.listen(pipeline.model)
        pixels = torch.stack([one.pixels for one in batch if one.pixels is not None])
        pixels = pixels.to(pipeline.device, pipeline.dtype)
        image = pipeline.model.encode(pixels, None if heard is None else heard.encoding)
        decoded = self.decode(image, batch, heard)
        found = [self.texts(one, decoded, b) for b, one in enumerate(batch)]
        if heard is not None:
            weights = heard.weights(decoded.tokens.shape[1])
            found = [
                self.with_attention(captions, one, image, weights[:, b], heard.sites)
                for b, (captions, one) in enumerate(zip(found, batch, strict=True))
            ]
        return [replace(best, others=tuple(others)) for best, *others in found]

    def decode(self, image: ImageTokens, batch: list[Ready], heard: Heard | None) -> Decoded:
        """Return the captions as tokens."""
        arguments = (self.pipeline.model, image, self.limits, self.rules)
        listener = None if heard is None else heard.decoding
        if isinstance(self.method, Sampling):  # what is drawn depends on the picture's place
            return self.method(*arguments, listener, places=[one.place for one in batch])
        return self.method(*arguments, listener)

    def texts(self, picture: Ready, decoded: Decoded, b: int) -> list[Caption]:
        """Return the captions of the batch's picture `b`, without attention, best first."""
        tokenizer, found = self.pipeline.tokenizer, []
        for n, row in enumerate(decoded.tokens[b].tolist()):
            ids = tokenizer.until_end(row)
            text, spans = tokenizer.decode(ids), tokenizer.offsets(ids)
            found.append(
                Caption(
                    name=picture.name,
                    text=text,
                    words=tuple(word.text for word in group_words(text, spans)),
                    tokens=tuple(text[start:end] for start, end in spans),
                    ids=tuple(ids),
                    log_probs=tuple(decoded.log_probs[b, n, : len(ids) + 1].tolist()),
                    score=float(decoded.scores[b, n]),
                )
            )
        return found

    def with_attention(
        self,
        captions: list[Caption],
        picture: Ready,
        image: ImageTokens,
        weights: Float[Tensor, "L N H T keys"],
        sites: Sequence[str],
    ) -> list[Caption]:
        """Return a picture's captions with the records of what they attended to."""
        assert picture.image is not None
        return [
            replace(
                caption,
                attention=attention_record(
                    caption.name,
                    caption.text,
                    self.pipeline.tokenizer.offsets(caption.ids),
                    weights[:, n, :, : len(caption.ids)],
                    sites,
                    image,
                    picture.image,
                    self.pipeline.transform,
                ),
            )
            for n, caption in enumerate(captions)
        ]


def choice_of(attention: bool | AttentionChoice) -> AttentionChoice | None:
    """Return which attention is kept, None for none."""
    if isinstance(attention, AttentionChoice):
        return attention
    return AttentionChoice() if attention else None


def check_length(longest: int, pipeline: Pipeline) -> None:
    """Raise ConfigError where the decoder has no positions for captions so long."""
    text = pipeline.model.text
    if text.position == "learned" and longest > text.max_length:
        raise ConfigError(
            f"max_length={longest}, but this model's texts have at most {text.max_length} tokens, "
            "the end token included"
        )


def total(images: Any) -> int | None:
    """Return how many parts `images` has, where it can tell without being used up."""
    return len(images) if isinstance(images, (list, tuple)) else None


def shown(
    captions: Iterable[Caption], total: int | None, batch_size: int, progress: bool | None
) -> Iterator[Caption]:
    """Yield captions, with a progress bar on long work."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    captions = iter(captions)
    if progress is None:
        first = list(islice(captions, batch_size + 1)) if console.is_terminal else []
        progress = len(first) > batch_size
        captions = (one for part in (first, captions) for one in part)
    if not progress:
        return captions
    return iter(track(captions, "captioning", total=total, console=console))
