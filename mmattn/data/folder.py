"""The images of any folder, without captions: a user's own pictures."""

from pathlib import Path

from torch import Tensor

from mmattn.data.images import inside, read_image
from mmattn.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


class ImageFolder:
    """A `CaptionDataset` of all images below a folder, in the order of their names.

    Links that lead out of the folder are not followed.

    Args:
        root: the folder.

    Raises:
        DataError: where there is no such folder, or no image in it.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder: name one that holds images")
        self._names = sorted(
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file() and self._holds(path)
        )
        if not self._names:
            raise DataError(f"{self.root} holds no image ({', '.join(sorted(SUFFIXES))})")

    def _holds(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.root.resolve())

    def __len__(self) -> int:
        return len(self._names)

    def key(self, index: int) -> str:
        """Return the file's path below the folder."""
        return self._names[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """Return no caption: nothing is known of these images."""
        return ()

    def path(self, index: int) -> Path:
        """Return the image's file."""
        return inside(self.root, self._names[index])

    def image(self, index: int) -> Tensor:
        """Return the image as uint8 RGB [3, height, width]. Raises `DataError` if unreadable."""
        return read_image(self.path(index))
