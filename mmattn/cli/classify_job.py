"""Classifying many inputs: what `mmattn classify` does in its job."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.job_settings import ClassifySettings
from mmattn.cli.jsonl import CLASSES, key_of
from mmattn.cli.jsonl_job import Work
from mmattn.cli.page_names import question_pages
from mmattn.cli.text_inputs import Named, named_inputs
from mmattn.errors import ConfigError
from mmattn.pipeline.classification import Classification, Text, about
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.load import load_classifier
from mmattn.pipeline.pictures import Picture, Unreadable, picture_of_file
from mmattn.pipeline.questions import Question, as_text
from mmattn.pipeline.verdict import Teller


@dataclass(frozen=True)
class Asked:
    """One input of a job: its question, by what lines know it, and what pages are named after."""

    question: Question
    key: str
    page: Path

    @property
    def place(self) -> int:
        """Its place among all inputs of the job."""
        return self.question.place


class ClassifyWork(Work):
    """Tells the classes of images, texts, or both."""

    kind, noun, doing = CLASSES, "input", "classifying"
    pipeline: ClassifierPipeline  # both from `load` on
    labeller: Teller

    def __init__(self, job: ClassifySettings):
        self.job = job

    def names(self) -> list[Named]:
        """Return what images and texts mean; several processes get it as lists."""
        job = self.job
        return named_inputs(job.images, job.text, job.texts, job.pictures)

    def load(self, device: torch.device) -> Teller:
        """Return what tells the classes."""
        job = self.job
        settings = {"device": device, "dtype": job.dtype, "revision": job.revision}
        self.pipeline = load_classifier(job.source, "mmattn classify", **settings)
        self.labeller = self.pipeline.labeller(
            job.heads or None,
            top=job.top,
            attention=job.attention is not None,
            passes=job.passes,
            seed=job.seed or 0,
            at_least=job.at_least,
        )
        return self.labeller

    def inputs(self, names: Sequence[Any]) -> list[Asked]:
        """Return the inputs as the model's questions, each once."""
        words = bool(self.pipeline.model.word_heads)
        different: dict[str, tuple[Named, Text | None]] = {}
        for one in (Named(*each) for each in names):
            self.check_images(one)
            text = None if one.text is None else as_text(one.text, words, one.where)
            different.setdefault(line_key(one.images, text), (one, text))
        files = self.files([one for one, _ in different.values()])
        pairs = [
            (tuple(files[image] for image in one.images), text) for one, text in different.values()
        ]
        asked = self.pipeline.ask(
            pairs,
            truncate=self.job.truncate,
            places=[one.where for one, _ in different.values()],
        )
        pages = question_pages([(one.images, text) for one, text in different.values()])
        return [Asked(*each) for each in zip(asked, different, pages, strict=True)]

    def files(self, inputs: Sequence[Named]) -> dict[str, Picture]:
        """Return the pictures by their paths; what several ask about is encoded once a batch."""
        paths = dict.fromkeys(image for one in inputs for image in one.images)
        limit = self.job.max_pixels
        return {path: picture_of_file(Path(path), i, limit) for i, path in enumerate(paths)}

    def check_images(self, one: Named) -> None:
        """Raise ConfigError for other numbers of images than the model takes at once."""
        most, count = self.pipeline.model.images, len(one.images)
        if count > most:
            raise ConfigError(
                f"{one.where} has {count} images, and this model takes {most} at once"
            )
        if count and most > 1 and not one.listed:
            raise ConfigError(
                f"this model takes up to {most} images at once: give --texts FILE.jsonl with "
                '{"image": ["first.jpg", "second.jpg"], …} in each line'
            )

    def results(
        self, own: Sequence[Asked], size: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield the classes of inputs."""
        asked = [one.question for one in own]
        return self.labeller.results(asked, batch_size=size, threads=self.job.threads)

    def line(self, one: Asked, found: Classification | Unreadable) -> dict[str, Any]:
        """Return what is written of one input."""
        if isinstance(found, Classification):
            if self.job.attention is None:
                return found.to_dict()
            # Where no word has a label there is nothing to explain, and no page.
            pages = [] if found.attention is None else self.job.pages(one.page)
            return {**found.to_dict(), "attention": [str(found.save(page)) for page in pages]}
        names = tuple(picture.name for picture in one.question.pictures)
        return {**about(names, one.question.text), "error": str(found.error)}


def line_key(images: Sequence[str], text: Text | None) -> str:
    """Return by what the line of an input is known, as `key_of` of what the line says."""
    said = about(tuple(str(Path(image)) for image in images), text)
    return key_of(said.get("image"), said.get("text"))
