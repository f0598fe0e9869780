"""Teacher forcing: every token is predicted from the image and from the true tokens before it."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.errors import ConfigError


class CaptionLoss(NamedTuple):
    """The loss of a batch, and what is logged of it besides, by its name below train/."""

    loss: Float[Tensor, ""]
    figures: dict[str, Tensor]


@dataclass(frozen=True)
class CrossEntropy:
    """The mean cross-entropy over the real tokens of a batch.

    Attributes:
        label_smoothing: share of the target's probability spread over all tokens (Szegedy et al.
            2016).

    Raises:
        ConfigError: for a share that is none.
    """

    label_smoothing: float = 0.0

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"task.cross_entropy.label_smoothing={self.label_smoothing} is a share, from 0 to "
                "below 1"
            )

    def __call__(self, model: Captioner, image: ImageTokens, batch: CaptionBatch) -> CaptionLoss:
        """Return the loss of the captions of encoded images."""
        hidden = model.decode(image, batch.tokens)
        logits, targets = model.logits(hidden[batch.valid]), batch.labels[batch.valid]
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        accuracy = (logits.detach().argmax(-1) == targets).float().mean()
        return CaptionLoss(loss, {"token_accuracy": accuracy})
