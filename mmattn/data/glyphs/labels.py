"""What a glyph is, from its picture alone: script, general category, case, and mark."""

from collections.abc import Callable, Sequence

from mmattn.data.glyphs.glyph_set import GlyphSet
from mmattn.data.glyphs.source import Glyphs
from mmattn.data.glyphs.store import GlyphStore
from mmattn.data.glyphs.traits import Traits, traits
from mmattn.data.labelled.example import Example, HeadSpec
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.errors import ConfigError

HEADS: dict[str, Callable[[Traits], str | None]] = {
    "script": lambda found: found.script,
    "category": lambda found: found.category,
    "case": lambda found: found.case,
    "mark": lambda found: found.mark,
}


class GlyphLabels:
    """A `LabelledSource` of the pictures of `glyphs` with one label for each head.

    A picture has no label for a head that its character has no trait of: case is of letters, mark
    of letters with one mark.

    Args:
        glyphs: the pictures, and how they are divided.
        heads: of "script", "category", "case" and "mark".

    Raises:
        ConfigError: for an unknown head, or none.
    """

    def __init__(self, glyphs: Glyphs, heads: Sequence[str] = ("script", "category", "case")):
        unknown = [head for head in heads if head not in HEADS]
        if unknown or not heads:
            raise ConfigError(f"heads is {list(heads)}; choose of {', '.join(HEADS)}")
        self.glyphs, self.heads = glyphs, tuple(heads)

    def splits(self) -> LabelledSplits:
        """Draw and label all pictures. Raises `ConfigError` or `DataError`."""
        found = self.glyphs.splits()
        store = GlyphStore(found.train, found.val, *found.test.values())  # type: ignore[arg-type]

        def label(dataset: GlyphSet) -> LabelledSet:
            return LabelledSet([self._example(dataset, i) for i in range(len(dataset))], store)

        return LabelledSplits(
            train=label(found.train),  # type: ignore[arg-type]
            val=label(found.val),  # type: ignore[arg-type]
            test={name: label(each) for name, each in found.test.items()},  # type: ignore[arg-type]
            heads={head: HeadSpec("single", open=True) for head in self.heads},
            notes=found.notes,
        )

    def _example(self, dataset: GlyphSet, index: int) -> Example:
        own, key = traits(dataset.character(index)), dataset.key(index)
        labels = {head: HEADS[head](own) for head in self.heads}
        known = {head: label for head, label in labels.items() if label is not None}
        return Example(key=key, labels=known, images=(key,), place=key)
