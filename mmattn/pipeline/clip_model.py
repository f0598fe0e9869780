"""Models that embed images and texts, to score how well they fit: a joint model, or open_clip's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import Bundle
from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import ConfigError
from mmattn.interop.open_clip.clip import read_clip
from mmattn.interop.open_clip.coca import CONFIG
from mmattn.joint import JointModel
from mmattn.model_folder.source import in_words, read_source
from mmattn.pipeline.embedder import ImageEmbedder, text_vectors

TEXTS_AT_ONCE = 64


@runtime_checkable
class ClipModel(Protocol):
    """What embeds images and texts into one space."""

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the model's input."""
        ...

    @property
    def prompt(self) -> str:
        """What belongs before every text that is scored."""
        ...

    def image_vectors(self, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of prepared pictures: float32, on the CPU, of length 1."""
        ...

    def text_vectors(self, texts: Sequence[str]) -> Float[Tensor, "R E"]:
        """Return the embeddings of texts, those that are too long cut; as of pictures."""
        ...


@dataclass(frozen=True)
class JointClip:
    """A joint model of ours as a scorer of captions.

    Attributes:
        bundle: of the joint model, in evaluation mode.
        prompt: none: it was trained on captions as they are.
    """

    bundle: Bundle
    prompt: str = ""

    @property
    def preprocessing(self) -> Preprocessing:
        """How a picture becomes the model's input."""
        return self.bundle.preprocessing

    def image_vectors(self, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of prepared pictures; see `ClipModel`."""
        return ImageEmbedder(self.bundle.model, self.preprocessing).vectors(list(pixels))

    def text_vectors(self, texts: Sequence[str]) -> Float[Tensor, "R E"]:
        """Return the embeddings of texts; see `ClipModel`."""
        bundle = self.bundle
        assert isinstance(bundle.model, JointModel)
        limits = (bundle.max_length, TEXTS_AT_ONCE)
        return text_vectors(bundle.model, bundle.tokenizer, texts, *limits)


def load_clip(
    source: str | Path, *, device: torch.device | str = "cpu", revision: str | None = None
) -> ClipModel:
    """Load what scores how well images and texts fit.

    Args:
        source: a folder of an open_clip CLIP model (open_clip_config.json and weights), or a joint
            model of ours by whatever `mmattn.load` takes.
        device: where it computes.
        revision: of the hub, of a joint model there.

    Raises:
        ConfigError: where there is no such thing, or for a model that embeds no texts.
        CheckpointError: for files that are missing, damaged, or not understood.
    """
    if (Path(source).expanduser() / CONFIG).is_file():
        return read_clip(Path(source).expanduser(), device)
    bundle = read_source(source, revision=revision)
    if not isinstance(bundle, Bundle) or not isinstance(bundle.model, JointModel):
        raise ConfigError(
            f"{source} is {in_words(bundle)}; images and texts are compared by joint models "
            "(mmattn train experiment=glyphs_joint) and by CLIP models of open_clip"
        )
    bundle.model.eval().requires_grad_(False).to(device)
    return JointClip(bundle)


def prompted(model: ClipModel, texts: Sequence[str]) -> list[str]:
    """Return texts as they are scored, behind the model's prompt."""
    return [f"{model.prompt} {text}" if model.prompt else text for text in texts]
