"""The scores of one or two models with their intervals, as plain values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mmattn.metrics.bootstrap import LEVEL, Interval, bootstrap
from mmattn.metrics.paired import Difference, paired_comparison
from mmattn.metrics.word_counts import WordCounts, word_counts
from mmattn.reports.scores.corpus import Corpus
from mmattn.reports.scores.measure import Measured, diversity


@dataclass(frozen=True)
class Chance:
    """How intervals and p-values are drawn.

    Attributes:
        samples: of the bootstrap over images; 0 for no intervals.
        shuffles: of the test of a difference; 0 for no p-values.
        seed: of both.
    """

    samples: int = 1000
    shuffles: int = 10_000
    seed: int = 0


@dataclass(frozen=True)
class System:
    """A model's predictions: the file they are in, and what was measured."""

    file: str
    corpus: Corpus
    measured: Measured
    intervals: Mapping[str, Interval]


@dataclass(frozen=True)
class Result:
    """What was found out, of one model or of two on the same images.

    Attributes:
        references: the file they are in.
        systems: the models; differences are the first less the second.
        differences: of the scores that both have; empty for one model.
        people: how different the first references of all images are.
        reference_lengths: of all references, in words.
        chance: how intervals and p-values were drawn.
        notes: what is worth knowing of the input.
        clip: the model of CLIPScore; None where it is not measured.
    """

    references: str
    systems: Sequence[System]
    differences: Mapping[str, Difference]
    people: Mapping[str, float]
    reference_lengths: WordCounts
    chance: Chance
    notes: Sequence[str] = field(default_factory=list)
    clip: str | None = None

    @property
    def images(self) -> int:
        """How many images are scored."""
        return len(self.systems[0].corpus.pairs)

    @property
    def references_per_image(self) -> float:
        """The mean number of references of an image."""
        return sum(map(len, self.systems[0].corpus.references)) / self.images

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON holds it; null for what is undefined."""
        first, *others = (_plain_system(system) for system in self.systems)
        found = {
            "references": self.references,
            "images": self.images,
            "references_per_image": self.references_per_image,
            **first,
            "people": {
                "diversity_of_first_references": _known(self.people),
                "lengths": _plain_lengths(self.reference_lengths),
            },
            "bootstrap": {**asdict(self.chance), "level": LEVEL},
            "notes": list(self.notes),
        }
        if self.clip is not None:
            found["clip"] = self.clip
        if others:
            found["against"] = others[0]
            found["differences"] = {
                name: _plain_difference(each) for name, each in self.differences.items()
            }
        return found


def result(
    references: str,
    files: Sequence[str],
    corpora: Sequence[Corpus],
    measured: Sequence[Measured],
    chance: Chance,
    notes: Sequence[str] = (),
    clip: str | None = None,
) -> Result:
    """Draw intervals and compare; the arguments are of one model or two, in the same order."""
    systems = [
        System(file, corpus, found, _intervals(found, chance))
        for file, corpus, found in zip(files, corpora, measured, strict=True)
    ]
    compared = {}
    if len(systems) > 1:
        compared = paired_comparison(
            measured[0].scores,
            measured[1].scores,
            samples=chance.samples,
            shuffles=chance.shuffles,
            seed=chance.seed,
        )
    said = corpora[0].references
    return Result(
        references,
        systems,
        compared,
        diversity([image[0] for image in said]),
        word_counts([tokens for image in said for tokens in image]),
        chance,
        notes,
        clip,
    )


def _intervals(found: Measured, chance: Chance) -> Mapping[str, Interval]:
    return bootstrap(found.scores, chance.samples, chance.seed) if chance.samples else {}


def _plain_system(system: System) -> dict[str, Any]:
    measured = system.measured
    scores = {
        name: _known({"score": each.score, **_ends(system.intervals.get(name))})
        for name, each in measured.scores.items()
    }
    return {
        "predictions": system.file,
        "scores": scores,
        "diversity": _known(measured.diversity),
        "lengths": _plain_lengths(measured.lengths),
        "skipped": measured.skipped,
        "failed": measured.failed,
    }


def _plain_difference(found: Difference) -> dict[str, float | None]:
    test = {} if found.p_value is None else {"p_value": found.p_value}
    return _known({"difference": found.value, **_ends(found.interval), **test})


def _ends(interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else interval._asdict()


def _plain_lengths(lengths: WordCounts) -> dict[str, Any]:
    return {**lengths._asdict(), "histogram": {str(k): v for k, v in lengths.histogram.items()}}


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return values with None for NaN, which JSON has not."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}
