"""Whether a model's maps are better than the controls, in words."""

from mmattn.reports.results import Estimate, Report, SetResult

# With fewer images an interval over images says too little.
FEWEST_IMAGES = 10


def is_better(result: SetResult, figure: str = "pointing") -> bool:
    """Whether the method is surely above every control: each difference's interval is above 0."""
    return result.images >= FEWEST_IMAGES and not beaten_by(result, figure)


def beaten_by(result: SetResult, figure: str = "pointing") -> list[str]:
    """Return the controls that the method is not surely above."""
    return [title for title, figures in result.above.items() if not figures[figure].low > 0]


def verdict(report: Report) -> list[str]:
    """Return the verdict: a headline, then a paragraph for each test set."""
    return [headline(report), *(set_verdict(report, result) for result in report.sets)]


def headline(report: Report) -> str:
    """Return in one sentence whether the maps are better than the controls."""
    better = [result for result in report.sets if is_better(result)]
    if len(better) == len(report.sets):
        names = " and ".join(result.name for result in report.sets)
        return f"The maps of this model are better than all controls on {names}."
    missing = "; ".join(
        f"{result.name}: {reason(result)}" for result in report.sets if result not in better
    )
    return f"The maps of this model are NOT better than the controls ({missing})."


def set_verdict(report: Report, result: SetResult) -> str:
    """Return how well the maps do on one test set, and beside which controls."""
    own = result.line(report.method).figures
    chosen = f", best of {report.candidates} on the validation set"
    method = f"{report.method}{chosen if report.candidates > 1 else ''}"
    sentences = [
        f"{result.name}: the maps of this model ({method}) point at the named region in "
        f"{within(own['pointing'])} of {result.words:,} words of {result.images:,} images; chance "
        f"is {result.chance:.3f}.",
        f"With one patch of tolerance it is {own['pointing_near'].mean:.2f}, chance "
        f"{result.near_chance:.2f}.",
        f"They hold {own['energy'].mean / result.chance:.1f} times the mass there that a uniform "
        f"map holds.",
        _comparison(result),
    ]
    if result.unseen:
        sentences.insert(1, unseen_sentence(result.unseen))
    if "road" in own:
        sentences.append(_faithfulness(result, own["road"]))
    sentences.append(uniform_sentence(result))
    return " ".join(sentences)


def within(estimate: Estimate) -> str:
    """Return an estimate with its interval, such as "0.87 (95 % CI 0.85 to 0.89)"."""
    return f"{estimate.mean:.2f} (95 % CI {estimate.low:.2f} to {estimate.high:.2f})"


def unseen_sentence(unseen: int) -> str:
    """Return how many words are not measured because the network sees nothing of their region."""
    words = "1 more word names" if unseen == 1 else f"{unseen:,} more words name"
    return f"{words} a region wholly outside what the network sees of the image: not measured."


def uniform_sentence(result: SetResult) -> str:
    """Return whether the model's answer depends on where it looks: if a uniform look costs it."""
    every = result.uniform.lost[None]["log_prob"]
    told = f"With uniform attention in all layers the model loses {nats(every)} a token"
    alone = {
        layer: figures["log_prob"].mean
        for layer, figures in result.uniform.lost.items()
        if layer is not None
    }
    if alone:
        most = max(alone, key=alone.__getitem__)
        told += f", in layer {most} alone {alone[most]:.2f}"
    if result.images < FEWEST_IMAGES:
        return f"{told}: {_too_few(result)}."
    depends = "depends" if every.low > 0 else "does NOT surely depend"
    return f"{told}: its answer {depends} on where it looks."


def nats(estimate: Estimate) -> str:
    """Return an amount of nats with its interval, such as "1.30 nats (95 % CI 1.21 to 1.38)"."""
    return f"{estimate.mean:.2f} nats (95 % CI {estimate.low:.2f} to {estimate.high:.2f})"


def _comparison(result: SetResult) -> str:
    """Name every control by how far the method is above it, the strongest control first."""
    above = sorted(result.above.items(), key=lambda item: item[1]["pointing"].mean)
    listed = ", ".join(f"{title} by {within(figures['pointing'])}" for title, figures in above)
    if is_better(result):
        return f"Pointing beats every control: {listed}."
    return f"Pointing is NOT better than the controls: {reason(result)}. It differs from {listed}."


def reason(result: SetResult) -> str:
    """Return why a result that is not better than the controls is not."""
    if result.images < FEWEST_IMAGES:
        return _too_few(result)
    return f"not surely above {', '.join(beaten_by(result))}"


def _too_few(result: SetResult) -> str:
    return f"{result.images} images are too few to tell, {FEWEST_IMAGES} are needed"


def _faithfulness(result: SetResult, road: Estimate) -> str:
    missed = beaten_by(result, "road")
    told = f"NOT surely more than by {', '.join(missed)}" if missed else "more than by any control"
    return (
        f"Taking away first what the map shows most, and not what it shows least, costs the word "
        f"{2 * road.mean:.2f} of its probability (twice ROAD; 95 % CI {2 * road.low:.2f} to "
        f"{2 * road.high:.2f}; {result.perturbed} words), {told}."
    )
