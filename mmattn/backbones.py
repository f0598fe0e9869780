"""Any timm model as patch embedding, through its feature map."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

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
    backbone) and `embed` (what learns in any case) can run apart, so that the features of a frozen
    backbone can be kept.

    Of several levels the map is the channels of all, on the grid of the coarsest: finer ones are
    averaged to it. What late levels have given up for their classes, such as colour, is kept so.

    Args:
        name: timm's name of the backbone.
        dim: output width D.
        image_size: (height, width) with which the backbone's channels and reduction are found.
        level: which of the backbone's feature levels, or several; -1 is the last, "final" what
            `forward_features` returns.
        level_norm: normalise the channels of each level at each place before they are projected;
            the numbers of two levels are of different sizes.
        channel_dropout: probability of dropping a channel of an image's map, whole, in training
            (spatial dropout, Tompson et al. 2015).
        pretrained: see `create_timm_model`.
        frozen: keep the backbone as it is: no gradient, and always in evaluation mode.
        options: further arguments of `timm.create_model`.

    Raises:
        ValueError: for a backbone without such levels, and a probability that is none.
    """

    def __init__(
        self,
        name: str,
        dim: int,
        image_size: Sequence[int],
        *,
        level: int | str | Sequence[int | str] = -1,
        level_norm: bool = False,
        channel_dropout: float = 0.0,
        pretrained: bool | str = False,
        frozen: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.dim, self.level, self.level_norm, self.frozen = dim, level, level_norm, frozen
        self.channel_dropout = channel_dropout
        self.name, self.image_size, self.options = name, image_size, dict(options or {})
        if not 0 <= channel_dropout < 1:
            raise ValueError(f"channel_dropout={channel_dropout}: give 0 or more, and less than 1")
        backbone = create_timm_model(name, pretrained, options)
        backbone.reset_classifier(0)
        if not self._levels:
            raise ValueError("level=[]: name at least one of the backbone's feature levels")
        if self._levels != ["final"] and not hasattr(backbone, "forward_intermediates"):
            raise ValueError(f"{name} has no feature levels in timm; use level: final")
        self.backbone: Any = backbone.requires_grad_(not frozen)
        size = (image_size[0], image_size[1])
        self._channels, grid = self._probe(size)
        self._grids = {size: grid}
        self.project = nn.Conv2d(sum(self._channels), dim, 1)

    def _probe(self, size: tuple[int, int]) -> tuple[list[int], tuple[int, int]]:
        """Return each level's channels, and the grid of an image of (height, width)."""
        training = self.backbone.training
        self.backbone.eval()
        with torch.no_grad():
            black = next(self.backbone.parameters()).new_zeros(1, 3, *size)
            maps = self._maps(black)
        self.backbone.train(training and not self.frozen)
        return [map.shape[1] for map in maps], coarsest(maps)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the feature map of an image of (height, width)."""
        if size not in self._grids:
            self._grids[size] = self._probe(size)[1]
        return self._grids[size]

    def train(self, mode: bool = True) -> "TimmPatches":
        """Switch to training or evaluation; a frozen backbone stays in evaluation."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F h w"]:
        """Return the backbone's feature map."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self._maps(images)
            if len(maps) == 1:
                return maps[0]
            grid = coarsest(maps)
            return torch.cat([F.adaptive_avg_pool2d(map, grid) for map in maps], 1)

    def _maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of all levels that are wanted, early ones first."""
        indices = sorted({self._index(level) for level in self._levels if level != "final"})
        final = "final" in self._levels
        if not indices:
            return [self._as_map(self.backbone.forward_features(images))]
        found = self.backbone.forward_intermediates(
            images, indices=indices, intermediates_only=not final, output_fmt="NCHW"
        )
        return [*found[1], self._as_map(found[0])] if final else list(found)

    def _as_map(self, features: Tensor) -> Float[Tensor, "B F h w"]:
        """Return what `forward_features` has returned. Raises ValueError where that is tokens."""
        if features.dim() != 4:
            raise ValueError("level: final gives tokens, not a map; use a level by number")
        channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if channels_last else features

    @property
    def _levels(self) -> list[int | str]:
        return [self.level] if isinstance(self.level, (int, str)) else list(self.level)

    def _index(self, level: int | str) -> int:
        levels = len(self.backbone.feature_info)
        index = int(level)
        if not -levels <= index < levels:
            raise ValueError(f"level={index}, but the backbone has {levels} feature levels")
        return index % levels

    def embed(self, features: Float[Tensor, "B F h w"]) -> Float[Tensor, "B D h w"]:
        """Embed a feature map of the backbone."""
        if self.level_norm:
            each = features.permute(0, 2, 3, 1).split(self._channels, -1)
            normal = torch.cat([F.layer_norm(one, one.shape[-1:]) for one in each], -1)
            features = normal.permute(0, 3, 1, 2)
        if self.training and self.channel_dropout:
            features = F.dropout2d(features, self.channel_dropout)
        return self.project(features)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Embed the image."""
        return self.embed(self.features(images))

    def makes_the_features_of(self, other: nn.Module) -> bool:
        """Return whether both have one frozen backbone, so that they embed the same features."""
        if not (isinstance(other, TimmPatches) and self.frozen and other.frozen):
            return False
        made_by = [(one.name, list(map(str, one._levels)), one.options) for one in (self, other)]
        own, its = self.backbone.state_dict(), other.backbone.state_dict()
        return made_by[0] == made_by[1] and all(
            torch.equal(value, its[name].to(value)) for name, value in own.items()
        )

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments; where weights came from is not kept."""
        return {
            "name": self.name,
            "dim": self.dim,
            "image_size": list(self.image_size),
            "level": self.level if isinstance(self.level, (int, str)) else list(self.level),
            "level_norm": self.level_norm,
            "channel_dropout": self.channel_dropout,
            "pretrained": False,
            "frozen": self.frozen,
            "options": self.options,
        }


def coarsest(maps: Sequence[Tensor]) -> tuple[int, int]:
    """Return the (rows, columns) of the map with the fewest."""
    rows, columns = min((map.shape[-2:] for map in maps), key=lambda size: size[0] * size[1])
    return rows, columns
