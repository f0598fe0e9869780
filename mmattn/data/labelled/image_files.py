"""Which image files of a data set can be used: looked at before training, and named."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from mmattn.data.findings import listing, some
from mmattn.data.images import image_fault, inside
from mmattn.data.labelled.example import Example
from mmattn.data.problems import Gathered
from mmattn.errors import DataError


def with_sound_images(
    examples: Mapping[str, Sequence[Example]], root: Path, gathered: Gathered, *, leave_out: bool
) -> tuple[dict[str, list[Example]], list[str]]:
    """Return the examples, split by split, whose image files below `root` exist and have a header.

    The others are left out. With `leave_out` a note names them; otherwise `gathered` gets an error
    that does, and says where each is asked for. A name that leads out of the folder always is one.

    Raises:
        ReadError: where the disk failed, which leaves nothing out.
    """
    places = _places(chain.from_iterable(examples.values()))
    paths, outside = _paths(root, places)
    with gathered.step():
        _raise_if_any(outside, len(places), "Correct these names.")
    found = {name: image_fault(path) for name, path in paths.items()}
    faults = {name: fault for name, fault in found.items() if fault}
    sound = paths.keys() - faults.keys()
    kept = {
        split: [e for e in rows if sound.issuperset(e.images)] for split, rows in examples.items()
    }
    if not faults:
        return kept, []
    if not leave_out:
        told = [_told(places[name], fault) for name, fault in faults.items()]
        remedy = "Or leave them out with data.source.leave_out_bad=true."
        with gathered.step():
            _raise_if_any(told, len(places), remedy)
        return kept, []
    lost = sum(map(len, examples.values())) - sum(map(len, kept.values()))
    return kept, [f"Images missing or damaged: {some(faults)}; examples left out: {lost:,}"]


def _places(examples: Iterable[Example]) -> dict[str, str]:
    """Return image name -> where it is first asked for."""
    places: dict[str, str] = {}
    for example in examples:
        for name in example.images:
            places.setdefault(name, example.place)
    return places


def _paths(root: Path, places: Mapping[str, str]) -> tuple[dict[str, Path], list[str]]:
    """Return image name -> path, and messages on the names that lead out of the folder."""
    paths, outside = {}, []
    for name, place in places.items():
        try:
            paths[name] = inside(root, name)
        except DataError as error:
            outside.append(_told(place, str(error)))
    return paths, outside


def _told(place: str, fault: str) -> str:
    return f"{place}: {fault}" if place else fault


def _raise_if_any(told: Sequence[str], checked: int, remedy: str) -> None:
    if told:
        head = f"{len(told):,} of {checked:,} images cannot be used:"
        raise DataError("\n".join([head, listing(told), remedy]), told)
