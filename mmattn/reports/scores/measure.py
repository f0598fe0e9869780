"""Everything that is measured of one model's captions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmattn.metrics.additive import Additive, mean_of, ratio_of
from mmattn.metrics.caption_metrics import caption_metrics
from mmattn.metrics.diversity import distinct, novel, said_again, self_cider, vocabulary
from mmattn.metrics.hallucination import Chair, ObjectWords
from mmattn.metrics.meteor import meteor_additive, meteor_lacks
from mmattn.metrics.ngrams import Tokens
from mmattn.metrics.spice import spice, spice_lacks
from mmattn.metrics.word_counts import WordCounts, word_counts
from mmattn.reports.scores.corpus import Corpus

# A program may take this long in all: 10 minutes, and for METEOR 0.1 s a caption.
METEOR_SECONDS, METEOR_SECONDS_A_CAPTION = 600.0, 0.1


@dataclass(frozen=True)
class Wanted:
    """What is to be measured beside the metrics that need nothing else.

    Attributes:
        meteor: METEOR, by its Java program.
        spice: SPICE, likewise.
        training: the training captions as tokens, to find captions that are new; None for none.
        objects: finds objects in captions, for CHAIR; None for no CHAIR.
        fit: a caption of each image, as written -> metric -> how well each fits its photo; None
            where no photo is looked at.
    """

    meteor: bool = False
    spice: bool = False
    training: Collection[tuple[str, ...]] | None = None
    objects: ObjectWords | None = None
    fit: Callable[[Sequence[str]], Mapping[str, np.ndarray]] | None = None


@dataclass
class Measured:
    """What was found out about one model's captions.

    Attributes:
        scores: name -> score, with its statistics of each image.
        diversity: name -> figure of all captions together.
        lengths: of the predictions, in words.
        chair: the objects that each caption names; None where none are looked for.
        skipped: metric -> what was missing for it.
        failed: metric -> how its program failed.
    """

    scores: dict[str, Additive]
    diversity: dict[str, float]
    lengths: WordCounts
    chair: Chair | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def measure(corpus: Corpus, wanted: Wanted) -> Measured:
    """Score a model's captions, and see how they differ from one another."""
    predictions = corpus.predictions
    found = Measured(
        caption_metrics(corpus.references, predictions),
        diversity(predictions),
        word_counts(predictions),
    )
    _add_programs(found, corpus, wanted)
    if wanted.fit is not None:
        fits = wanted.fit([pair.prediction.captions[0] for pair in corpus.pairs])
        found.scores |= {name: mean_of(values) for name, values in fits.items()}
    if wanted.objects is not None:
        found.chair = wanted.objects.chair(corpus.references, predictions)
        found.scores |= found.chair.scores
    if corpus.several:
        found.scores["self_CIDEr"] = mean_of_known(self_cider(corpus.references, corpus.captions))
    if wanted.training is not None:
        found.scores["novel"] = mean_of(novel(predictions, wanted.training))
    found.scores["length"] = mean_of([len(tokens) for tokens in predictions])
    return found


def diversity(captions: Sequence[Tokens]) -> dict[str, float]:
    """How captions of different images differ, one an image."""
    return {
        "distinct_1": distinct(captions, 1),
        "distinct_2": distinct(captions, 2),
        "vocabulary": vocabulary(captions),
        "said_again": said_again(captions),
    }


def mean_of_known(values: np.ndarray) -> Additive:
    """The mean over the images whose value is no NaN."""
    known = ~np.isnan(values)
    return ratio_of(np.where(known, values, 0), known)


def _add_programs(found: Measured, corpus: Corpus, wanted: Wanted) -> None:
    """Add the scores of Java programs that are asked for, or say why they are not there."""
    references, predictions = corpus.references, corpus.predictions
    seconds = METEOR_SECONDS + METEOR_SECONDS_A_CAPTION * len(predictions)
    programs: dict[str, tuple[bool, Callable[[], str | None], Callable[[], Additive]]] = {
        "METEOR": (
            wanted.meteor,
            meteor_lacks,
            lambda: meteor_additive(references, predictions, seconds),
        ),
        "SPICE": (wanted.spice, spice_lacks, lambda: mean_of(spice(references, predictions))),
    }
    for name, (asked, lacks, score) in programs.items():
        missing = lacks() if asked else None
        if missing is not None:
            found.skipped[name] = missing
        elif asked:
            try:
                found.scores[name] = score()
            except RuntimeError as error:
                found.failed[name] = " ".join(str(error).split())
