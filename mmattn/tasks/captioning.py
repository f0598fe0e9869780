"""The captioning task: batch -> model -> loss -> log, and captions of unseen images."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.data.order import stable_hash
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.greedy import Greedy
from mmattn.errors import ConfigError
from mmattn.metrics.collection import CaptionScores
from mmattn.metrics.keyed_means import KeyedMeans
from mmattn.tasks.methods.cross_entropy import CaptionLoss, CrossEntropy
from mmattn.tasks.methods.phases import two_phases
from mmattn.tasks.methods.progress import Progress
from mmattn.tasks.methods.self_critical import SelfCritical, SelfCriticalLoss
from mmattn.tasks.task import Task

TOKEN_MEANS = ("loss", "token_accuracy")
METRIC_KEYS = {
    "BLEU_1": "bleu_1",
    "BLEU_2": "bleu_2",
    "BLEU_3": "bleu_3",
    "BLEU_4": "bleu_4",
    "METEOR": "meteor",
    "ROUGE_L": "rouge_l",
    "CIDEr": "cider",
    "exact_match": "exact_match",
}


class CaptioningTask(Task):
    """Trains and evaluates a captioner.

    Args:
        model: the captioner.
        tokenizer: of its captions; kept in every checkpoint.
        optimizer: parameter groups -> optimiser, a partial that holds lr and weight_decay.
        scheduler: (optimiser, total steps) -> learning-rate schedule per step, or None.
        max_length: the longest caption that is generated, in tokens.
        test_names: names of the test sets, in the order of their loaders.
        cross_entropy: how it learns from captions.
        self_critical: how it learns, later, from the reward of captions of its own; not at all if
            None. Needs the trainer to have a `CaptionDataModule`, for its training captions.
        layer_decay: learning rate of each encoder layer over that of the next.
        meteor: test with METEOR too, where the extra `coco` and Java are installed.
    """

    printed = ("val/loss", "val/token_accuracy", "val/cider", "val/exact_match")
    model: Captioner
    tokenizer: CaptionTokenizer

    def __init__(
        self,
        model: Captioner,
        tokenizer: CaptionTokenizer,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None,
        *,
        max_length: int,
        test_names: Sequence[str] = ("",),
        cross_entropy: CrossEntropy | None = None,
        self_critical: SelfCritical | None = None,
        layer_decay: float = 1.0,
        meteor: bool = False,
    ):
        super().__init__(
            model, tokenizer, optimizer, scheduler, test_names=test_names, layer_decay=layer_decay
        )
        self.max_length = max_length
        self.cross_entropy, self.self_critical = cross_entropy or CrossEntropy(), self_critical
        self._self_critical_loss: SelfCriticalLoss | None = None
        self.val_scores = CaptionScores()
        self.test_scores = [CaptionScores(meteor=meteor) for _ in self.test_names]
        self.val_means = KeyedMeans(TOKEN_MEANS)
        self.test_means = nn.ModuleList(KeyedMeans(TOKEN_MEANS) for _ in self.test_names)

    def encode(self, batch: CaptionBatch) -> ImageTokens:
        """Encode the batch's images, or finish the encoding of their cached features."""
        return self.model.encode_batch(batch)

    def token_losses(
        self, image: ImageTokens, batch: CaptionBatch
    ) -> tuple[Float[Tensor, "R V"], Int[Tensor, "R"]]:
        """Return the logits and the targets of the R real tokens; padding costs no logits."""
        hidden = self.model.decode(image, batch.tokens)
        return self.model.logits(hidden[batch.valid]), batch.labels[batch.valid]

    def check_cached(self) -> None:
        """Raise UserError where it cannot learn from the frozen features of images alone."""
        self.cross_entropy.check_cached(self.model)

    def on_fit_start(self) -> None:
        """Get ready what it learns from. Raises UserError for what does not fit."""
        data = getattr(self.trainer, "datamodule", None)
        self.cross_entropy.prepare(self.model, self.tokenizer, data)
        if self.self_critical is not None:
            train = getattr(data, "splits").train  # noqa: B009
            captions = (train.captions(i) for i in range(len(train)))
            self._self_critical_loss = SelfCriticalLoss(
                self.self_critical,
                self.self_critical.reward(captions),
                self.tokenizer,
                self.max_length,
            )

    def configure_schedule(self, optimizer: Optimizer) -> Any:
        """Build the schedule; that of cross-entropy ends where self-critical training begins."""
        if self.self_critical is None:
            return super().configure_schedule(optimizer)
        total, steps = self.total_steps(), self.cross_entropy_steps()
        if steps >= total:
            raise ConfigError(
                f"task.self_critical.start_epoch={self.self_critical.start_epoch} is never "
                f"reached: that is after {steps:g} steps, and the run ends after {total}; set "
                "trainer.max_epochs higher"
            )
        return two_phases(optimizer, self.make_scheduler, int(steps), self.self_critical.lr)

    def cross_entropy_steps(self) -> int | float:
        """Return the steps of the run, or those before self-critical training; may be infinite."""
        if self.self_critical is None:
            return self.trainer.estimated_stepping_batches
        self.trainer.fit_loop.setup_data()  # not before now where trainer.max_steps is the limit
        batches = self.trainer.num_training_batches
        an_epoch = math.ceil(batches / self.trainer.accumulate_grad_batches)
        return self.self_critical.start_epoch * an_epoch

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the loss of the batch's captions, or of captions that the model draws itself."""
        if self.self_critical is not None and self.current_epoch >= self.self_critical.start_epoch:
            loss, figures = self.reinforcement(batch, self.self_critical)
        else:
            loss, figures = self.teacher_forcing(self.encode(batch), batch)
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in figures.items()})
        return loss

    def reinforcement(self, batch: CaptionBatch, options: SelfCritical) -> CaptionLoss:
        """Return the loss of captions that the model draws, with its share of cross-entropy."""
        assert self._self_critical_loss is not None
        if not options.cross_entropy:
            return self._self_critical_loss(self.model, batch)
        image = self.encode(batch)
        drawn = self._self_critical_loss(self.model, batch, image)
        count = options.cross_entropy_captions
        taught = self.teacher_forcing(image, batch.draw_captions(count) if count else batch)
        figures = drawn.figures | taught.figures | {"cross_entropy": taught.loss.detach()}
        return CaptionLoss(drawn.loss + options.cross_entropy * taught.loss, figures)

    def teacher_forcing(self, image: ImageTokens, batch: CaptionBatch) -> CaptionLoss:
        """Return the loss of the captions of encoded images, as `cross_entropy` has it."""
        blank = self.tokenizer.pad_id
        return self.cross_entropy(self.model, image, batch, blank=blank, progress=self.progress)

    def progress(self) -> Progress:
        """Return how far the run has come, without self-critical training."""
        return Progress(self.trainer.global_step, self.cross_entropy_steps())

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> dict[str, ImageTokens] | None:
        """Measure loss and token accuracy, and caption the batch greedily.

        Returns the encoded images as "image", for what callbacks measure of them; None where
        captions are not measured.
        """
        image = self.encode(batch)
        self.measure_captions(image, batch)
        return {"image": image}

    def test_step(self, batch: CaptionBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Do the same on the test set `test_names[dataloader_idx]`."""
        self.measure_captions(self.encode(batch), batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the caption scores of the validation set."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the caption scores of every test set."""
        for i in range(len(self.test_names)):
            self._log_scores(self.test_prefix(i), i)

    def decode(self, image: ImageTokens) -> Decoded:
        """Return one greedily decoded caption for each encoded image, as tokens."""
        tokenizer = self.tokenizer
        limits = Limits(tokenizer.begin_id, tokenizer.end_id, self.max_length)
        return Greedy()(self.model, image, limits)

    def measure_captions(
        self, image: ImageTokens, batch: CaptionBatch, test: int | None = None
    ) -> None:
        """Add encoded images to the figures of a test set, None for validation; caption them."""
        scores, means = self._measures(test)
        logits, targets = self.token_losses(image, batch)
        found = [F.cross_entropy(logits, targets, reduction="none").float()]
        found.append((logits.argmax(-1) == targets).float())
        keys = torch.tensor([stable_hash(key) for key in batch.keys], device=targets.device)
        sums = [torch.zeros_like(batch.valid, dtype=torch.float) for _ in found]
        for sum_, values in zip(sums, found, strict=True):
            sum_[batch.valid] = values  # each where its token stands, to be added up by image
        counts = batch.valid.sum((1, 2)).float()
        means.update(
            keys,
            torch.stack([sum_.sum((1, 2)) for sum_ in sums], 1),
            torch.stack([counts] * len(sums), 1),
        )
        references = [list(captions) for captions in batch.references]
        captions = [self.tokenizer.decode(row) for row in self.decode(image).tokens[:, 0].tolist()]
        scores.update(list(batch.keys), references, captions)

    def _measures(self, test: int | None) -> tuple[CaptionScores, KeyedMeans]:
        if test is None:
            return self.val_scores, self.val_means
        means = self.test_means[test]
        assert isinstance(means, KeyedMeans)
        return self.test_scores[test], means

    def _log_scores(self, prefix: str, test: int | None = None) -> None:
        scores, means = self._measures(test)
        # Gathered: the same on every rank.
        for name, value in means.compute().items():
            self.log(f"{prefix}/{name}", value, sync_dist=True)
        for name, value in scores.compute().items():
            self.log(f"{prefix}/{METRIC_KEYS[name]}", value, sync_dist=True)
        means.reset()
        scores.reset()
