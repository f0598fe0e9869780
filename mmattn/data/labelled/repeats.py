"""Examples that occur twice: in one split, in two, or with labels that contradict each other."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mmattn.data.findings import SHARED, some
from mmattn.data.labelled.example import Example


def repeat_notes(examples: Mapping[str, Sequence[Example]]) -> list[str]:
    """Return notes on inputs (images and text) that occur more than once; nothing is left out.

    Args:
        examples: split -> examples. Test sets ("test/NAME") may share examples with each other.
    """
    seen: dict[object, list[tuple[str, Example]]] = defaultdict(list)
    for split, rows in examples.items():
        for example in rows:
            seen[example.images, example.text].append((split, example))
    leaks, repeats, contradictions = [], [], []
    for found in (found for found in seen.values() if len(found) > 1):
        same = " = ".join(f"{example.key} ({split})" for split, example in found[:4])
        (leaks if _leaks(split for split, _ in found) else repeats).append(same)
        if _contradict([example for _, example in found]):
            contradictions.append(same)
    kinds = {
        "Leak: the same input in different splits": leaks,
        "The same input more than once in a split, kept": repeats,
        "The same input with different labels, kept": contradictions,
    }
    return [f"{kind}: {some(found)}" for kind, found in kinds.items() if found]


def shared_images(examples: Mapping[str, Sequence[Example]]) -> list[str]:
    """Return a note on images that examples of different splits have, whatever their texts."""
    splits: dict[str, dict[str, None]] = defaultdict(dict)
    for split, rows in examples.items():
        for example in rows:
            for name in example.images:
                splits[name][split] = None
    shared = [f"{name} ({', '.join(found)})" for name, found in splits.items() if _leaks(found)]
    return [f"{SHARED}: {some(shared)}"] if shared else []


def _leaks(splits) -> bool:
    kinds = {split.partition("/")[0] for split in splits}
    return len(kinds) > 1


def _contradict(examples: Sequence[Example]) -> bool:
    """Return whether two of the examples give a head different labels."""
    heads = {head for example in examples for head in example.labels}
    for head in heads:
        labels = [example.labels[head] for example in examples if head in example.labels]
        if any(label != labels[0] for label in labels):
            return True
    return False
