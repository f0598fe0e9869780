"""Finding the images, or texts, that fit queries: what `mmattn retrieve` does."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mmattn.cli.device import device_of
from mmattn.cli.found import check_ours, tell
from mmattn.cli.index_place import default_index
from mmattn.cli.inputs import named_images
from mmattn.cli.job_settings import RetrieveSettings
from mmattn.cli.places import check_folder
from mmattn.cli.text_inputs import texts_alone
from mmattn.errors import ConfigError, DataError
from mmattn.pipeline.batch_size import fastest_batch_size
from mmattn.pipeline.index_file import read_index
from mmattn.pipeline.index_update import Updated
from mmattn.pipeline.joint_pipeline import JointPipeline
from mmattn.pipeline.load import load_joint
from mmattn.pipeline.pictures import Unreadable, picture_of_file
from mmattn.pipeline.retrieval import Index
from mmattn.pipeline.retriever import Query

SHOWN = 20  # unreadable images that are told by their names
UNMEASURED = 8  # computed at once where there are no images to measure batches of


def retrieve(job: RetrieveSettings) -> int:
    """Find what is asked for, and tell it.

    Returns:
        How many images could not be read.

    Raises:
        UserError: for a mistake in the input; what was embedded until then is in the index.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("mmattn retrieve is one process: start it without torchrun")
    check_ours(job.out)
    queries, images = asked_queries(job), named_images(job.images) if job.images else []
    settings = {"device": device_of(job.device), "dtype": job.dtype, "revision": job.revision}
    pipeline = load_joint(job.model, "mmattn retrieve", **settings)
    size = job.batch_size or batch_size(pipeline, images)
    try:
        return searched(job, pipeline, queries, images, size)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"--batch-size {size}: the accelerator's memory does not suffice; give less"
        ) from None


def batch_size(pipeline: JointPipeline, images: Sequence[Path]) -> int:
    """Return how many are fast at once; measured on images alone, where there are some."""
    return fastest_batch_size(pipeline.embedder(), most=len(images)) if images else UNMEASURED


def searched(
    job: RetrieveSettings,
    pipeline: JointPipeline,
    queries: list[Query],
    images: list[Path],
    size: int,
) -> int:
    """Embed, `size` at once, search and tell; return how many images could not be read."""
    sizes: dict[str, Any] = {"batch_size": size, "threads": job.threads}
    asked = "image" if job.like else "text"
    # Before the images: mistakes are told before hours of work.
    pipeline.reranker(job.rerank, asked, "image" if job.texts is None else "text")
    vectors = pipeline.query_vectors(queries, truncate=job.truncate, **sizes)
    index, unreadable = index_of(job, pipeline, images, size)
    wanted = {"top": job.top, "rerank": job.rerank, "truncate": job.truncate}
    finder = pipeline.retriever(index, asked, max_pixels=job.max_pixels, **wanted, **sizes)
    tell(finder.retrieve(queries, vectors), job.out, json=job.json)
    return len(unreadable)


def asked_queries(job: RetrieveSettings) -> list[Query]:
    """Return what is looked for. Raises UserError for a file of queries that is none."""
    if job.like:
        paths = enumerate(map(Path, job.like))
        return [Query(picture=picture_of_file(path, i, job.max_pixels)) for i, path in paths]
    listed = [] if job.queries is None else texts_alone(job.queries)
    return [Query(text=text) for text in [*job.typed, *job.query, *listed]]


def index_of(
    job: RetrieveSettings, pipeline: JointPipeline, images: Sequence[Path], size: int
) -> tuple[Index, list[Unreadable]]:
    """Return what is searched, and the images that could not be read."""
    if job.texts is not None:
        texts = texts_alone(job.texts)
        return pipeline.index(texts=texts, batch_size=size, truncate=job.truncate), []
    if not images:
        assert job.index is not None
        stored = read_index(job.index, pipeline.fingerprint)
        return Index("image", [file.path for file in stored.files], stored.vectors), []
    place = job.index or default_index(job.images, images, pipeline.fingerprint)
    check_folder(place.parent, "--index")
    update = pipeline.index_update(
        place, batch_size=size, threads=job.threads, max_pixels=job.max_pixels
    )
    updated = update(images)
    report(place, updated)
    if not updated.names:
        first = updated.unreadable[0].error
        raise DataError(f"none of {len(images)} images can be read, the first because {first}")
    return Index("image", updated.names, updated.stored.vectors), updated.unreadable


def report(place: Path, updated: Updated) -> None:
    """Say on stderr where the index is, what was done, and which images are left out."""
    for one in updated.unreadable[:SHOWN]:
        print(f"left out: {one.error}", file=sys.stderr)
    more = len(updated.unreadable) - SHOWN
    if more > 0:
        print(f"left out: {more} more", file=sys.stderr)
    count = len(updated.names)
    parts = [f"{count} image{'s' * (count != 1)}", f"{updated.new} of them new or changed"]
    parts += [f"{updated.dropped} gone"] * bool(updated.dropped)
    print(f"index: {place} ({', '.join(parts)})", file=sys.stderr)
