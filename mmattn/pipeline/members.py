"""What ensembles of every kind share: they move as their members do, and own nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from mmattn.errors import ConfigError
from mmattn.pipeline.loaded import Loaded

M = TypeVar("M", bound="Members")


class Members(Loaded[Any]):
    """The part of an ensemble that is about its `members`; stands before its kind of pipeline."""

    members: Sequence[Any]

    def to(
        self: M, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> M:
        """Move every member to a device or a type, in place; return self."""
        for member in self.members:
            member.to(device, dtype)
        self.device = self.members[0].device
        return self

    def embed(self, *inputs: Any, **settings: Any) -> NoReturn:
        """Raise ConfigError: each member has vectors of its own."""
        raise ConfigError("an ensemble has no vectors of its own: embed with one of its members")

    def save(self, folder: str | Path, **settings: Any) -> NoReturn:
        """Raise ConfigError: the folders of its members are what an ensemble is made of."""
        raise ConfigError(
            "an ensemble has no folder of its own: save each of its members, or average the "
            "weights of models that were trained from one (mmattn average)"
        )

    def push_to_hub(self, repo_id: str, **settings: Any) -> NoReturn:
        """Raise ConfigError: as `save`."""
        raise ConfigError("an ensemble has no folder of its own: upload each of its members")
