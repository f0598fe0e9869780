"""The results of long work as a list, for callers who want all of them or an error."""

from collections.abc import Generator, Iterable
from os import PathLike
from typing import Any

from mmattn.errors import ConfigError
from mmattn.pipeline.pictures import Picture, Unreadable, pictures
from mmattn.pipeline.progress import shown


def counted(images: Any, max_pixels: int) -> tuple[Iterable[Picture], int | None]:
    """Return the pictures that `images` means (see `pictures`), and how many, if that is known."""
    if isinstance(images, (str, PathLike, list, tuple)):
        found = list(pictures(images, max_pixels=max_pixels))
        return found, len(found)
    return pictures(images, max_pixels=max_pixels), None


def collected(
    results: Generator[Any, None, None],
    total: int | None,
    *,
    progress: bool | None,
    few: int,
    doing: str,
) -> list[Any]:
    """Return all results, with a progress bar; see `shown` for the arguments.

    Raises:
        DataError: of the first picture that cannot be read.
    """
    found = []
    bar = shown(results, total, progress=progress, few=few, doing=doing)
    for result in bar:
        if isinstance(result, Unreadable):
            bar.close()
            results.close()
            raise result.error
        found.append(result)
    return found


def check_sizes(batch_size: int, threads: int) -> None:
    """Raise ConfigError for batches of nothing, or nobody who reads."""
    if batch_size < 1 or threads < 1:
        raise ConfigError(f"batch_size={batch_size}, threads={threads}: give 1 or more of each")
