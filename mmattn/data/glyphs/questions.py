"""Questions about glyphs that neither the picture nor the words answer alone.

Of yes-or-no questions every picture is asked a pair: one whose answer is yes and one whose answer
is no. Over a set every wording is right as often as it is wrong. So who sees only the picture, or
reads only the question, is right half of the time, exactly. Of "which mark does it carry?" and the
like every answer is right equally often, but for training, where all pictures are asked.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mmattn.data.glyphs.glyph_set import GlyphSet
from mmattn.data.glyphs.holdout import shuffled
from mmattn.data.glyphs.source import Glyphs
from mmattn.data.glyphs.store import GlyphStore
from mmattn.data.glyphs.traits import Traits, traits
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.errors import ConfigError, DataError

# Kinds of questions, and the trait that each is about: yes or no, then those with other answers.
WHICH = {
    "which_letter": ("which letter is it?", "name the letter"),
    "which_mark": ("which mark does it carry?", "name the mark", "what is on the letter?"),
}
# A mark is asked for in three ways, for only some letters have one.
_WORDINGS = {
    "case": ("is this a {} letter?",),
    "letter": ("is this the letter {}?",),
    "mark": ("does it carry the mark {}?", "is there a {} on it?", "does the letter have a {}?"),
    "name": ("does the name {} fit?",),
}
_TRAIT: dict[str, Callable[[Traits], str | None]] = {
    "case": lambda found: found.case,
    "letter": lambda found: found.letter,
    "mark": lambda found: found.mark,
    "name": lambda found: found.name,
    "which_letter": lambda found: found.letter,
    "which_mark": lambda found: found.mark,
}
QUESTIONS = tuple(_TRAIT)


class QuestionStore(GlyphStore):
    """The pictures that are asked about, as `GroundedExamples`: a question may be about a mark."""

    def named_region(self, example: Example) -> np.ndarray | None:
        """Return the pixels of the mark that is asked for and there; None for other questions."""
        name, answer = example.images[0], example.labels["answer"]
        mark = traits(self.character(name)).mark
        if mark is None:
            return None
        asked = dict.fromkeys(WHICH["which_mark"], mark)
        asked |= {wording.format(mark): "yes" for wording in _WORDINGS["mark"]}
        return self.regions(name).get(mark) if asked.get(str(example.text)) == answer else None


class GlyphQuestions:
    """A `LabelledSource` of questions about the pictures of `glyphs`; the head is `answer`.

    Args:
        glyphs: the pictures, and how they are divided.
        questions: kinds of questions: "case", "letter", "mark" and "name" (yes or no),
            "which_letter" and "which_mark".
        letters, marks: how many different ones are the answers of "which", the most frequent ones.
        repeats: kind -> how often a picture is asked it in training, once if it is not named; where
            the answer is no, about another trait if enough are as frequent. Of two, as of case,
            there is only one other: it is then drawn more often.
        seed: of what is drawn.

    Raises:
        ConfigError: for an unknown kind, no repeat of one, or fewer than two letters or marks.
    """

    def __init__(
        self,
        glyphs: Glyphs,
        questions: Sequence[str] = QUESTIONS,
        letters: int = 16,
        marks: int = 8,
        repeats: Mapping[str, int] | None = None,
        seed: int = 0,
    ):
        repeats = dict(repeats or {})
        unknown = [kind for kind in (*questions, *repeats) if kind not in QUESTIONS]
        if unknown or not questions:
            raise ConfigError(
                f"questions: {unknown[0]!r} is no kind of question; choose {', '.join(QUESTIONS)}"
                if unknown
                else f"questions is empty: choose of {', '.join(QUESTIONS)}"
            )
        if min(letters, marks) < 2:
            raise ConfigError(f"letters={letters} and marks={marks}: a choice is of two or more")
        if min(repeats.values(), default=1) < 1:
            raise ConfigError(f"repeats={repeats}: ask every kind once or more")
        self.glyphs, self.questions = glyphs, tuple(questions)
        self.choices, self.seed = {"which_letter": letters, "which_mark": marks}, seed
        self.repeats = repeats

    def splits(self) -> LabelledSplits:
        """Draw the pictures and ask. Raises `DataError` where a set has nothing to ask."""
        found = self.glyphs.splits()
        store = QuestionStore(found.train, found.val, *found.test.values())  # type: ignore[arg-type]
        answers = self._frequent(found.train)  # type: ignore[arg-type]

        def ask(name: str, dataset: GlyphSet, *, training: bool = False) -> LabelledSet:
            examples = list(self._examples(dataset, answers, training=training))
            if not examples:
                raise DataError(
                    f"the {name} set of {len(dataset)} glyphs gives 0 balanced questions: choose "
                    "more scripts, categories or fonts, or other questions"
                )
            return LabelledSet(examples, store)

        tests = {name: ask(f"test {name}", each) for name, each in found.test.items()}  # type: ignore[arg-type]
        return LabelledSplits(
            train=ask("training", found.train, training=True),  # type: ignore[arg-type]
            val=ask("validation", found.val),  # type: ignore[arg-type]
            test=tests,
            heads={"answer": HeadSpec("single", self._classes(answers), open=True)},
            notes=(*found.notes, *(f"{kind}: {', '.join(of)}" for kind, of in answers.items())),
        )

    def _classes(self, answers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
        yes_or_no = ("no", "yes") if set(self.questions) - answers.keys() else ()
        return (*yes_or_no, *sorted({answer for of in answers.values() for answer in of}))

    def _frequent(self, train: GlyphSet) -> dict[str, tuple[str, ...]]:
        """Return the answers of every "which": the most frequent ones, equals in their order."""
        known = [traits(train.character(i)) for i in range(len(train))]
        answers = {}
        for kind in self.questions:
            if kind in WHICH:
                counts = Counter(_TRAIT[kind](each) for each in known)
                ranked = sorted((-n, trait) for trait, n in counts.items() if trait is not None)
                answers[kind] = tuple(trait for _, trait in ranked[: self.choices[kind]])
        return answers

    def _examples(
        self, dataset: GlyphSet, answers: Mapping[str, Sequence[str]], *, training: bool
    ) -> Iterator[Example]:
        known = {dataset.key(i): traits(dataset.character(i)) for i in range(len(dataset))}
        for kind in self.questions:
            repeats = self.repeats.get(kind, 1) if training else 1
            if kind in WHICH:
                balanced = not training
                yield from self._which(kind, known, answers[kind], repeats, balanced=balanced)
            else:
                yield from self._pairs(kind, known, repeats)

    def _pairs(self, kind: str, known: dict[str, Traits], repeats: int) -> Iterator[Example]:
        """Yield a question with answer yes, and one with no, for every picture and wording."""
        having: dict[str, list[str]] = defaultdict(list)  # trait -> the pictures that have it
        for key in shuffled(known, self.seed):
            value = _TRAIT[kind](known[key])
            if value is not None:
                having[value].append(key)
        asked = [wording for wording in _WORDINGS[kind] for _ in range(repeats)]
        for i, wording in enumerate(asked):
            for key, true, false in balanced_pairs(having, i / len(asked)):
                for answer, value in (("yes", true), ("no", false)):
                    yield _example(key, f"{kind}-{i}", answer, wording.format(value))

    def _which(
        self,
        kind: str,
        known: dict[str, Traits],
        answers: Sequence[str],
        repeats: int,
        *,
        balanced: bool,
    ) -> Iterator[Example]:
        """Yield the question of as many pictures of every answer, or of all that have one."""
        having = {trait: [k for k in known if _TRAIT[kind](known[k]) == trait] for trait in answers}
        fewest = min((len(keys) for keys in having.values() if keys), default=0)
        number = fewest if balanced else len(known)
        asked = [wording for wording in WHICH[kind] for _ in range(repeats)]
        for answer, keys in having.items():
            for key in shuffled(keys, self.seed)[:number]:
                for i, wording in enumerate(asked):
                    yield _example(key, f"{kind}-{i}", answer, wording)


def balanced_pairs(
    having: Mapping[str, Sequence[str]], turn: float = 0.0
) -> Iterator[tuple[str, str, str]]:
    """Yield (picture, its trait, another trait): every trait is the other one as often as its own.

    The pictures lie in a ring, those of one trait together; the other trait is that of the picture
    some way round the ring, farther for a larger `turn` in [0, 1). A trait that more than half of
    the pictures have would meet itself there, so only as many of its pictures are used as all
    others have together.
    """
    kept = {trait: list(keys) for trait, keys in having.items()}
    for trait, keys in kept.items():
        kept[trait] = keys[: sum(map(len, kept.values())) - len(keys)]
    ring = [(key, trait) for trait, keys in kept.items() for key in keys]
    most = max(map(len, kept.values()), default=0)
    step = most + int(turn * (len(ring) - 2 * most))
    for i, (key, trait) in enumerate(ring):
        yield key, trait, ring[(i + step) % len(ring)][1]


def _example(image: str, kind: str, answer: str, text: str) -> Example:
    return Example(
        key=f"{image}/{kind}/{answer}",
        labels={"answer": answer},
        images=(image,),
        text=text,
        place=f"{image} ({kind})",
    )
