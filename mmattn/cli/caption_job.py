"""Captioning a list of images: what `mmattn caption` does in its job."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.decoding_flags import options_as_flags
from mmattn.cli.index_place import default_index
from mmattn.cli.inputs import Input, named_images, numbered
from mmattn.cli.job_settings import CaptionSettings
from mmattn.cli.jsonl import CAPTIONS
from mmattn.cli.jsonl_job import Work
from mmattn.cli.places import check_folder
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.index_file import fingerprint
from mmattn.pipeline.load import load_captioner
from mmattn.pipeline.neighbours import NeighbourRanker
from mmattn.pipeline.pictures import Unreadable
from mmattn.pipeline.pipeline import Pipeline, check_choice
from mmattn.pipeline.writer import Writer


class CaptionWork(Work):
    """Writes a caption, and pages of its attention where they are asked for, of every image."""

    kind, noun, doing = CAPTIONS, "image", "captioning"
    writer: Writer  # from `load` on

    def __init__(self, job: CaptionSettings):
        self.job = job

    def names(self) -> list[str]:
        """Return the names of all images, but of the pictures of attention of an earlier job."""
        return list(map(str, named_images(self.job.images, own=self.job.pictures)))

    def load(self, device: torch.device) -> Writer:
        """Return what writes the captions."""
        job = self.job
        settings = {"device": device, "dtype": job.dtype, "revision": job.revision}
        pipeline = load_captioner(job.source, "mmattn caption", **settings)
        attention = False if job.attention is None else AttentionChoice(job.layers)
        choice = {"consensus_captions": job.consensus_captions, "clip_model": job.clip_model}
        with options_as_flags():
            check_choice(job.by, pipeline.options.changed(dict(job.decoding)))  # before minutes
            by = self.neighbours(pipeline) if job.by == "neighbours" else job.by
            self.writer = pipeline.writer(attention, by=by, **choice, **job.decoding)
        return self.writer

    def neighbours(self, pipeline: Pipeline) -> NeighbourRanker:
        """Return what ranks captions by those of known pictures, which an index remembers."""
        job = self.job
        assert job.known_captions is not None
        assert job.known_images is not None
        index = default_index([str(job.known_images)], [], fingerprint(pipeline.bundle))
        index = index.with_suffix(".features.index")
        check_folder(index.parent, "XDG_CACHE_HOME")
        few = {"threads": job.threads, "max_pixels": job.max_pixels, "split": job.known_split}
        few |= {} if job.neighbours is None else {"top": job.neighbours}
        return pipeline.neighbours(job.known_captions, job.known_images, index=index, **few)

    def inputs(self, names: list[str]) -> Sequence[Input]:
        """Return the images with their places."""
        return numbered([Path(name) for name in names])

    def results(
        self, own: Sequence[Input], size: int
    ) -> Generator[Caption | Unreadable, None, None]:
        """Yield the captions of images."""
        pictures = [one.picture(self.job.max_pixels) for one in own]
        return self.writer.results(pictures, batch_size=size, threads=self.job.threads)

    def line(self, one: Input, found: Caption | Unreadable) -> dict[str, Any]:
        """Return what is written of one image; its pages are written before."""
        if isinstance(found, Unreadable):
            return {"image": one.name, "error": str(found.error)}
        if self.job.attention is None:
            return found.to_dict()
        pages = self.job.pages(one.page)
        return {**found.to_dict(), "attention": [str(found.save(page)) for page in pages]}
