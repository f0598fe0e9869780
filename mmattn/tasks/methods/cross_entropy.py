"""Teacher forcing: every token is predicted from the image and from the true tokens before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError
from mmattn.tasks.methods.distillation import Distillation
from mmattn.tasks.methods.drop_worst import DropWorst
from mmattn.tasks.methods.parallel_prediction import ParallelPrediction
from mmattn.tasks.methods.progress import Progress
from mmattn.tasks.methods.r_drop import RDrop
from mmattn.tasks.methods.scheduled_sampling import ScheduledSampling
from mmattn.tasks.methods.word_dropout import WordDropout


class CaptionLoss(NamedTuple):
    """The loss of a batch, and what is logged of it besides, by its name below train/."""

    loss: Float[Tensor, ""]
    figures: dict[str, Tensor]


class Given(NamedTuple):
    """What the decoder is given: input tokens, and which captions it predicts in parallel."""

    tokens: Int[Tensor, "B N T"]
    parallel: Bool[Tensor, "B N"] | None


@dataclass(frozen=True)
class CrossEntropy:
    """The mean cross-entropy over the real tokens of a batch, and what is done to it.

    The methods can be combined. What the decoder is given is changed in the order of scheduled
    sampling, word dropout, parallel prediction; labels are always the true ones.

    Attributes:
        label_smoothing: share of the target's probability spread over all tokens (Szegedy et al.
            2016).
        drop_worst: which captions do not count; None counts all.
        word_dropout: blanks some input tokens.
        scheduled_sampling: replaces some input tokens by the model's own.
        parallel_prediction: predicts some captions all words at once.
        r_drop: compares two passes.
        distillation: learns from another captioner, too.

    Raises:
        ConfigError: for a share that is none.
    """

    label_smoothing: float = 0.0
    drop_worst: DropWorst | None = None
    word_dropout: WordDropout | None = None
    scheduled_sampling: ScheduledSampling | None = None
    parallel_prediction: ParallelPrediction | None = None
    r_drop: RDrop | None = None
    distillation: Distillation | None = None

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"task.cross_entropy.label_smoothing={self.label_smoothing} is a share, from 0 to "
                "below 1"
            )

    def check_cached(self, model: Captioner) -> None:
        """Raise UserError where it cannot learn from the frozen features of images alone."""
        if self.distillation is not None:
            self.distillation.check_cached(model)

    def prepare(self, model: Captioner, tokenizer: CaptionTokenizer, data: Any) -> None:
        """Be ready for training. Raises UserError for a model or data that cannot do so."""
        if self.r_drop is not None:
            self.r_drop.check(model)
        if self.distillation is not None:
            self.distillation.prepare(model, tokenizer, data)

    def __call__(
        self,
        model: Captioner,
        image: ImageTokens,
        batch: CaptionBatch,
        *,
        blank: int,
        progress: Callable[[], Progress] = Progress,
    ) -> CaptionLoss:
        """Return the loss of the captions of encoded images.

        Args:
            model: what learns.
            image: the encoded images.
            batch: their captions.
            blank: the token that says nothing, the tokenizer's padding.
            progress: tells how far the run has come; asked only where that matters.
        """
        figures: dict[str, Tensor] = {}
        given = self._given(model, image, batch, blank, progress, figures)
        targets = batch.labels[batch.valid]
        passes = [self._logits(model, image, batch, given)]
        figures["token_accuracy"] = (passes[0].detach().argmax(-1) == targets).float().mean()
        if self.r_drop is not None:
            passes.append(self._logits(model, image, batch, given))
        drop = self.drop_worst
        if drop is not None and not drop.begun(progress()):
            drop = None
        if drop is None and self.r_drop is None and self.distillation is None:
            loss = F.cross_entropy(passes[0], targets, label_smoothing=self.label_smoothing)
            return CaptionLoss(loss, figures)
        own = torch.stack([self._token_losses(logits, targets) for logits in passes]).mean(0)
        losses = self._further(own, passes, batch, figures)
        if drop is None:
            return CaptionLoss(losses.mean(), figures)
        kept = drop.kept(own, batch.valid)
        return CaptionLoss(losses.where(kept, 0.0).sum() / kept.sum(), figures)

    def _further(
        self,
        losses: Float[Tensor, "R"],
        passes: list[Tensor],
        batch: CaptionBatch,
        figures: dict[str, Tensor],
    ) -> Float[Tensor, "R"]:
        """Return the loss of each token with what else is learned; note that in `figures`."""
        if self.distillation is not None:
            expected, weight = self.distillation.expected(batch), self.distillation.weight
            each = [self.distillation.losses(logits, expected) for logits in passes]
            apart = torch.stack(each).mean(0)
            figures["distillation"] = apart.detach().mean()
            losses = (1 - weight) * losses + weight * apart
        if self.r_drop is not None:
            apart = self.r_drop.losses(*passes)
            figures["r_drop"] = apart.detach().mean()
            losses = losses + apart
        return losses

    def _given(
        self,
        model: Captioner,
        image: ImageTokens,
        batch: CaptionBatch,
        blank: int,
        progress: Callable[[], Progress],
        figures: dict[str, Tensor],
    ) -> Given:
        """Return what the decoder is given; note in `figures` what is to be logged of it."""
        tokens, parallel = batch.tokens, None
        if self.scheduled_sampling is not None:
            probability = self.scheduled_sampling.probability_at(progress())
            figures["sampling_probability"] = torch.tensor(probability)
            tokens = self.scheduled_sampling(model, image, tokens, batch.valid, probability)
        if self.word_dropout is not None:
            tokens = self.word_dropout(tokens, blank)
        if self.parallel_prediction is not None:
            parallel = self.parallel_prediction.chosen(tokens)
            tokens = self.parallel_prediction(tokens, parallel, blank)
        return Given(tokens, parallel)

    def _logits(
        self, model: Captioner, image: ImageTokens, batch: CaptionBatch, given: Given
    ) -> Float[Tensor, "R V"]:
        """Return the logits of the R real tokens; padding costs none."""
        hidden = model.decode(image, given.tokens, parallel=given.parallel, valid=batch.valid)
        return model.logits(hidden[batch.valid])

    def _token_losses(
        self, logits: Float[Tensor, "R V"], targets: Int[Tensor, "R"]
    ) -> Float[Tensor, "R"]:
        return F.cross_entropy(
            logits, targets, label_smoothing=self.label_smoothing, reduction="none"
        )
