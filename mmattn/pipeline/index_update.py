"""Bringing an index of images on disk up to date: only what is new or changed is embedded."""

import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from glob import escape
from os.path import abspath
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.errors import DataError
from mmattn.pipeline.embedder import ImageEmbedder
from mmattn.pipeline.index_file import (
    File,
    Stored,
    content_key,
    joined,
    read_index,
    select,
    write_index,
)
from mmattn.pipeline.pictures import Picture, Unreadable, picture_of_file
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.pipeline.progress import shown

PIECE_SECONDS = 10.0  # about the most work that a killed process loses
NO_FILE = (-1, -1)  # the size and time of what is not there


class Todo(NamedTuple):
    """A file that is to be embedded: as a picture, and as it was when it was looked at."""

    picture: Picture
    path: str
    size: int
    mtime: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.picture.name

    @property
    def place(self) -> int:
        """Its place among all files that are wanted."""
        return self.picture.place


class Prepared(NamedTuple):
    """A file with what tells its content, and the pixels that the model takes."""

    file: File
    pixels: Float[Tensor, "3 height width"]


class Updated(NamedTuple):
    """An index as it is now.

    stored: the files that were wanted and could be read, in their order. names: what these were
    called. unreadable: those that could not be read. new: how many were new or had changed.
    dropped: how many files of the index are gone from the disk.
    """

    stored: Stored
    names: list[str]
    unreadable: list[Unreadable]
    new: int
    dropped: int


class IndexUpdate:
    """Brings one index up to date.

    While that takes long, what is done is written beside the index, a piece every few seconds, so
    a process that is killed loses no more than that; the next one takes the pieces in. The index
    itself is replaced as a whole, at the end.

    Args:
        path: of the index; made if it does not exist.
        model: the `fingerprint` of the model.
        embedder: of that model.
        batch_size: pictures computed at once.
        threads: how many read pictures while the model is busy.
        max_pixels: of an image file.
        progress: show a progress bar; if None, on a terminal, where there are several batches.
    """

    def __init__(
        self,
        path: Path,
        model: str,
        embedder: ImageEmbedder,
        *,
        batch_size: int,
        threads: int,
        max_pixels: int,
        progress: bool | None = None,
    ):
        self.path, self.model, self.embedder = path, model, embedder
        self.batch_size, self.threads = batch_size, threads
        self.max_pixels, self.progress = max_pixels, progress

    def __call__(self, wanted: Sequence[Path]) -> Updated:
        """Embed what is new or has changed of these files; drop what is gone from the disk.

        Files of the index that are not wanted stay in it, as long as they exist.

        Raises:
            ConfigError: for an index of another model.
            DataError: for a file that is no index.
            OSError: where it cannot be written.
        """
        pieces = self.pieces()
        have = self.have(pieces)
        names = {abspath(path): str(path) for path in wanted}  # noqa: PTH100 (links stay links)
        kept, dropped = still_there(have, names)
        todo = self.todo(names, {have.files[row].path for row in kept})
        new, unreadable = self.embedded(todo, have)
        if pieces or new.files or len(kept) < len(have.files):
            whole = joined([select(have, kept), new], self.embedder.width, first=names)
            write_index(self.path, whole, self.model)
        for piece in {*pieces, *self.pieces()}:
            piece.unlink(missing_ok=True)
        stored = self.have([])
        rows = {file.path: row for row, file in enumerate(stored.files)}
        there = [path for path in names if path in rows]
        stored = select(stored, [rows[path] for path in there])
        return Updated(stored, [names[path] for path in there], unreadable, len(new.files), dropped)

    def pieces(self) -> list[Path]:
        """Return the pieces that lie beside the index."""
        return sorted(self.path.parent.glob(f".{escape(self.path.name)}.*.piece"))

    def have(self, pieces: Sequence[Path]) -> Stored:
        """Return what the index and its pieces hold; nothing where there are none."""
        parts = [read_index(path, self.model) for path in (self.path, *pieces) if path.exists()]
        return parts[0] if len(parts) == 1 else joined(parts, self.embedder.width)

    def todo(self, names: Mapping[str, str], known: set[str]) -> list[Todo]:
        """Return the files that are to be embedded: by their paths, those that are not known."""
        found = []
        for place, (path, name) in enumerate(names.items()):
            if path not in known:
                picture = picture_of_file(Path(name), place, self.max_pixels)
                found.append(Todo(picture, path, *size_and_time(path)))
        return found

    def embedded(self, todo: Sequence[Todo], have: Stored) -> tuple[Stored, list[Unreadable]]:
        """Return files with their embeddings, and those that cannot be read."""
        files: list[File] = []
        vectors: list[Tensor] = []
        unreadable: list[Unreadable] = []
        written, since = 0, time.monotonic()
        results = self.results(todo, have)
        bar = shown(
            results, len(todo), progress=self.progress, few=self.batch_size, doing="embedding"
        )
        try:
            with closing(results), closing(bar):
                for found in bar:
                    if isinstance(found, Unreadable):
                        unreadable.append(found)
                        continue
                    files.append(found[0])
                    vectors.append(found[1])
                    if time.monotonic() - since > PIECE_SECONDS:
                        self.write_piece(files[written:], vectors[written:])
                        written, since = len(files), time.monotonic()
        except BaseException:  # Ctrl-C, too: nothing that is done is lost
            self.write_piece(files[written:], vectors[written:])
            raise
        return stacked(files, vectors, self.embedder.width), unreadable

    def results(
        self, todo: Sequence[Todo], have: Stored
    ) -> Generator[tuple[File, Tensor] | Unreadable, None, None]:
        """Yield each file with its embedding, or what is wrong with it, in their order."""
        rows = {file.key: row for row, file in enumerate(have.files)}
        prepare = preparing(self.embedder)

        def embed(batch: list[Ready]) -> list[tuple[File, Tensor]]:
            """Embed a batch; what was only moved or touched has its embedding already."""
            read = [one.prepared for one in batch]
            pixels = [one.pixels for one in read if one.file.key not in rows]
            computed = iter(self.embedder.vectors(pixels) if pixels else [])
            return [
                (
                    one.file,
                    have.vectors[rows[one.file.key]] if one.file.key in rows else next(computed),
                )
                for one in read
            ]

        return computed(todo, prepare, embed, batch_size=self.batch_size, threads=self.threads)

    def write_piece(self, files: list[File], vectors: list[Tensor]) -> None:
        """Write what was embedded since the last piece, if anything was."""
        if files:
            place = self.path.with_name(f".{self.path.name}.{uuid4().hex}.piece")
            write_index(place, stacked(files, vectors, self.embedder.width), self.model)


def still_there(have: Stored, names: Mapping[str, str]) -> tuple[list[int], int]:
    """Return which rows of an index are still so, and how many files of it are gone.

    A file that is wanted is still so where its size and time are those of the index; any other
    where it exists.
    """
    kept, gone = [], 0
    for row, file in enumerate(have.files):
        now = size_and_time(file.path)
        gone += now == NO_FILE
        if now == (file.size, file.mtime) or (file.path not in names and now != NO_FILE):
            kept.append(row)
    return kept, gone


def size_and_time(path: str) -> tuple[int, int]:
    """Return a file's size in bytes and when it was last written, in nanoseconds; or `NO_FILE`."""
    try:
        status = os.stat(path)  # noqa: PTH116 (a million times)
    except (OSError, ValueError):
        return NO_FILE
    return status.st_size, status.st_mtime_ns


def preparing(embedder: ImageEmbedder) -> Callable[[Todo], Prepared]:
    """Return what reads a file; it raises DataError for one that is no readable image."""
    prepare = embedder.preparing()

    def read(todo: Todo) -> Prepared:
        pixels = prepare(todo.picture)  # first: it refuses what is no file, or far too large
        try:
            key = content_key(todo.path)
        except OSError as error:
            raise DataError(f"{todo.name} cannot be read: {error.strerror}") from None
        return Prepared(File(todo.path, todo.size, todo.mtime, key), pixels)

    return read


def stacked(files: list[File], vectors: list[Tensor], width: int) -> Stored:
    """Return files with their embeddings."""
    return Stored(files, torch.stack(vectors) if vectors else torch.empty(0, width))
