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
from mmattn.cli.text_inputs import read_texts
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
            check_same_labels(self.job.out, self.labels())
        return list(map(str, named_images(self.job.images)))

    def labels(self) -> list[str]:
        """Return the names of the classes. Raises DataError for a file that holds none."""
        if self.job.labels_file is None:
            return list(self.job.labels)
        return [str(one.text) for one in read_texts(self.job.labels_file)]

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


def check_same_labels(out: Path, labels: Sequence[str]) -> None:
    """Raise ConfigError where a file has been told a label that is not asked for now."""
    for number, line in enumerate(read_lines(out, CLASSES), 1):
        told = json.loads(line.raw).get("label")
        if told is not None and told not in labels:
            raise ConfigError(
                f"{out}, line {number}: has the label {told!r}, which is none of those asked for: "
                "what is there is not told again, so give another file with --out"
            )
