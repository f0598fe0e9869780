"""Self-critical sequence training: a captioner learns from what its own captions are worth."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.sampling import Sampling
from mmattn.errors import ConfigError, TrainingError
from mmattn.maps.methods import evaluating
from mmattn.tasks.methods.caption_reward import CaptionReward
from mmattn.tasks.methods.cross_entropy import CaptionLoss
from mmattn.tasks.methods.no_gradient import without_gradient

# (references, captions, ended) -> rewards, as `CaptionReward` has them
Reward = Callable[
    [Sequence[Sequence[str]], Sequence[Sequence[str]], Sequence[Sequence[bool]]], np.ndarray
]
BASELINES = ("leave_one_out", "greedy")


@dataclass(frozen=True)
class SelfCritical:
    """How a captioner is trained on the reward of captions that it draws itself.

    Attributes:
        start_epoch: until this epoch it learns by cross-entropy: from nothing, rewards teach
            nothing.
        lr: the learning rate from then on; the optimizer's own, without its schedule, if None.
        samples: N, the captions that are drawn of each image.
        baseline: what a caption's reward is compared with: "leave_one_out", the mean of the image's
            other captions (Luo 2020, "A better variant of self-critical sequence training"), or
            "greedy", the reward of its greedy caption (Rennie et al. 2017).
        cider, bleu, end_token: see `CaptionReward`.
        cross_entropy: weight of the cross-entropy of the image's own captions, which is added:
            rewards alone unlearn the words that are seldom worth their risk.
        cross_entropy_captions: of how many captions of each image, drawn in every step: a small
            weight needs no more; of all if None.
        dropout: take the gradient with dropout. Captions are drawn without it either way: what is
            learned is then of a model that is a little different from the one that wrote them, but
            few training images are not learned by heart.
        patience: steps in a row in which no caption is worth more or less than its baseline before
            training stops.

    Raises:
        ConfigError: for options out of their range.
    """

    start_epoch: int
    lr: float | None = None
    samples: int = 5
    baseline: str = "leave_one_out"
    cider: float = 1.0
    bleu: float = 0.0
    end_token: bool = True
    cross_entropy: float = 0.0
    cross_entropy_captions: int | None = None
    dropout: bool = False
    patience: int = 50

    def __post_init__(self):
        if self.baseline not in BASELINES:
            raise ConfigError(
                f"task.self_critical.baseline is {self.baseline!r}; choose {' or '.join(BASELINES)}"
            )
        least = 2 if self.baseline == "leave_one_out" else 1
        ranges = {
            f"start_epoch={self.start_epoch} must be at least 0": self.start_epoch >= 0,
            f"lr={self.lr} must be above 0": self.lr is None or self.lr > 0,
            f"samples={self.samples} must be at least {least} with baseline={self.baseline}": (
                self.samples >= least
            ),
            f"cider={self.cider} and bleu={self.bleu}: none may be negative, and one must be "
            "above 0": min(self.cider, self.bleu) >= 0 < self.cider + self.bleu,
            f"cross_entropy={self.cross_entropy} must not be negative": self.cross_entropy >= 0,
            f"cross_entropy_captions={self.cross_entropy_captions} must be at least 1, or null": (
                self.cross_entropy_captions is None or self.cross_entropy_captions >= 1
            ),
            f"patience={self.patience} must be at least 1": self.patience >= 1,
        }
        wrong = [text for text, right in ranges.items() if not right]
        if wrong:
            raise ConfigError(f"task.self_critical.{wrong[0]}")

    def reward(self, training: Iterable[Sequence[str]]) -> CaptionReward:
        """Return the reward of captions; `training` are the captions of every training image."""
        return CaptionReward(training, cider=self.cider, bleu=self.bleu, end_token=self.end_token)


class SelfCriticalLoss:
    """REINFORCE with a baseline (Williams 1992; Rennie et al. 2017, equations 4-9).

        L = - 1/M · Σ_captions (r(c) - b(c)) · Σ_t log p(c_t | c_<t, image)

    for captions c drawn from the model, M tokens in all, their end tokens included. Dropout is off,
    unless asked for: captions are drawn from the very distribution whose gradient is taken, and
    which is used in the end.

    Args:
        options: see `SelfCritical`.
        reward: of captions.
        tokenizer: of captions.
        max_length: the longest caption that is drawn, in tokens.
    """

    def __init__(
        self,
        options: SelfCritical,
        reward: Reward,
        tokenizer: CaptionTokenizer,
        max_length: int,
    ):
        self.options, self.reward, self.tokenizer = options, reward, tokenizer
        self.limits = Limits(tokenizer.begin_id, tokenizer.end_id, max_length)
        self._constant = 0  # steps in a row

    def __call__(
        self, model: Captioner, batch: CaptionBatch, image: ImageTokens | None = None
    ) -> CaptionLoss:
        """Return the loss of a batch of images with all their captions.

        With dropout, `image` are its images as they were encoded for another loss, if there is one.

        Raises:
            TrainingError: for many steps no caption was worth more or less than its baseline.
        """
        dropout = self.options.dropout
        with evaluating(model):
            with without_gradient() if dropout else nullcontext():
                seen = model.encode_batch(batch)
            drawn = self._draw(model, seen)
            rewards = self._rewards(batch, drawn)
            baseline = self._baseline(model, seen, batch, rewards)
        self._check_rewards(rewards, baseline)
        with nullcontext() if dropout else evaluating(model):
            if dropout:
                seen = image or model.encode_batch(batch)
            log_probs = self._log_probs(model, seen, drawn)
        per_token = (rewards - baseline)[..., None] * log_probs  # 0 after a caption's end
        figures = {
            "reward": rewards.mean(),
            "baseline": baseline.mean(),
            "caption_length": drawn.valid.sum(-1).float().mean(),
            "ended": drawn.ended.float().mean(),
        }
        return CaptionLoss(-per_token.sum() / drawn.valid.sum(), figures)

    def _draw(self, model: Captioner, image: ImageTokens) -> "Drawn":
        """Draw N captions of each image; their seed comes from torch's generator."""
        seed = int(torch.randint(1 << 31, ()))
        return self._written(Sampling(samples=self.options.samples, seed=seed), model, image)

    def _written(self, decode: Sampling | Greedy, model: Captioner, image: ImageTokens) -> "Drawn":
        with without_gradient():
            return Drawn.of(decode(model, image, self.limits), self.limits.end_id)

    def _rewards(self, batch: CaptionBatch, drawn: "Drawn") -> Float[Tensor, "B N"]:
        rows = drawn.tokens.tolist()
        texts = [[self.tokenizer.decode(ids) for ids in captions] for captions in rows]
        references = batch.known or batch.references
        rewards = self.reward(references, texts, drawn.ended.tolist())
        return torch.from_numpy(rewards).to(batch.images.device, torch.float)

    def _baseline(
        self, model: Captioner, image: ImageTokens, batch: CaptionBatch, rewards: Tensor
    ) -> Float[Tensor, "B N"]:
        if self.options.baseline == "greedy":
            return self._rewards(batch, self._written(Greedy(), model, image)).expand_as(rewards)
        return (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)

    def _log_probs(
        self, model: Captioner, image: ImageTokens, drawn: "Drawn"
    ) -> Float[Tensor, "B N T"]:
        """Return the log-probability of each token that was drawn; 0 after a caption's end."""
        begin = torch.full_like(drawn.tokens[..., :1], self.limits.begin_id)
        hidden = model.decode(image, torch.cat([begin, drawn.tokens[..., :-1]], -1))
        valid = drawn.valid
        losses = F.cross_entropy(
            model.logits(hidden[valid]).float(), drawn.tokens[valid], reduction="none"
        )
        return torch.zeros_like(valid, dtype=losses.dtype).masked_scatter(valid, -losses)

    def _check_rewards(self, rewards: Float[Tensor, "B N"], baseline: Float[Tensor, "B N"]) -> None:
        """Count the steps whose rewards teach nothing: no caption is better than its baseline."""
        nothing = torch.allclose(rewards, baseline, rtol=1e-5)  # a mean of equal ones is rounded
        self._constant = self._constant + 1 if nothing else 0
        if self._constant >= self.options.patience:
            low, high = (float(end) for end in rewards.aminmax())
            raise TrainingError(
                f"for {self._constant} steps in a row no caption had another reward than its "
                f"baseline (the last rewards: {low:.4g} to {high:.4g}), from which nothing can be "
                f"learnt. Where they are low, begin later (task.self_critical.start_epoch="
                f"{self.options.start_epoch}), when captions resemble their references; where they "
                "are high, or the captions of an image are all the same, train for fewer epochs"
            )


class Drawn(NamedTuple):
    """Captions that a model wrote.

    tokens: without the begin token; the end token follows a caption's end. valid: which of them
    belong to a caption, its end token included. ended: which captions have one.
    """

    tokens: Int[Tensor, "B N T"]
    valid: Bool[Tensor, "B N T"]
    ended: Bool[Tensor, "B N"]

    @classmethod
    def of(cls, decoded: Decoded, end_id: int) -> "Drawn":
        """Find out where decoded captions end."""
        ends = decoded.tokens == end_id
        return cls(decoded.tokens, ends.cumsum(-1) - ends.long() == 0, ends.any(-1))
