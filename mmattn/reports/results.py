"""What an attention report says, as plain values; the writers only lay it out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mmattn.maps.quality.intervals import bootstrap
from mmattn.reports.ablation import MeasuredTokens
from mmattn.reports.measures import Measured


class Estimate(NamedTuple):
    """A mean over words, or over runs, and its 95 % confidence interval."""

    mean: float
    low: float
    high: float


Figures = dict[str, Estimate]


@dataclass(frozen=True)
class LineResult:
    """The figures of one line: a method, a control, or a layer or head of the attention."""

    title: str
    control: bool
    layer: int | None
    head: int | None
    figures: Figures

    @property
    def key(self) -> str:
        """The line's place in flat keys."""
        if self.layer is None:
            return self.title
        return f"layer_{self.layer}/{'heads' if self.head is None else f'head_{self.head}'}"


@dataclass(frozen=True)
class WordResult:
    """The figures of the report's method for one word, wherever it names a region."""

    text: str
    count: int
    chance: float
    figures: Figures


@dataclass(frozen=True)
class UniformResult:
    """What a uniform attention costs, on `tokens` reference tokens.

    `own` are the figures of the model as it is: "log_prob", the mean log-probability of a token in
    nats, and "accuracy", the share of tokens that are its first choice. `lost[layer]` is how much
    of them it loses with uniform cross-attention in this layer; in all layers for None.
    """

    tokens: int
    own: Figures
    lost: dict[int | None, Figures]


@dataclass(frozen=True)
class SetResult:
    """One test set.

    `words` of `images` were measured, `perturbed` of them also by taking patches away. `chance` and
    `near_chance` are the shares of patches that count as hits, without and with a tolerance of one
    patch. `above[control]` are the figures of the report's method minus those of the control, word
    by word. `uniform` is of the captions that hold the words. `unseen` more words name a region
    that lies wholly outside the network's picture; they count nowhere.
    """

    name: str
    images: int
    words: int
    perturbed: int
    chance: float
    near_chance: float
    lines: tuple[LineResult, ...]
    by_word: tuple[WordResult, ...]
    above: dict[str, Figures]
    uniform: UniformResult
    unseen: int = 0

    def line(self, title: str) -> LineResult:
        """Return a method or a control by its title."""
        return next(line for line in self.lines if line.title == title and line.layer is None)


@dataclass(frozen=True)
class Report:
    """An attention report.

    `method` is the one that the verdict is about: of `candidates` the best on the validation set.
    `cascade` says how alike its maps stay while random weights go down from the output.
    """

    method: str
    candidates: int
    sets: tuple[SetResult, ...]
    cascade: tuple[tuple[str, float], ...]
    seed: int

    def figures(self) -> dict[str, float]:
        """Return every number under a flat key, such as `fonts/layer_2/head_0/pointing`.

        Each estimate has two more keys, with `_low` and `_high` at their end.
        """
        flat = {f"cascade/{part}": value for part, value in self.cascade}
        for each in self.sets:
            flat |= {f"{each.name}/{key}": value for key, value in _set_figures(each)}
        return flat


def set_result(
    name: str,
    method: str,
    regions: Measured,
    faith: Measured,
    tokens: MeasuredTokens,
    seed: int,
) -> SetResult:
    """Summarise what was measured on one test set; `faith` are its perturbations."""
    found = [_estimates(measured, seed) for measured in (regions, faith)]
    lines = [
        LineResult(line.title, line.control, line.layer, line.head, figures)
        for line, figures in zip(regions.lines, found[0], strict=True)
    ]
    for line, figures in zip(faith.lines, found[1], strict=True):
        lines[column_of(regions, line.title)].figures.update(figures)
    return SetResult(
        name=name,
        images=len(np.unique(regions.images)),
        words=len(regions.texts),
        perturbed=len(faith.texts),
        chance=float(regions.chance.mean()),
        near_chance=float(regions.near_chance.mean()),
        lines=tuple(lines),
        by_word=tuple(_by_word(regions, column_of(regions, method), seed)),
        above=_above(method, (regions, faith), seed),
        uniform=uniform_result(tokens, seed),
    )


def uniform_result(tokens: MeasuredTokens, seed: int) -> UniformResult:
    """Summarise what a uniform attention costs; the losses are differences token by token."""
    values = np.stack([tokens.log_probs, tokens.hits], 1)  # [R, figures, 1 + changes]
    values[..., 1:] = values[..., :1] - values[..., 1:]
    found = bootstrap(values, tokens.images, seed=seed)
    figures = [
        {figure: _estimate(found, (i, j)) for i, figure in enumerate(("log_prob", "accuracy"))}
        for j in range(values.shape[-1])
    ]
    lost = dict(zip(tokens.changes, figures[1:], strict=True))
    return UniformResult(len(values), figures[0], lost)


def column_of(measured: Measured, title: str) -> int:
    """Return the column of the method or control of this title."""
    found = [line.title == title and line.layer is None for line in measured.lines]
    return found.index(True)


def _estimates(measured: Measured, seed: int) -> list[Figures]:
    """Return the figures of every line."""
    if not measured.values:
        return [{} for _ in measured.lines]
    found = bootstrap(np.stack(list(measured.values.values()), 1), measured.images, seed=seed)
    return [
        {figure: _estimate(found, (i, j)) for i, figure in enumerate(measured.values)}
        for j in range(len(measured.lines))
    ]


def _by_word(measured: Measured, column: int, seed: int) -> Iterator[WordResult]:
    """Yield the words by how often they occur, then by the alphabet."""
    texts = np.array(measured.texts)
    names, counts = np.unique(texts, return_counts=True)
    values = np.stack([found[:, column] for found in measured.values.values()], 1)
    for i in np.argsort(-counts, kind="stable"):
        chosen = texts == names[i]
        found = bootstrap(values[chosen], measured.images[chosen], seed=seed)
        figures = {figure: _estimate(found, (j,)) for j, figure in enumerate(measured.values)}
        chance = float(measured.chance[chosen].mean())
        yield WordResult(str(names[i]), int(counts[i]), chance, figures)


def _above(method: str, parts: Sequence[Measured], seed: int) -> dict[str, Figures]:
    """Return by how much the method differs from each control, on the same words."""
    controls = [line.title for line in parts[0].lines if line.control]
    above: dict[str, Figures] = {title: {} for title in controls}
    for measured in parts:
        if not measured.values:
            continue
        values = np.stack(list(measured.values.values()), 1)  # [n, figures, lines]
        columns = [column_of(measured, title) for title in controls]
        own = values[..., [column_of(measured, method)]]
        found = bootstrap(own - values[..., columns], measured.images, seed=seed)
        for j, title in enumerate(controls):
            above[title] |= {
                figure: _estimate(found, (i, j)) for i, figure in enumerate(measured.values)
            }
    return above


def _estimate(found: tuple[np.ndarray, ...], place: tuple[int, ...]) -> Estimate:
    return Estimate(*(float(each[place]) for each in found))


def _set_figures(result: SetResult) -> Iterator[tuple[str, float]]:
    yield from (
        (name, float(getattr(result, name)))
        for name in ("images", "words", "unseen", "perturbed", "chance", "near_chance")
    )
    for line in result.lines:
        yield from _flat(line.key, line.figures)
    for word in result.by_word:
        yield f"word/{word.text}/words", float(word.count)
        yield f"word/{word.text}/chance", word.chance
        yield from _flat(f"word/{word.text}", word.figures)
    for title, figures in result.above.items():
        yield from _flat(f"above/{title}", figures)
    uniform = "uniform_attention"
    yield f"{uniform}/tokens", float(result.uniform.tokens)
    yield from _flat(f"{uniform}/own", result.uniform.own)
    for layer, figures in result.uniform.lost.items():
        yield from _flat(f"{uniform}/{lost_key(layer)}", figures)


def lost_key(layer: int | None) -> str:
    """Return the place in flat keys of what uniform attention in a layer costs; None is all."""
    return "lost/all_layers" if layer is None else f"lost/layer_{layer}"


def _flat(key: str, figures: Figures) -> Iterator[tuple[str, float]]:
    for figure, estimate in figures.items():
        yield f"{key}/{figure}", estimate.mean
        yield f"{key}/{figure}_low", estimate.low
        yield f"{key}/{figure}_high", estimate.high
