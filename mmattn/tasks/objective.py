"""What a joint model learns: how much each of three losses counts, and which kinds they are."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mmattn.errors import ConfigError
from mmattn.joint import JointModel
from mmattn.tasks.contrastive import KINDS


@dataclass(frozen=True)
class Objective:
    """The weighted sum of three losses.

    Attributes:
        captioning: weight of the captions' cross-entropy.
        contrastive: weight of the contrastive loss, over the batches of all ranks together.
        matching: weight of the matching loss, with negatives of this rank's batch.
        contrastive_loss: "softmax" (CLIP) or "sigmoid" (SigLIP).
        hard_negatives: the share of the matching loss's negatives that are drawn the more often the
            more similar they are; the others are drawn evenly.

    Raises:
        ConfigError: for weights that are negative or all 0, another kind of loss, and no share.
    """

    captioning: float = 1.0
    contrastive: float = 1.0
    matching: float = 1.0
    contrastive_loss: str = "softmax"
    hard_negatives: float = 0.5

    def __post_init__(self):
        weights = self.weights.values()
        if min(weights) < 0 or not any(weights):
            raise ConfigError(
                "task.objective: captioning, contrastive and matching are "
                f"{', '.join(f'{weight:g}' for weight in weights)}: none may be negative, and one "
                "must be above 0"
            )
        if self.contrastive_loss not in KINDS:
            raise ConfigError(
                f"task.objective.contrastive_loss is {self.contrastive_loss!r}; choose "
                f"{' or '.join(KINDS)}"
            )
        if not 0 <= self.hard_negatives <= 1:
            raise ConfigError(
                f"task.objective.hard_negatives={self.hard_negatives} is a share, from 0 to 1"
            )

    @property
    def weights(self) -> Mapping[str, float]:
        """The losses by their names in logs, and their weights."""
        return {
            "caption": self.captioning,
            "contrastive": self.contrastive,
            "matching": self.matching,
        }

    @property
    def compares(self) -> bool:
        """Whether images and texts are compared at all."""
        return bool(self.contrastive or self.matching)

    def check(self, model: JointModel) -> None:
        """Raise ConfigError for a model that cannot learn this."""
        if self.matching and model.matcher is None:
            raise ConfigError(
                "task.objective.matching needs a fusion of image and text: set model/fusion=cross, "
                "or task.objective.matching=0"
            )
        if (self.contrastive_loss == "sigmoid") != (model.logit_bias is not None):
            raise ConfigError(
                "the sigmoid loss learns a bias, and softmax has no use for one: set "
                "model.bias=-10 with task.objective.contrastive_loss=sigmoid, and model.bias=null "
                "with softmax"
            )

    def idle_parts(self, model: JointModel) -> list[nn.Module | nn.Parameter]:
        """Return the parts of a model that no loss with a weight is about."""
        parts: dict[str, list[nn.Module | nn.Parameter | None]] = {
            "caption": [model.text, model.bridge],
            "contrastive": [
                *(model.image_projection, model.text_projection),
                *(model.log_scale, model.logit_bias),
            ],
            "matching": []
            if model.matcher is None
            else [model.fusion, model.image_bridge, model.text_bridge, model.match_head],
        }
        idle = [part for name, own in parts.items() if not self.weights[name] for part in own]
        if not self.compares:
            idle.append(model.text_encoder)
        return [part for part in idle if part is not None]
