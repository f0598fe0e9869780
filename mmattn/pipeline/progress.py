"""A progress bar on long work."""

from collections.abc import Generator, Iterable
from itertools import chain, islice
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(
    items: Iterable[T],
    total: int | None,
    *,
    progress: bool | None = None,
    few: int = 1,
    doing: str = "captioning",
) -> Generator[T, None, None]:
    """Yield items, with a progress bar on stderr; closing it puts the terminal in order.

    Args:
        items: what to yield.
        total: how many there are, if that is known.
        progress: show the bar; if None, on a terminal, where there are more than `few` items.
        few: so many are no long work.
        doing: what the bar calls the work.
    """
    console, items = Console(stderr=True), iter(items)
    if progress is None:
        first = list(islice(items, few + 1)) if console.is_terminal else []
        progress, items = len(first) > few, chain(first, items)
    yield from track(items, doing, total=total, console=console) if progress else items
