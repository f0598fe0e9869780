"""R-Drop: two passes with different dropout must say the same (Liang et al. 2021)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.captioner import Captioner
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class RDrop:
    """Adds to the mean loss of two passes how far their predictions are apart.

    Both passes are the decoder's, over one encoding of the image: the loss is half of the paper's
    equation 4, the mean cross-entropy and α/2 · ½ (KL(p1 ‖ p2) + KL(p2 ‖ p1)) for each token.

    Attributes:
        alpha: how much that counts; the paper has 1 to 5.

    Raises:
        ConfigError: for a weight that is not above 0.
    """

    alpha: float

    def __post_init__(self):
        if self.alpha <= 0:
            raise ConfigError(f"task.cross_entropy.r_drop.alpha={self.alpha} must be above 0")

    def check(self, model: Captioner) -> None:
        """Raise ConfigError for a decoder without dropout: both passes would be the same."""
        block = model.text.block_options
        if not (block.dropout or block.attention_dropout or block.drop_path):
            raise ConfigError(
                "task.cross_entropy.r_drop compares two passes with different dropout, and the "
                "decoder has none: set ++model.text.block.dropout=0.1"
            )

    def losses(self, one: Float[Tensor, "R V"], other: Float[Tensor, "R V"]) -> Float[Tensor, "R"]:
        """Return what is added to the loss of each token, of the logits of both passes."""
        return self.alpha / 2 * divergence(one, other)


def divergence(one: Float[Tensor, "R V"], other: Float[Tensor, "R V"]) -> Float[Tensor, "R"]:
    """Return the mean of the two Kullback-Leibler divergences between two rows of logits."""
    log_p, log_q = F.log_softmax(one.float(), -1), F.log_softmax(other.float(), -1)
    # KL(p ‖ q) + KL(q ‖ p) = Σ (p - q)(log p - log q)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1) / 2
