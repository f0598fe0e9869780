"""Scoring the captions of one or two models: what `mmattn score` does."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.page_names import page_names
from mmattn.cli.score_settings import ScoreSettings
from mmattn.data.caption_files.entry import Entry
from mmattn.data.caption_files.matching import Matched, Pair, differences, listed, match
from mmattn.data.caption_files.predictions import Predictions, read_predictions
from mmattn.data.caption_files.references import read_references
from mmattn.data.caption_files.selection import of_training, selected, split_sizes
from mmattn.data.findings import some
from mmattn.errors import DataError
from mmattn.files import write_whole
from mmattn.metrics.hallucination import ObjectWords
from mmattn.metrics.ptb import tokenize
from mmattn.pipeline.json_line import json_line
from mmattn.reports.scores.corpus import Corpus, corpora
from mmattn.reports.scores.measure import Measured, Wanted, measure
from mmattn.reports.scores.object_words import read_objects
from mmattn.reports.scores.per_image import image_rows
from mmattn.reports.scores.result import Chance, Result, result
from mmattn.reports.scores.text import lines


def score(job: ScoreSettings) -> bool:
    """Score what is asked for, and tell it.

    Returns:
        Whether the program of a metric failed.

    Raises:
        UserError: for a mistake in the input; nothing is written then.
    """
    files = [path for path in (job.predictions, job.against) if path is not None]
    references = selected(read_references(job.references), job.split, job.references)
    predicted = [read_predictions(path) for path in files]
    notes: list[str] = []
    systems = same_images(job, files, references, predicted, notes)
    wanted = wanted_of(job, systems[0])
    scored = corpora(systems)
    measured = [measure(corpus, wanted) for corpus in scored]
    notes += notes_on_references(scored[0])
    for file, corpus in zip(files, scored, strict=True):
        notes += notes_on(file, corpus, but="" if job.clip is None else " but for CLIPScore")
    say_what_is_left_out(measured)
    chance = Chance(job.bootstrap, job.shuffles, job.seed)
    names = [str(file) for file in files]
    found = result(str(job.references), names, scored, measured, chance, notes, job.clip)
    tell(job, found, predicted[0])
    return any(each.failed for each in measured)


def wanted_of(job: ScoreSettings, pairs: Sequence[Pair]) -> Wanted:
    """Read what else is needed to measure what is asked for of these images."""
    training = None
    if job.training is not None:
        known = read_references(job.training)
        entries = of_training(known, job.training_split, job.training)
        training = {tuple(tokenize(text)) for entry in entries for text in entry.captions}
    objects = None if job.objects is None else ObjectWords(read_objects(job.objects))
    fit = None
    if job.clip is not None and job.images is not None:
        from mmattn.cli.score_clip import ClipFit  # with torch, which nothing else here needs

        fit = ClipFit(job.clip, job.device, pairs, job.images)
    return Wanted(job.meteor, job.spice, training, objects, fit)


def same_images(
    job: ScoreSettings,
    files: Sequence[Path],
    references: Sequence[Entry],
    predicted: Sequence[Predictions],
    notes: list[str],
) -> list[list[Pair]]:
    """Return the images that are scored, of each file of predictions in the same order.

    Raises:
        DataError: where some lack references or a prediction, unless they are to be skipped, or
            all do.
    """
    matched = []
    for file, each in zip(files, predicted, strict=True):
        try:
            matched.append(match(references, each.entries))
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
    told = [told_differences(each) for each in matched]
    common = set.intersection(*({id(pair.reference) for pair in m.pairs} for m in matched))
    if any(told):
        unreadable = [key for each in predicted for key in each.unreadable]
        if job.missing == "error" or not common:
            hint = splits_hint(job, references) + errors_hint(unreadable)
            remedy = f"give --missing skip to score the others ({len(common):,})"
            if not common:
                remedy = "no image has both: their names or numbers must be the same"
                remedy += " (numbers here are texts there)" * any(map(other_type, matched))
            said = [f"{job.references} and {f} {w}" for f, w in zip(files, told, strict=True) if w]
            raise DataError(f"{'; '.join(said)}{hint}: {remedy}")
        # Notes are on the page, too, which may be shown to others: no path of this machine.
        names = [f"{job.references.name} and {file.name}" for file in files]
        notes += [f"left out: {n} {w}" for n, w in zip(names, told, strict=True) if w]
        notes += [errors_hint(unreadable).strip(" ;")] if unreadable else []
    for file, each in zip(files, matched, strict=True):
        if each.by_name:
            notes.append(f"{file.name}: images known by the names of their files: {each.by_name:,}")
    return [[pair for pair in m.pairs if id(pair.reference) in common] for m in matched]


def told_differences(matched: Matched) -> str:
    """Return what two files do not have in common, in words; "" where that is nothing."""
    told = ", ".join(differences(matched))
    return told and f"are not of the same images; {told}"


def other_type(matched: Matched) -> bool:
    """Return whether what one file has as a number the other has as a text."""
    sides = (matched.unpredicted, matched.unknown)
    ours, theirs = ({str(entry.key) for entry in side} for side in sides)
    return not ours.isdisjoint(theirs)


def splits_hint(job: ScoreSettings, references: Sequence[Entry]) -> str:
    """Return that there are splits to choose from, where that may be why images differ."""
    sizes = split_sizes(references)
    return f"; the references have the splits {sizes} (--split)" if sizes and not job.split else ""


def errors_hint(unreadable: Sequence[str | int]) -> str:
    """Return that some predictions are errors, where they are."""
    names = some([str(key) for key in unreadable])
    return f'; "error" in place of a caption: {names}' if unreadable else ""


def notes_on_references(corpus: Corpus) -> list[str]:
    """Return what is worth knowing of what people said."""
    notes = []
    silent = [
        pair.reference
        for pair, image in zip(corpus.pairs, corpus.references, strict=True)
        if not any(image)
    ]
    if silent:
        notes.append(f"references without a word, against which all score 0: {listed(silent)}")
    if len(corpus.pairs) == 1:
        notes.append("CIDEr-D of one image is 0: words count by how few of the images have them")
    return notes


def notes_on(file: Path, corpus: Corpus, but: str = "") -> list[str]:
    """Return what is worth knowing of a model's captions; `but` names who scores empty ones."""
    notes = []
    if corpus.empty:
        notes.append(f"{file.name}: empty predictions, which score 0{but}: {listed(corpus.empty)}")
    if corpus.several:
        notes.append(f"{file.name}: of several captions of an image the first is scored")
    return notes


def say_what_is_left_out(measured: Sequence[Measured]) -> None:
    """Say on stderr, once, which metrics are missing, and why."""
    skipped = {f"no {name}: {why}": None for each in measured for name, why in each.skipped.items()}
    failed = {f"no {name}: {why}": None for each in measured for name, why in each.failed.items()}
    for line in (*skipped, *failed):
        print(line, file=sys.stderr)


def tell(job: ScoreSettings, found: Result, predictions: Predictions) -> None:
    """Write the files that are asked for, where links stay links, then print the scores."""
    if job.per_image is not None:
        write_whole(job.per_image.resolve(), b"".join(map(json_line, image_rows(found))))
    if job.html is not None:
        from mmattn.reports.scores.page import score_page

        pages = attention_pages(predictions) if job.attention is not None else {}
        page = score_page(found, job.html, job.images, job.attention, pages)
        write_whole(job.html.resolve(), page.encode())
    if job.json:
        print(json.dumps(found.plain(), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        print("\n".join(lines(found)))


def attention_pages(predictions: Predictions) -> dict[str | int, Path]:
    """Return by which name `mmattn caption --attention` writes files about each image."""
    names = [entry.name for entry in predictions.entries if entry.name is not None]
    pages = page_names([Path(name) for name in names])
    return dict(zip(names, pages, strict=True))
