"""The whole measurement: are the maps of a trained model better than maps that know less?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmattn.data.dataset import CaptionDataset
from mmattn.data.module import CaptionDataModule
from mmattn.errors import ConfigError, DataError
from mmattn.maps.methods import MapMethod
from mmattn.maps.quality.controls import (
    CentredGaussian,
    OtherCaption,
    RandomisedWeights,
    ShuffledCaption,
    Uniform,
)
from mmattn.maps.quality.randomisation import cascade
from mmattn.reports.ablation import measure_uniform
from mmattn.reports.measures import Line, measure_perturbations, measure_regions
from mmattn.reports.results import Report, SetResult, set_result
from mmattn.reports.words import (
    BATCH,
    GroundedImages,
    Regions,
    check_words,
    grounded_images,
    named_regions,
)
from mmattn.tasks.captioning import CaptioningTask

DRAWS = 3  # models with random weights


def attention_report(
    task: CaptioningTask,
    data: CaptionDataModule,
    methods: Sequence[MapMethod],
    *,
    limit: int | None = 400,
    perturbed: int = 16,
    seed: int = 0,
) -> Report:
    """Measure maps on every test set that knows regions, beside controls.

    Words are measured on the first *reference* caption, teacher-forced, so that every region counts
    whether or not the model would write its word. The verdict is about the method that points best
    on the validation set, so that choosing it costs the test sets nothing; where that knows no
    regions, about the first.

    Args:
        task: the trained model with its tokenizer.
        data: its data.
        methods: the maps to measure; their titles name them and differ.
        limit: at most so many images of each set, spread over it; all if None.
        perturbed: so many of them also by taking patches away; 0 leaves this out.
        seed: of random weights, ties, noise and intervals.

    Raises:
        ConfigError: for methods without a title of their own, for counts that are none, for patches
            to be taken away from cached features instead of pixels, and for an evaluation transform
            of unknown geometry.
        DataError: where no test set knows regions, the network sees none of them, or all their
            words are cut off the captions.
    """
    check_titles(methods)
    check_counts(limit, perturbed)
    if perturbed and data.cached:
        raise ConfigError("a feature cache holds no pixels to perturb: give perturbed=0")
    training = task.training
    task.eval()
    try:
        return _Measurement(task, data, limit, perturbed, seed).report(methods)
    finally:
        task.train(training)


def check_titles(methods: Sequence[MapMethod]) -> None:
    """Raise ConfigError unless there are methods and each has a title of its own."""
    titles = [method.title for method in methods]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if not titles:
        raise ConfigError("there is no method to report on: give at least one")
    if twice:
        raise ConfigError(f"two methods are called {twice[0]!r}: give each once")


def check_counts(limit: int | None, perturbed: int) -> None:
    """Raise ConfigError for numbers of images that are none."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit={limit}: give the number of images, at least 1, or None for all")
    if perturbed < 0:
        raise ConfigError(f"perturbed={perturbed}: give the number of images, or 0 for none")


def check_seen(sets: Mapping[str, GroundedImages]) -> None:
    """Raise DataError unless there is a region to measure in one of the test sets."""
    unseen = sum(each.unseen for each in sets.values())
    if any(each.regions for each in sets.values()):
        return
    if unseen:
        raise DataError(
            f"the regions of all {unseen} words lie wholly outside what the network sees of the "
            f"images: let data.eval_transform crop less"
        )
    raise DataError(
        f"no test set knows regions ({', '.join(sets)}): attention is measured on data whose words "
        f"name pixels, such as data=glyphs"
    )


def lines_of(methods: Sequence[MapMethod], chosen: MapMethod, seed: int) -> list[Line]:
    """Return the methods, then the four controls, those of a model as of the `chosen` method.

    What the `chosen` method shows of another image's caption stands between: no control, for it
    knows the picture and the place in the sentence.
    """
    random = tuple(RandomisedWeights(chosen, seed + draw) for draw in range(DRAWS))
    controls = [(Uniform(),), (CentredGaussian(),), random, (ShuffledCaption(chosen, seed),)]
    return [
        *(Line(method.title, (method,)) for method in (*methods, OtherCaption(chosen))),
        *(Line(control[0].title, control, control=True) for control in controls),
    ]


@dataclass(frozen=True)
class _Measurement:
    """What all steps share."""

    task: CaptioningTask
    data: CaptionDataModule
    limit: int | None
    perturbed: int
    seed: int

    def report(self, methods: Sequence[MapMethod]) -> Report:
        tests = {name or "test": dataset for name, dataset in self.data.splits.test.items()}
        found = {name: self.grounded(dataset) for name, dataset in tests.items()}
        check_seen(found)
        sets = {name: (tests[name], each.regions) for name, each in found.items() if each.regions}
        val = self.grounded(self.data.splits.val).regions if len(methods) > 1 else {}
        for name, (dataset, regions) in {**sets, "val": (self.data.splits.val, val)}.items():
            check_words(name, self.data, dataset, regions)
        chosen = self.best(methods, val) if val else methods[0]
        lines = lines_of(methods, chosen, self.seed)
        results = [
            replace(self.measured(name, *each, lines, chosen), unseen=found[name].unseen)
            for name, each in sets.items()
        ]
        return Report(
            method=chosen.title,
            candidates=len(methods) if val else 1,
            sets=tuple(results),
            cascade=tuple(self.cascade(*next(iter(sets.values())), chosen)),
            seed=self.seed,
        )

    def grounded(self, dataset: CaptionDataset) -> GroundedImages:
        return grounded_images(dataset, self.data.eval_transform, self.limit)

    def best(self, methods: Sequence[MapMethod], regions: dict[int, Regions]) -> MapMethod:
        """Return the method that points best on these images of the validation set."""
        lines = [Line(method.title, (method,)) for method in methods]
        parts = named_regions(self.task, self.data, self.data.splits.val, regions)
        found = measure_regions(self.task.model, parts, lines, heads=False)
        return methods[int(np.argmax(found.values["pointing"].mean(0)))]

    def measured(
        self,
        name: str,
        dataset: CaptionDataset,
        regions: dict[int, Regions],
        lines: Sequence[Line],
        chosen: MapMethod,
    ) -> SetResult:
        model, (task, data) = self.task.model, (self.task, self.data)
        parts = named_regions(task, data, dataset, regions)
        where = measure_regions(model, parts, lines)
        parts = named_regions(task, data, dataset, spread(regions, self.perturbed))
        once = [replace(line, methods=line.methods[:1]) for line in lines]
        faith = measure_perturbations(model, parts, once, self.seed)
        tokens = measure_uniform(model, named_regions(task, data, dataset, regions))
        return set_result(name, chosen.title, where, faith, tokens, self.seed)

    def cascade(
        self, dataset: CaptionDataset, regions: dict[int, Regions], chosen: MapMethod
    ) -> list[tuple[str, float]]:
        part = next(named_regions(self.task, self.data, dataset, spread(regions, BATCH)))
        return cascade(self.task.model, part.batch, chosen, self.seed)


def spread(regions: dict[int, Regions], count: int) -> dict[int, Regions]:
    """Return at most `count` of the images, evenly spaced."""
    images = list(regions)
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return {images[place]: regions[images[place]] for place in places}
