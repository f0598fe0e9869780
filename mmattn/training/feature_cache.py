"""The features of a frozen backbone, computed once and kept on disk."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from mmattn.backbones import TimmPatches
from mmattn.data.dataset import CaptionDataset
from mmattn.data.image_cache import Stamp, fingerprint, stamp
from mmattn.errors import ConfigError
from mmattn.patches import PatchEmbedding

log = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]


class FeatureSet:
    """A set of captioned images whose `image` is the image's frozen features [F, h, w], float32."""

    def __init__(self, dataset: CaptionDataset, features: np.ndarray):
        self._dataset, self._features = dataset, features

    def __len__(self) -> int:
        return len(self._dataset)

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self._dataset.key(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the image's captions."""
        return self._dataset.captions(index)

    def image(self, index: int) -> Tensor:
        """Return the image's features."""
        return torch.from_numpy(self._features[index].astype(np.float32))


class FeatureCache:
    """Keeps the float16 features of whole data sets as .npy files that are mapped into memory.

    A file's name is a hash of everything that the features depend on: the backbone's weights and
    settings, the transform, and the images' names, file times and sizes. So a changed encoder,
    transform or photo never meets old features. A photo whose content was changed with its time and
    size kept is not noticed: delete the cache then.

    Args:
        folder: where the files lie.
        backbone: a frozen backbone.
        transform: uint8 [3, h, w] -> float [3, height, width], without randomness.
        batch_size: images encoded at once.
        device: where the backbone runs.

    Raises:
        ConfigError: for a backbone that is not frozen: its features would change.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: PatchEmbedding,
        transform: Transform,
        *,
        batch_size: int,
        device: torch.device,
    ):
        if not isinstance(backbone, TimmPatches) or not backbone.frozen:
            raise ConfigError(
                "feature_cache keeps the features of a frozen backbone: choose a model.vision "
                "whose patches are a TimmPatches with frozen: true, or set feature_cache=null"
            )
        self.folder, self.backbone, self.transform = Path(folder), backbone, transform
        # Channels last: convolutions of a CPU and of tensor cores are faster so. Only the frozen
        # part, and not under inference mode: what learns must stay an ordinary tensor.
        backbone.backbone.to(device=device, memory_format=torch.channels_last)
        self.batch_size, self.device = batch_size, device
        self._weights = _hash_weights(backbone)
        self._sets: dict[int, FeatureSet] = {}

    def __call__(self, dataset: CaptionDataset) -> FeatureSet:
        """Return the set with features for images, encoding it now if no file has them."""
        if id(dataset) not in self._sets:
            self._sets[id(dataset)] = FeatureSet(dataset, self._load(dataset))
        return self._sets[id(dataset)]

    def _load(self, dataset: CaptionDataset) -> np.ndarray:
        path = self.folder / f"{self._fingerprint(dataset)}.npy"
        if not path.is_file():
            self._write(path, dataset)
        return np.load(path, mmap_mode="r")

    def _fingerprint(self, dataset: CaptionDataset) -> str:
        parts = [self._weights, str(self.backbone.level), repr(self.transform)]
        return fingerprint(parts, dataset, _stamp)

    def _write(self, path: Path, dataset: CaptionDataset) -> None:
        """Encode the whole set; the file gets its name when it is complete.

        Processes of one run may do so at the same time, each under a name of its own.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._encode_all(unfinished, dataset)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        log.info("kept the features of %d images in %s", len(dataset), path)

    def _encode_all(self, path: Path, dataset: CaptionDataset) -> None:
        starts = range(0, len(dataset), self.batch_size)
        features = None
        for start in track(starts, description=f"encoding {len(dataset)} images", transient=True):
            stop = min(start + self.batch_size, len(dataset))
            batch = self._encode([dataset.image(i) for i in range(start, stop)])
            if features is None:
                shape = (len(dataset), *batch.shape[1:])
                features = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            features[start:stop] = batch
        assert features is not None
        features.flush()

    @torch.inference_mode()
    def _encode(self, images: list[Tensor]) -> np.ndarray:
        batch = torch.stack([self.transform(image) for image in images])
        batch = batch.to(self.device, memory_format=torch.channels_last)
        return self.backbone.features(batch).half().cpu().numpy()


def _hash_weights(backbone: TimmPatches) -> str:
    digest = hashlib.sha256()
    for name, value in backbone.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _stamp(dataset: CaptionDataset, index: int) -> Stamp:
    """Return the time and size of an image's file; nothing where images are not files."""
    there = hasattr(dataset, "stamp") or hasattr(dataset, "path")
    return stamp(dataset, index) if there else []
