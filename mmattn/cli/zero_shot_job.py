"""Telling classes that are only named: what `mmattn classify --labels` does in its job."""

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.inputs import Input, named_images, numbered
from mmattn.cli.job_settings import ClassifySettings
from mmattn.cli.jsonl import CLASSES, read_lines
from mmattn.cli.jsonl_job import Work
from mmattn.cli.text_inputs import texts_alone
from mmattn.errors import ConfigError
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.load import load_joint
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.zero_shot import ZeroShot
from mmattn.zero_shot import PLACE


class ZeroShotWork(Work):
    """Tells which of some labels fits every image, by a joint model."""

    kind, noun, doing = CLASSES, "image", "classifying"
    teller: ZeroShot  # from `load` on

    def __init__(self, job: ClassifySettings):
        self.job = job

    def names(self) -> list[str]:
        """Return the names of all images.

        Raises:
            ConfigError: for a file of results for other labels, which would be mixed with these.
        """
        if self.job.out is not None:
            check_same_labels(self.job.out, self.labels(), self.job.top)
        return list(map(str, named_images(self.job.images)))

    def labels(self) -> list[str]:
        """Return the names of the classes. Raises DataError for a file that holds none."""
        if self.job.labels_file is None:
            return list(self.job.labels)
        return texts_alone(self.job.labels_file)

    def load(self, device: torch.device) -> ZeroShot:
        """Return what tells the classes."""
        job = self.job
        settings = {"device": device, "dtype": job.dtype, "revision": job.revision}
        pipeline = load_joint(job.model, "--labels", **settings)
        self.teller = pipeline.zero_shot(self.labels(), job.templates or (PLACE,), top=job.top)
        return self.teller

    def inputs(self, names: list[str]) -> Sequence[Input]:
        """Return the images with their places."""
        return numbered([Path(name) for name in names])

    def results(
        self, own: Sequence[Input], size: int
    ) -> Generator[Classification | Unreadable, None, None]:
        """Yield the classes of images."""
        pictures = [one.picture(self.job.max_pixels) for one in own]
        return self.teller.results(pictures, batch_size=size, threads=self.job.threads)

    def line(self, one: Input, found: Classification | Unreadable) -> dict[str, Any]:
        """Return what is written of one image."""
        if isinstance(found, Unreadable):
            return {"image": one.name, "error": str(found.error)}
        return found.to_dict()


def check_same_labels(out: Path, labels: Sequence[str], top: int) -> None:
    """Raise ConfigError where a file does not hold what is asked for now.

    Each line has the labels of its "top": that they are among these, and as many as would be told
    now. It cannot be seen that there were others where not all are told, nor other templates.
    """
    wanted = min(top, len(labels))
    again = "what is there is not told again, so give another file with --out"
    for number, line in enumerate(read_lines(out, CLASSES), 1):
        if line.bad:
            continue
        where, told = f"{out}, line {number}", told_labels(json.loads(line.raw))
        if told is None:
            raise ConfigError(f"{where}: is of a classifier, which has classes of its own: {again}")
        other = next((label for label in told if label not in labels), None)
        if other is not None:
            raise ConfigError(
                f"{where}: has the label {other!r}, which is none of those asked for: {again}"
            )
        if len(told) != wanted:
            raise ConfigError(
                f'{where}: has {len(told)} labels in "top", and {wanted} are asked for: {again}'
            )


def told_labels(line: dict[str, Any]) -> list[str] | None:
    """Return the labels in the "top" of a line; None where it is not of one head of classes."""
    top = line.get("top")
    if "heads" in line or not isinstance(top, list):
        return None
    return [str(one.get("label")) if isinstance(one, dict) else str(one) for one in top]
