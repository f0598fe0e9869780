"""Which characters and pictures are held out: stable under the seed, whatever Python's hash is."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from mmattn.data.glyphs.names import Composition, composition

Pair = tuple[str, str]
"""A character and the font that draws it."""


def shuffled(names: Iterable[str], seed: int) -> list[str]:
    """Return the names in an order that depends on the seed and on nothing else."""

    def rank(name: str) -> bytes:
        return blake2b(f"{seed}:{name}".encode(), digest_size=16).digest()

    return sorted(names, key=rank)


def compositions(names: Iterable[str]) -> dict[str, Composition]:
    """Return the names of the form "... with ..." and their parts."""
    parsed = {name: composition(name) for name in names}
    return {name: parts for name, parts in parsed.items() if parts}


def hold_out_compositions(names: Sequence[str], share: float, seed: int) -> set[str]:
    """Choose composed names to hold out, all of whose parts stay in training.

    At most `share` of the composed names are chosen. A chosen name's base ("latin small letter e")
    is a name of its own, and each of its parts ("acute") stays in training with another base.
    """
    composed = compositions(names)
    wanted, known = round(share * len(composed)), set(names)
    ledger = _PartLedger(composed.values())
    held: set[str] = set()
    for name in shuffled(composed, seed):
        if len(held) == wanted:
            break
        if composed[name].base in known and ledger.can_hold_out(composed[name]):
            ledger.hold_out(composed[name])
            held.add(name)
    return held


class _PartLedger:
    """For each part, the bases it still occurs with in training and those it was held out with."""

    def __init__(self, all_compositions: Iterable[Composition]):
        self._kept: dict[str, Counter[str]] = defaultdict(Counter)
        self._held: dict[str, set[str]] = defaultdict(set)
        for each in all_compositions:
            for part in each.parts:
                self._kept[part][each.base] += 1

    def can_hold_out(self, each: Composition) -> bool:
        """Tell whether every held-out use of each part would keep a training use elsewhere."""
        return all(self._part_survives(part, each) for part in set(each.parts))

    def _part_survives(self, part: str, each: Composition) -> bool:
        kept = self._kept[part] - Counter({each.base: each.parts.count(part)})
        return len(kept) > 1 or (
            len(kept) == 1 and not kept.keys() & (self._held[part] | {each.base})
        )

    def hold_out(self, each: Composition) -> None:
        """Move the composition from training to the held-out ones."""
        for part in each.parts:
            self._kept[part] -= Counter({each.base: 1})
            self._held[part].add(each.base)


def hold_out_pairs(pairs: Sequence[Pair], fraction: float, seed: int) -> set[Pair]:
    """Choose about `fraction` of the pairs such that each character stays in one pair or more."""
    by_name = {f"{font}/U+{ord(character):04X}": (character, font) for character, font in pairs}
    left = Counter(character for character, _ in pairs)
    wanted = round(fraction * len(pairs))
    held: set[Pair] = set()
    for name in shuffled(by_name, seed):
        character, _ = by_name[name]
        if len(held) < wanted and left[character] > 1:
            left[character] -= 1
            held.add(by_name[name])
    return held
