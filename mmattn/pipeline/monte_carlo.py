"""Monte-Carlo dropout: the same input computed many times, with other values dropped each time.

Gal and Ghahramani 2016: the passes are draws from an approximate posterior over the weights, so
that where they disagree the model does not know.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention import Attention
from mmattn.batch import LabelBatch
from mmattn.blocks import Residual
from mmattn.classifier import Classifier
from mmattn.errors import ConfigError

AT_ONCE = 32  # passes computed together, which bounds the memory; what is drawn depends on it
TORCHS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class MonteCarlo:
    """So many passes over each input, with dropout on and everything else as in evaluation.

    What is drawn depends on the seed, the model's number and the input's place, and so neither on
    the size of batches nor on what else is in one: the passes over one input are a batch, of at
    most `AT_ONCE`.

    Attributes:
        passes: S.
        seed: of all that is drawn.
        member: the number of the model in an ensemble.

    Raises:
        ConfigError: for fewer than 2 passes, or a negative seed.
    """

    passes: int
    seed: int = 0
    member: int = 0

    def __post_init__(self):
        if self.passes < 2:
            raise ConfigError(f"passes={self.passes}: what passes disagree on takes 2 or more")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: give 0 or more")

    def check(self, model: Classifier) -> None:
        """Raise ConfigError for a model that drops nothing, whose passes would all be alike."""
        if not droppers(model):
            raise ConfigError(
                f"passes={self.passes}: this model has no dropout, so all passes would say the "
                "same: train one with model.dropout=0.1, or load several models as an ensemble"
            )

    def scores(
        self, model: Classifier, batch: LabelBatch, place: int
    ) -> Mapping[str, Float[Tensor, "S ..."]]:
        """Return each head's scores of one input, in every pass.

        Args:
            model: the classifier, in evaluation mode.
            batch: copies of the input that share nothing, `AT_ONCE` or, if fewer, S of them.
            place: of the input among all.
        """
        found: dict[str, list[Tensor]] = {head: [] for head in model.heads}
        device = batch.tokens.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []), dropping(model):
            for first in range(0, self.passes, len(batch.keys)):
                drawn = np.random.SeedSequence([self.seed, self.member, place, first])
                torch.manual_seed(int(drawn.generate_state(1, np.uint64)[0]))
                for head, scores in model(batch).items():
                    found[head].append(scores[: self.passes - first])
        return {head: torch.cat(scores) for head, scores in found.items()}


def droppers(model: nn.Module) -> list[nn.Module]:
    """Return the modules that drop something in training."""
    ours = (Attention, Residual, Classifier)
    return [
        module
        for module in model.modules()
        if (isinstance(module, ours) and module.dropout > 0)
        or (isinstance(module, TORCHS) and module.p > 0)
    ]


@contextmanager
def dropping(model: Classifier) -> Iterator[None]:
    """Switch dropout on, and nothing else that training does; all is as before at the end.

    Whole branches stay (drop path), and so do images and texts (`may_miss`).
    """
    modules, withheld = droppers(model), model.may_miss
    paths = [(module, module.drop_path) for module in modules if isinstance(module, Residual)]
    try:
        for module in modules:
            module.training = True  # of itself alone: train() would reach what lies below it
        for residual, _ in paths:
            residual.drop_path = 0.0
        model.may_miss = dict.fromkeys(withheld, 0.0)
        yield
    finally:
        model.may_miss = withheld
        for residual, path in paths:
            residual.drop_path = path
        for module in modules:
            module.training = False
