"""What every loaded model has: a device, a type, and a folder that it can be written to."""

from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from mmattn.bundle import Bundle, ClassifierBundle

B = TypeVar("B", bound=Bundle | ClassifierBundle)
L = TypeVar("L", bound="Loaded[Any]")


class Loaded(Generic[B]):
    """A model with all that it needs, in evaluation mode; no weight asks for a gradient.

    Args:
        bundle: what it consists of.
        device: where it computes.
    """

    def __init__(self, bundle: B, device: torch.device | str = "cpu"):
        self.bundle, self.device = bundle, torch.device(device)
        bundle.model.eval().requires_grad_(False).to(self.device)

    def __repr__(self) -> str:
        total = sum(parameter.numel() for parameter in self.bundle.model.parameters())
        kind, name = str(self.dtype).removeprefix("torch."), type(self).__name__
        return f"{name}({self.bundle.source!r}, {total:,} parameters, {kind} on {self.device})"

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.bundle.model.parameters()).dtype

    def to(
        self: L, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> L:
        """Move the model to a device or a type such as torch.bfloat16, in place; return self."""
        self.device = self.device if device is None else torch.device(device)
        self.bundle.model.to(device=self.device, dtype=dtype)
        return self

    def save(self, folder: str | Path, **settings: Any) -> Path:
        """Write the model folder that `mmattn.load` reads; see `write_folder` for the settings."""
        from mmattn.model_folder.format import write_folder

        write_folder(self.bundle, folder, **settings)
        return Path(folder)

    def push_to_hub(self, repo_id: str, **settings: Any) -> str:
        """Upload the model folder to the Hugging Face hub; see `push_to_hub` for the settings."""
        from tempfile import TemporaryDirectory

        from mmattn.model_folder.hub import push_to_hub

        with TemporaryDirectory() as scratch:
            return push_to_hub(self.save(Path(scratch) / "model"), repo_id, **settings)
