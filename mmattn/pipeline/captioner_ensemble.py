"""Several captioners as one: what each of them finds probable, averaged at every word."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmattn.bundle import Bundle
from mmattn.decoding.ensemble import Captioners
from mmattn.errors import ConfigError
from mmattn.pipeline.attention import AttentionChoice
from mmattn.pipeline.members import Members
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pipeline.writer import Writer


class CaptionerEnsemble(Members, Pipeline):
    """Several captioners of one vocabulary; `mmattn.load([A, B, C])` makes one.

    It captions as one model would whose probability of each next token is the mean of theirs, by
    greedy decoding, beams and samples alike. With attention, a caption has the layers of every
    member by its place ("model 2: text.5.cross"), each with the very weights of that member; a
    word's map is the mean of the members' last layers.

    Args:
        members: two or more, with the same tokenizer and preprocessing. `model` and `options` are
            those of the first; captions are as long as the shortest of them writes.

    Raises:
        ConfigError: for a single member, and for one that reads or sees otherwise than the first.
    """

    def __init__(self, members: Sequence[Pipeline]):
        if len(members) < 2:
            raise ConfigError(f"an ensemble has 2 models or more, and this has {len(members)}")
        first, *others = members
        for place, other in enumerate(others, 2):
            check_alike(first.bundle, other.bundle, f"model {place} of the ensemble")
        shortest = min(one.bundle.max_length for one in members)
        super().__init__(replace(first.bundle, max_length=shortest), first.device)
        self.members = tuple(members)

    def __repr__(self) -> str:
        return f"CaptionerEnsemble({', '.join(map(repr, self.members))})"

    def writer(self, attention: bool | AttentionChoice = False, **settings: Any) -> Writer:
        """Return what writes captions; arguments and errors as of `Pipeline.writer`.

        Raises:
            ConfigError: as there, and for attention of members whose maps are of different sizes.
        """
        writer = super().writer(attention, **settings)
        models = [member.model for member in self.members]
        if writer.choice is not None:
            for model in models:
                writer.choice.check(model)
            check_maps([member.bundle for member in self.members])
        return replace(writer, model=Captioners(models))

    def check_length(self, longest: int) -> None:
        """Raise ConfigError where a member has no positions for captions so long."""
        super().check_length(longest)
        for member in self.members:
            member.check_length(longest)


def check_alike(first: Bundle, other: Bundle, what: str) -> None:
    """Raise ConfigError for a model that cannot write with the first one."""
    if other.tokenizer.fingerprint != first.tokenizer.fingerprint:
        raise ConfigError(
            f"{what} has another tokenizer than the first model: only models of one vocabulary "
            "write together"
        )
    sizes = [bundle.model.text.vocab_size for bundle in (first, other)]
    if sizes[0] != sizes[1]:
        raise ConfigError(f"{what} has {sizes[1]:,} tokens, and the first model {sizes[0]:,}")
    for name, wanted in vars(first.preprocessing).items():
        found = getattr(other.preprocessing, name)
        if found != wanted:
            raise ConfigError(
                f"{what} prepares pictures otherwise than the first model: its {name} is {found}, "
                f"and the first has {wanted}"
            )


def check_maps(bundles: Sequence[Bundle]) -> None:
    """Raise ConfigError where models' attention weights do not fit into one record."""
    sizes = []
    for bundle in bundles:
        vision, text = bundle.model.vision, bundle.model.text
        sizes.append((vision.grid, vision.prefix, text.block_options.heads))
    for place, size in enumerate(sizes[1:], 2):
        if size != sizes[0]:
            (grid, prefix, heads), (own, before, mine) = sizes[0], size
            raise ConfigError(
                f"attention: model {place} of the ensemble has {mine} heads over patches {own} and "
                f"{before} prefix tokens, and the first {heads} over {grid} and {prefix}: their "
                "maps are not shown together; load one of them for it"
            )
