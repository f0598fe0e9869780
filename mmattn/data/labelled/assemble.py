"""From the examples that a reader found to the splits that it hands over, with the last checks."""

from collections.abc import Mapping, Sequence
from itertools import chain

from mmattn.data.findings import identical_files, some
from mmattn.data.images import inside
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.image_files import with_sound_images
from mmattn.data.labelled.repeats import repeat_notes, shared_images
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.data.labelled.stores import FolderStore
from mmattn.data.problems import Gathered
from mmattn.errors import DataError


def assemble(
    examples: Mapping[str, Sequence[Example]],
    heads: Mapping[str, HeadSpec],
    store: FolderStore,
    notes: Sequence[str] = (),
    gathered: Gathered | None = None,
    *,
    leave_out_bad: bool = False,
) -> LabelledSplits:
    """Check the image files, look for repeats and leaks, and make the splits.

    Args:
        examples: "train", "val", and any of "test" and "test/NAME" -> examples.
        heads: head -> what it tells.
        store: the folder of the images.
        notes: what the reader has to tell.
        gathered: what was found wrong before.
        leave_out_bad: leave out examples whose image is missing or damaged, with a note.

    Raises:
        DataError: with all that is wrong, `gathered` included: such images otherwise, and a split
            without an example, with counts.
    """
    gathered = Gathered() if gathered is None else gathered
    examples = {"train": (), "val": (), **examples}
    sound, lost = with_sound_images(examples, store.root, gathered, leave_out=leave_out_bad)
    if not gathered:
        _check_filled(sound, examples, [*notes, *lost])
    told = [*notes, *lost, *repeat_notes(sound), *shared_images(sound)]
    told += _identical(sound, store) + ([] if gathered else _absent_classes(sound, heads))
    sets = {split: LabelledSet(rows, store) for split, rows in sound.items()}
    tests = {s.removeprefix("test").removeprefix("/"): sets[s] for s in sets if s[:4] == "test"}
    if not tests:
        told.append("There is no test set: nothing is tested after training")
    splits = LabelledSplits(sets["train"], sets["val"], tests, heads, tuple(told))
    gathered.raise_if_any(splits)
    return splits


def _check_filled(
    kept: Mapping[str, Sequence[Example]],
    read: Mapping[str, Sequence[Example]],
    notes: Sequence[str],
) -> None:
    """Raise `DataError` for a split that is empty: with what was read, and why it was dropped."""
    for split, rows in kept.items():
        if not rows:
            why = "".join(f"\n  {note}" for note in notes)
            raise DataError(
                f"Split {split} has no example left: {len(read[split]):,} of its examples could be "
                f"read, 0 can be used.{why}"
            )


def _identical(examples: Mapping[str, Sequence[Example]], store: FolderStore) -> list[str]:
    split_of: dict[str, str] = {}
    for split, rows in examples.items():
        for name in chain.from_iterable(example.images for example in rows):
            split_of.setdefault(name, split)
    return identical_files({name: inside(store.root, name) for name in split_of}, split_of)


def _absent_classes(
    examples: Mapping[str, Sequence[Example]], heads: Mapping[str, HeadSpec]
) -> list[str]:
    """Return notes on the classes of training that another split never shows: no error, but odd."""
    seen = {split: _classes(rows) for split, rows in examples.items()}
    notes = []
    for split in seen.keys() - {"train"}:
        for head in heads:
            absent = sorted(seen["train"].get(head, set()) - seen[split].get(head, set()))
            if absent and not heads[head].open:
                notes.append(
                    f"Split {split} has no example of these {head} classes: {some(absent)}"
                )
    return sorted(notes)


def _classes(examples: Sequence[Example]) -> dict[str, set[str]]:
    """Return head -> the names of the classes that occur."""
    found: dict[str, set[str]] = {}
    for example in examples:
        for head, label in example.labels.items():
            found.setdefault(head, set()).update([label] if isinstance(label, str) else label)
    return found
