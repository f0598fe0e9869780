"""Where the images of labelled examples come from: a folder, or a set of another library."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmattn.data.images import inside, read_image


@dataclass(frozen=True)
class FolderStore:
    """Image files by their path below a folder."""

    root: Path

    def image(self, name: str) -> Tensor:
        """Read an image. Raises `DataError` for a name that leaves the folder, or a bad file."""
        return read_image(self.path(name))

    def path(self, name: str) -> Path:
        """Return an image's file. Raises `DataError` for a name that leaves the folder."""
        return inside(self.root, name)
