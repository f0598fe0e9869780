"""CHAIR: objects that a caption names and nobody else saw in the image."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mmattn.metrics.additive import Additive, mean_of, ratio_of
from mmattn.metrics.ngrams import Tokens
from mmattn.metrics.ptb import tokenize

TAKES_ES = ("s", "x", "z", "ch", "sh", "o")


class Chair(NamedTuple):
    """The objects that a corpus names, and which of them are made up.

    Attributes:
        mentioned: for every image, the objects that its prediction names, each time it does.
        made_up: those of them that none of the image's references names.
    """

    mentioned: list[list[str]]
    made_up: list[list[str]]

    @property
    def scores(self) -> dict[str, Additive]:
        """CHAIR_i, the share of mentions that are made up, and CHAIR_s, that of captions with one.

        Rohrbach, Hendricks, Burns, Darrell and Saenko 2018, "Object hallucination in image
        captioning", section 2.1; lower is better. CHAIR_i is NaN where no object is named.
        """
        made_up = np.array([len(each) for each in self.made_up], dtype=np.float64)
        mentioned = np.array([len(each) for each in self.mentioned], dtype=np.float64)
        return {"CHAIR_i": ratio_of(made_up, mentioned), "CHAIR_s": mean_of(made_up > 0)}


class ObjectWords:
    """Finds the objects of a list in captions.

    A word or phrase is found in singular or regular plural, and the longest phrase counts: "hot
    dog" is no dog. Plurals are made by spelling alone, of a phrase's last word: with s, and also
    with es after s, x, z, ch, sh and o, with ies for y after a consonant, with ves for f and fe,
    and with men for man. Others ("children", "mice") are given as synonyms.

    Args:
        objects: name of an object -> what it is called, as words or phrases.
    """

    def __init__(self, objects: Mapping[str, Sequence[str]]):
        self._phrases: dict[str, dict[tuple[str, ...], str]] = {}
        for name, synonyms in objects.items():
            for synonym in synonyms:
                for phrase in forms(tokenize(synonym)):
                    self._phrases.setdefault(phrase[0], {}).setdefault(phrase, name)

    def named(self, tokens: Tokens) -> Iterator[str]:
        """Yield the objects that a caption names, in its order, each as often as it does."""
        place = 0
        while place < len(tokens):
            phrase = self._longest(tokens, place)
            if phrase is not None:
                yield self._phrases[phrase[0]][phrase]
            place += 1 if phrase is None else len(phrase)

    def chair(self, references: Sequence[Sequence[Tokens]], predictions: Sequence[Tokens]) -> Chair:
        """Compare what predictions name with what the references of the same image name.

        The paper also counts the objects that COCO's annotators outlined; here people's captions
        are all that is known of an image, so an object that nobody mentioned counts as made up.
        """
        mentioned = [list(self.named(tokens)) for tokens in predictions]
        seen = [{name for tokens in image for name in self.named(tokens)} for image in references]
        pairs = zip(mentioned, seen, strict=True)
        return Chair(mentioned, [[name for name in own if name not in all_] for own, all_ in pairs])

    def _longest(self, tokens: Tokens, place: int) -> tuple[str, ...] | None:
        phrases = self._phrases.get(tokens[place], {})
        here = [p for p in phrases if tuple(tokens[place : place + len(p)]) == p]
        return max(here, key=len, default=None)


def forms(phrase: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield a phrase, if there is a word in it, and its plurals."""
    if phrase:
        *before, last = phrase
        yield (*before, last)
        yield from ((*before, plural) for plural in plurals(last))


def plurals(word: str) -> set[str]:
    """The regular plurals of a word in lower case; see `ObjectWords`."""
    found = {f"{word}s"}
    if word.endswith(TAKES_ES):
        found.add(f"{word}es")
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        found.add(f"{word[:-1]}ies")
    if word.endswith(("f", "fe")):
        found.add(f"{word.removesuffix('e').removesuffix('f')}ves")
    if word.endswith("man"):
        found.add(f"{word.removesuffix('man')}men")
    return found
