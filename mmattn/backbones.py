"""Any timm model as patch embedding, through its feature map."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.patches import PatchEmbedding
from mmattn.weights import load_exactly, read_state_dict


def create_timm_model(
    name: str, pretrained: bool | str = False, options: Mapping[str, Any] | None = None
) -> Any:
    """Build a timm model (typed Any: what timm's models have in common is not written down).

    Args:
        name: timm's name of the architecture.
        pretrained: False for random weights, True for the weights timm downloads for this name, or
            the path of a local file that holds them.
        options: further arguments of `timm.create_model`.

    Raises:
        ValueError: for a name timm does not know, with the nearest ones.
        CheckpointError: where a local file does not fit.
    """
    import timm  # two seconds; only where it is used

    if not timm.is_model(name):
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(name, timm.list_models(), 3)) or "none"
        raise ValueError(f"timm has no model {name!r}; nearest: {near}")
    model = timm.create_model(name, pretrained=pretrained is True, **(options or {}))
    if isinstance(pretrained, str):
        load_exactly(model, read_state_dict(pretrained), pretrained)
    return model


class TimmPatches(PatchEmbedding):
    """The feature map of a timm backbone, projected to the model width by a 1x1 convolution.

    Works for convolutional and hierarchical backbones, and for plain ones. `features` (the
    backbone) and `project` can run apart, so that the features of a frozen backbone can be kept.

    Args:
        name: timm's name of the backbone.
        dim: output width D.
        image_size: (height, width) with which the backbone's channels and reduction are found.
        level: which of the backbone's feature levels; -1 is the last, "final" what
            `forward_features` returns.
        pretrained: see `create_timm_model`.
        frozen: keep the backbone as it is: no gradient, and always in evaluation mode.
        options: further arguments of `timm.create_model`.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        image_size: Sequence[int],
        *,
        level: int | str = -1,
        pretrained: bool | str = False,
        frozen: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.dim, self.level, self.frozen = dim, level, frozen
        self.name, self.image_size, self.options = name, image_size, dict(options or {})
        backbone = create_timm_model(name, pretrained, options)
        backbone.reset_classifier(0)
        if level != "final" and not hasattr(backbone, "forward_intermediates"):
            raise ValueError(f"{name} has no feature levels in timm; use level: final")
        self.backbone: Any = backbone.requires_grad_(not frozen)
        size = (image_size[0], image_size[1])
        self._grids = {size: self._probe(size)}
        channels = self._grids[size][0]
        self.project = nn.Conv2d(channels, dim, 1)

    def _probe(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Return (channels, rows, columns) of the feature map of an image of (height, width)."""
        training = self.backbone.training
        self.backbone.eval()
        with torch.no_grad():
            black = next(self.backbone.parameters()).new_zeros(1, 3, *size)
            _, channels, rows, columns = self._features(black).shape
        self.backbone.train(training and not self.frozen)
        return channels, rows, columns

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the feature map of an image of (height, width)."""
        if size not in self._grids:
            self._grids[size] = self._probe(size)
        return self._grids[size][1:]

    def train(self, mode: bool = True) -> "TimmPatches":
        """Switch to training or evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F h w"]:
        """Return the backbone's feature map."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self._features(images)

    def _features(self, images: Tensor) -> Tensor:
        if self.level == "final":
            features = self.backbone.forward_features(images)
            if features.dim() != 4:
                raise ValueError("level: final gives tokens, not a map; use a level by number")
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            return features.permute(0, 3, 1, 2) if channels_last else features
        return self.backbone.forward_intermediates(
            images, indices=[self._index()], intermediates_only=True, output_fmt="NCHW"
        )[0]

    def _index(self) -> int:
        levels = len(self.backbone.feature_info)
        index = int(self.level)
        if not -levels <= index < levels:
            raise ValueError(f"level={index}, but the backbone has {levels} feature levels")
        return index % levels

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Embed the image."""
        return self.project(self.features(images))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments; where weights came from is not kept."""
        return {
            "name": self.name,
            "dim": self.dim,
            "image_size": list(self.image_size),
            "level": self.level,
            "pretrained": False,
            "frozen": self.frozen,
            "options": self.options,
        }
