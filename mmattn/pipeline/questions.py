"""What a user gives to classify, as questions: pictures and a text each, in the model's tokens."""

import reprlib
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from mmattn.bundle import ClassifierBundle
from mmattn.classifier import Classifier
from mmattn.data.backend import backend_errors
from mmattn.data.labelled.text_ids import text_ids
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.classification import Text
from mmattn.pipeline.pictures import Picture, pictures

Group = tuple[Picture, ...]  # the pictures of one input
READS = {"image": "an image", "text": "a text"}


class Question(NamedTuple):
    """An input, ready to be read.

    name, place: of the input, for messages and among all of a job. pictures: those of it. text: as
    it is told again. ids, starts: see `text_ids`. others: the same in the tokens of the further
    models of an ensemble.
    """

    name: str
    place: int
    pictures: Group
    text: Text | None
    ids: list[int]
    starts: list[int]
    others: tuple["Question", ...] = ()


def picture_groups(images: Any, most: int, max_pixels: int) -> list[Group]:
    """Return the pictures of each input.

    Args:
        images: see `pictures`. Where an input may have several, those of one, or an iterable with
            the pictures of each.
        most: how many pictures an input may have.
        max_pixels: see `pictures`.

    Raises:
        DataError: for what is no image, and for an input of more pictures.
    """
    if most == 1:
        return [(picture,) for picture in pictures(images, max_pixels=max_pixels)]
    one = is_one(images) or (
        isinstance(images, (list, tuple)) and bool(images) and all(map(is_one, images))
    )
    groups = [
        tuple(pictures(group, max_pixels=max_pixels)) for group in ([images] if one else images)
    ]
    for place, group in enumerate(groups):
        if not 1 <= len(group) <= most:
            raise DataError(
                f"input {place} has {len(group)} images, and this model takes up to {most} at "
                "once: give the images of one input, or of each, as [(first, second), …]"
            )
    return groups


def is_one(image: Any) -> bool:
    """Return whether this is one picture, or names some, and is no collection of pictures."""
    if isinstance(image, (np.ndarray, Tensor)):
        return image.ndim <= 3
    return isinstance(image, (str, PathLike, Image.Image, Picture))


def listed_texts(texts: Any, words: bool) -> list[Text]:
    """Return texts as a list: one text, or several; of each its words where a head labels them.

    A text is cut into words at white space.

    Raises:
        ConfigError: for what is no text.
    """
    found = [texts] if isinstance(texts, str) else list(texts)
    return [as_text(text, words, f"texts[{place}]") for place, text in enumerate(found)]


def plain_texts(texts: Any) -> list[str]:
    """Return a text or several as a list. Raises ConfigError for what is no text."""
    return [str(text) for text in listed_texts(texts, words=False)]


def as_text(text: Any, words: bool, where: str) -> Text:
    """Return a text, or its words. Raises ConfigError for anything else, by what it is called."""
    if isinstance(text, str):
        return tuple(text.split()) if words else text
    if words and isinstance(text, (list, tuple)) and all(isinstance(word, str) for word in text):
        return tuple(text)
    wanted = "a text, or a list of its words" if words else "a text"
    raise ConfigError(f"{where} is {reprlib.repr(text)}: give {wanted}")


def paired(
    groups: Sequence[Group] | None, texts: Sequence[Text] | None
) -> list[tuple[Group, Text | None]]:
    """Return which pictures and which text belong together, see `together`."""
    if groups is None:
        return [((), text) for text in texts or ()]
    if texts is None:
        return [(group, None) for group in groups]
    return [(groups[i], texts[j]) for i, j in together(len(groups), len(texts))]


def together(images: int, texts: int) -> list[tuple[int, int]]:
    """Return the places of images and texts that belong together.

    Those at the same place; a single image, or a single text, is for all of the others.

    Raises:
        ConfigError: for other numbers.
    """
    if images != texts and 1 not in (images, texts):
        raise ConfigError(
            f"{images} images and {texts} texts: give as many of both, one image for all texts, or "
            "one text for all images"
        )
    size = texts if images == 1 else images
    return [(i if images > 1 else 0, i if texts > 1 else 0) for i in range(size)]


def questions(
    pairs: Iterable[tuple[Group, Text | None]],
    bundle: ClassifierBundle,
    *,
    truncate: bool = False,
    places: Sequence[str] = (),
) -> list[Question]:
    """Return questions that a model can be asked.

    Args:
        pairs: the pictures and the text of each.
        bundle: of the model.
        truncate: cut longer texts than the model reads instead of refusing them.
        places: where each was read, for messages.

    Raises:
        ConfigError: for one that lacks what the model needs, or has what it does not read.
        DataError: for a text that is too long or cannot be written in its tokens, before any
            picture is read.
    """
    encoded: dict[Text | None, tuple[list[int], list[int]]] = {}
    found = []
    for place, (group, text) in enumerate(pairs):
        where = places[place] if places else f"input {place}"
        check_given(bundle, where, image=bool(group), text=text is not None)
        if text not in encoded:
            encoded[text] = encode(text, bundle, where, truncate=truncate)
        name = group[0].name if group else where
        found.append(Question(name, place, group, text, *encoded[text]))
    return found


def check_given(bundle: ClassifierBundle, where: str, *, image: bool, text: bool) -> None:
    """Raise ConfigError for an input without what a model needs, or with what it does not read."""
    model = bundle.model
    given, reads = {"image": image, "text": text}, reads_of(model)
    for what, there in given.items():
        if there and what not in reads:
            (other,) = reads
            raise ConfigError(
                f"{where} has {READS[what]}, and this model reads {READS[other]} only: leave the "
                f"{what}s away"
            )
        if not there and what in reads and what not in model.may_miss:
            needs = " and ".join(READS[each] for each in reads)
            raise ConfigError(
                f"{where} has no {what}, and this model reads {needs}: give it one (a model that "
                f"may do without is trained with model.may_miss.{what}=0.1)"
            )
    if not image and not text:
        raise ConfigError(f"{where} has neither an image nor a text: give one")
    if text and bundle.tokenizer is None:
        raise ConfigError(f"{where} has a text, and this model was trained without: it knows none")


def reads_of(model: Classifier) -> list[str]:
    """Return what a model reads: "image", "text", or both."""
    encoders = {"image": model.vision, "text": model.text}
    return [what for what, encoder in encoders.items() if encoder is not None]


def encode(
    text: Text | None, bundle: ClassifierBundle, where: str, *, truncate: bool
) -> tuple[list[int], list[int]]:
    """Return a text's ids and the starts of its words; see `text_ids`.

    Words that are cut off have no start.

    Raises:
        DataError: for a text that is too long, or that cannot be written in the model's tokens.
    """
    with backend_errors(f"{where}: the model has no tokens for this text", DataError):
        ids, starts = text_ids(text, bundle.tokenizer, None)
    longest = bundle.max_length
    if len(ids) <= longest or bundle.tokenizer is None:
        return ids, starts
    if not truncate:
        raise too_long(where, len(ids), longest)
    kept = [*ids[: longest - 1], bundle.tokenizer.end_id]
    return kept, [start for start in starts if start < longest - 1]


def too_long(where: str, tokens: int, longest: int) -> DataError:
    """Return what is raised for a text that a model cannot read whole."""
    return DataError(
        f"{where}: the text has {tokens} tokens, and this model reads {longest}: shorten it, or "
        "have it cut (truncate=True, --truncate)"
    )
