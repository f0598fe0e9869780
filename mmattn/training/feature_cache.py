"""The features of a frozen backbone, computed once and kept on disk."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from mmattn.backbones import TimmPatches
from mmattn.data.augment import keyed_rng
from mmattn.data.bad_samples import shown
from mmattn.data.dataset import CaptionDataset
from mmattn.data.image_cache import Stamp, fingerprint, stamp
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, DataError, ReadError
from mmattn.patches import PatchEmbedding

log = logging.getLogger(__name__)
Transform = Callable[[Tensor], Tensor]


class FeatureSet:
    """A set of captioned images whose `image` is the image's frozen features [F, h, w], float32.

    Of a set with several views of each image it is all of them, [V, F, h, w], float16: `drawn_view`
    takes one of them. An image that could not be read when its features were to be kept is asked of
    the set itself, which raises as it always does.

    Args:
        dataset: the images.
        path: the file of their features (see `FeatureCache`).

    Attributes:
        unreadable: the images that have no features, by index.
    """

    def __init__(self, dataset: CaptionDataset, path: Path):
        self._dataset, self._path = dataset, path
        self.unreadable = _unreadable(path)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapping out: each process makes its own, and sends no features to others."""
        return {name: value for name, value in self.__dict__.items() if name != "_features"}

    def key(self, index: int) -> str:
        """Return the image's name."""
        return self._dataset.key(index)

    def captions(self, index: int) -> tuple[str, ...]:
        """Return the image's captions."""
        return self._dataset.captions(index)

    def image(self, index: int) -> Tensor:
        """Return the image's features. Raises `DataError` if it was unreadable."""
        if index in self.unreadable:
            self._dataset.image(index)
            raise DataError(
                f"{self.key(index)} could not be read when the features in {self._path} were made, "
                "and can be now: delete that file to have them made anew"
            )
        features = self._features[index]
        several = features.ndim == 4
        return torch.from_numpy(features if several else features.astype(np.float32))

    @cached_property
    def _features(self) -> np.ndarray:
        # "c": not to be written to, but torch warns of what cannot be.
        return np.load(self._path, mmap_mode="c")


def drawn_view(views: Float[Tensor, "V F h w"]) -> Float[Tensor, "F h w"]:
    """Return one of an image's views, float32, drawn from torch's global generator."""
    return views[int(torch.randint(len(views), ()))].float()


class FeatureCache:
    """Keeps the float16 features of whole data sets as .npy files that are mapped into memory.

    A file has one array, [images, F, h, w], and behind it, where some images could not be read, a
    second one of their indices; what stands in the first one for these is nothing. Of augmented
    images it keeps several views, [images, V, F, h, w], from which each epoch draws one: what an
    epoch sees follows the run's seed, what there is to see is the same in every run. Mirrored, they
    are 2 V.

    A file's name is a hash of everything that the features depend on: the backbone's weights and
    settings, the transform, and the images' names, file times and sizes. So a changed encoder,
    transform or photo never meets old features. A photo whose content was changed with its time and
    size kept is not noticed: delete the cache then.

    Args:
        folder: where the files lie.
        backbone: a frozen backbone.
        transform: uint8 [3, h, w] -> float [3, height, width], without randomness.
        batch_size: images encoded at once, each copy being one; all copies of an image are.
        device: where the backbone runs.
        augmentation: what the views of an image are made by; may draw from torch's global
            generator and from no other.
        views: V, how many such copies of each image `augmented` keeps; with 0 the image as it is
            tested.
        mirrored: `augmented` keeps each of them both ways round.

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
        augmentation: Transform | None = None,
        views: int = 0,
        mirrored: bool = False,
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
        self.augmentation, self.views, self.mirrored = augmentation, views, mirrored
        self._weights = _hash_weights(backbone)
        self._sets: dict[tuple[int, bool], FeatureSet] = {}

    def __call__(self, dataset: CaptionDataset) -> FeatureSet:
        """Return the set with features for images, encoding it now if no file has them.

        Raises `DataError` if none of its images can be read.
        """
        return self._set(dataset, augmented=False)

    def augmented(self, dataset: CaptionDataset) -> FeatureSet:
        """Return the set with the features of `views` copies of each image, or twice as many."""
        return self._set(dataset, augmented=True)

    def _set(self, dataset: CaptionDataset, augmented: bool) -> FeatureSet:
        which = id(dataset), augmented
        if which not in self._sets:
            path = self.folder / f"{self._fingerprint(dataset, augmented)}.npy"
            if not path.is_file():
                self._write(path, dataset, augmented)
            self._sets[which] = FeatureSet(dataset, path)
        return self._sets[which]

    def _fingerprint(self, dataset: CaptionDataset, augmented: bool) -> str:
        views = self.views if augmented else 0
        made_by = [repr(self.augmentation), views] if views else [repr(self.transform)]
        made_by += ["mirrored"] if augmented and self.mirrored else []
        return fingerprint([self._weights, str(self.backbone.level), *made_by], dataset, _stamp)

    def _write(self, path: Path, dataset: CaptionDataset, augmented: bool) -> None:
        """Encode the whole set; the file gets its name when it is complete.

        Processes of one run may do so at the same time, each under a name of its own.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._encode_all(unfinished, dataset, augmented)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        log.info("kept the features of %d images in %s", len(dataset), path)

    def _encode_all(self, path: Path, dataset: CaptionDataset, augmented: bool) -> None:
        at_once = max(1, self.batch_size // (self._copies_of_each if augmented else 1))
        starts = range(0, len(dataset), at_once)
        features, faults = None, {}
        for start in track(starts, description=f"encoding {len(dataset)} images", transient=True):
            part = range(start, min(start + at_once, len(dataset)))
            images = _readable(dataset, part, faults)
            if not images:
                continue
            named = {dataset.key(index): image for index, image in images.items()}
            batch = self._encode(named, augmented)
            if features is None:
                shape = (len(dataset), *batch.shape[1:])
                features = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            features[list(images)] = batch
        if features is None:
            raise DataError(
                f"no image of {len(dataset)} can be read, as the first one: {faults[0]}"
            )
        features.flush()
        if faults:
            _append_unreadable(path, faults, len(dataset))

    @torch.inference_mode()
    def _encode(self, images: Mapping[str, Tensor], augmented: bool) -> np.ndarray:
        """Encode images by their names: [images, F, h, w], or [images, copies, F, h, w]."""
        if augmented:
            made = [copy for each in images.items() for copy in self._copies(*each)]
        else:
            made = [self.transform(image) for image in images.values()]
        batch = torch.stack(made).to(self.device, memory_format=torch.channels_last)
        found = self.backbone.features(batch).half()
        if augmented:
            found = found.unflatten(0, (len(images), -1))
        return found.cpu().numpy()

    @property
    def _copies_of_each(self) -> int:
        return max(1, self.views) * (2 if self.mirrored else 1)

    def _copies(self, name: str, image: Tensor) -> Iterator[Tensor]:
        for copy in self._views(name, image) if self.views else [self.transform(image)]:
            yield copy
            if self.mirrored:
                yield copy.flip(-1)

    def _views(self, name: str, image: Tensor) -> Iterator[Tensor]:
        assert self.augmentation is not None
        with keyed_rng() as reseed:
            for view in range(self.views):
                reseed(stable_hash(name, view, "view"))
                yield self.augmentation(image)


def _readable(
    dataset: CaptionDataset, part: Iterable[int], faults: dict[int, str]
) -> dict[int, Tensor]:
    """Return those images of a part of a set that can be read; note what is wrong with others."""
    images = {}
    for index in part:
        try:
            images[index] = dataset.image(index)
        except ReadError:
            raise
        except DataError as error:
            faults[index] = shown(str(error))  # not the error, which would keep the images
    return images


def _append_unreadable(path: Path, faults: dict[int, str], length: int) -> None:
    """Write behind the features of images which of them have none."""
    with path.open("ab") as file:
        np.save(file, np.array(sorted(faults), np.int64), allow_pickle=False)
    numbers = f"{len(faults)} of {length} images"
    log.warning("%s cannot be read and have no features: %s", numbers, faults[min(faults)])


def _unreadable(path: Path) -> frozenset[int]:
    """Return which images have no features in a file."""
    features = np.load(path, mmap_mode="r")
    with path.open("rb") as file:
        file.seek(features.offset + features.nbytes)
        try:
            return frozenset(np.load(file, allow_pickle=False).tolist())
        except EOFError:  # the file ends with the features: all have them
            return frozenset()


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
