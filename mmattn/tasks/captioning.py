"""The captioning task: batch -> model -> loss -> log, and captions of unseen images."""

from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from jaxtyping import Float, Int
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from mmattn.batch import IGNORE, CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.greedy import Greedy
from mmattn.errors import CheckpointError, ConfigError
from mmattn.metrics.collection import CaptionScores
from mmattn.tasks.optimisation import parameter_groups

SCHEMA = 1  # of what a checkpoint holds besides Lightning's own entries
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
PRINTED = ("val/loss", "val/token_accuracy", "val/cider", "val/exact_match")


class CaptioningTask(L.LightningModule):
    """Trains and evaluates a captioner.

    Args:
        model: the captioner.
        tokenizer: of its captions; kept in every checkpoint.
        optimizer: parameter groups -> optimiser, a partial that holds lr and weight_decay.
        scheduler: (optimiser, total steps) -> learning-rate schedule per step, or None.
        max_length: the longest caption that is generated, in tokens.
        test_names: names of the test sets, in the order of their loaders.
        label_smoothing: share of the target's probability spread over all tokens (Szegedy et al.
            2016).
        layer_decay: learning rate of each encoder layer over that of the next.
        meteor: test with METEOR too, where the extra `meteor` and Java are installed.
    """

    def __init__(
        self,
        model: Captioner,
        tokenizer: CaptionTokenizer,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None,
        *,
        max_length: int,
        test_names: Sequence[str] = ("",),
        label_smoothing: float = 0.0,
        layer_decay: float = 1.0,
        meteor: bool = False,
    ):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.max_length = max_length
        self.label_smoothing, self.layer_decay = label_smoothing, layer_decay
        self.val_scores = CaptionScores()
        self.test_names = list(test_names)
        self.test_scores = [CaptionScores(meteor=meteor) for _ in self.test_names]

    def encode(self, batch: CaptionBatch) -> ImageTokens:
        """Encode the batch's images, or finish the encoding of their cached features."""
        return self.model.encode_batch(batch)

    def token_losses(
        self, image: ImageTokens, batch: CaptionBatch
    ) -> tuple[Float[Tensor, "R V"], Int[Tensor, "R"]]:
        """Return the logits and the targets of the R real tokens; padding costs no logits."""
        hidden = self.model.decode(image, batch.tokens)
        return self.model.logits(hidden[batch.valid]), batch.labels[batch.valid]

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the mean cross-entropy over the real tokens of the batch."""
        logits, targets = self.token_losses(self.encode(batch), batch)
        loss = F.cross_entropy(
            logits, targets, ignore_index=IGNORE, label_smoothing=self.label_smoothing
        )
        self.log("train/loss", loss, prog_bar=True)
        accuracy = (logits.detach().argmax(-1) == targets).float().mean()
        self.log("train/token_accuracy", accuracy)
        return loss

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> None:
        """Measure loss and token accuracy, and caption the batch greedily."""
        self._evaluate(batch, "val", self.val_scores)

    def test_step(self, batch: CaptionBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Do the same on the test set `test_names[dataloader_idx]`."""
        scores = self.test_scores[dataloader_idx]
        self._evaluate(batch, self._test_prefix(dataloader_idx), scores)

    def on_validation_epoch_end(self) -> None:
        """Log the caption scores of the validation set."""
        self._log_scores("val", self.val_scores)

    def on_validation_end(self) -> None:
        """Print one line, which also an output without a moving progress bar shows."""
        found = self.trainer.callback_metrics
        shown = [f"{name} {float(found[name]):.4g}" for name in PRINTED if name in found]
        if not self.trainer.sanity_checking:
            self.print(f"epoch {self.current_epoch}:", ", ".join(shown))

    def on_test_epoch_end(self) -> None:
        """Log the caption scores of every test set."""
        for i, scores in enumerate(self.test_scores):
            self._log_scores(self._test_prefix(i), scores)

    def decode(self, image: ImageTokens) -> Decoded:
        """Return one greedily decoded caption for each encoded image, as tokens."""
        tokenizer = self.tokenizer
        limits = Limits(tokenizer.begin_id, tokenizer.end_id, self.max_length)
        return Greedy()(self.model, image, limits)

    def configure_optimizers(self) -> Any:
        """Build the optimiser over decaying and other parameters, and its schedule per step."""
        settings = getattr(self.make_optimizer, "keywords", {})
        if "lr" not in settings:
            raise ConfigError("optimizer.lr is missing: give a learning rate")
        try:
            groups = parameter_groups(
                self.model, settings["lr"], settings.get("weight_decay", 0.0), self.layer_decay
            )
            optimizer = self.make_optimizer(groups)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"optimizer: {error}") from error
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ConfigError(
                "a learning-rate schedule needs the run's length: set trainer.max_epochs or "
                "trainer.max_steps, or choose scheduler=none"
            )
        schedule = self.make_scheduler(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, also those of a fused optimiser under bf16 autocast.

        A fused optimiser unscales gradients in its own step, after clipping, so Lightning refuses
        it under every autocast; but bf16 scales none.
        """
        plugin = self.trainer.precision_plugin
        fused = getattr(optimizer, "_step_supports_amp_scaling", False)
        if not (fused and isinstance(plugin, MixedPrecision)):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif plugin.scaler is not None:
            raise ConfigError(
                "trainer.precision=16-mixed cannot clip the gradients of a fused optimizer: set "
                "optimizer.fused=false, or trainer.precision=bf16-mixed"
            )
        elif gradient_clip_val:
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val, algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tokenizer with the weights, as plain text."""
        checkpoint["mmattn"] = {"schema": SCHEMA, "tokenizer": self.tokenizer.to_json()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another tokenizer or architecture.

        Raises:
            CheckpointError: saying what differs.
        """
        check_same_tokenizer(own_entry(checkpoint)["tokenizer"], self.tokenizer)
        check_same_shapes(checkpoint["state_dict"], self.state_dict())

    def _evaluate(self, batch: CaptionBatch, prefix: str, scores: CaptionScores) -> None:
        image = self.encode(batch)
        logits, targets = self.token_losses(image, batch)
        accuracy = (logits.argmax(-1) == targets).float().mean()
        metrics = {
            f"{prefix}/loss": F.cross_entropy(logits, targets),
            f"{prefix}/token_accuracy": accuracy,
        }
        self.log_dict(metrics, batch_size=len(targets), sync_dist=True, add_dataloader_idx=False)
        references = [list(captions) for captions in batch.references]
        captions = [self.tokenizer.decode(row) for row in self.decode(image).tokens[:, 0].tolist()]
        scores.update(list(batch.keys), references, captions)

    def _log_scores(self, prefix: str, scores: CaptionScores) -> None:
        for name, value in scores.compute().items():  # gathered: the same on every rank
            self.log(f"{prefix}/{METRIC_KEYS[name]}", value, sync_dist=True)
        scores.reset()

    def _test_prefix(self, index: int) -> str:
        name = self.test_names[index]
        return f"test/{name}" if name else "test"


def own_entry(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what the task keeps in a checkpoint. Raises CheckpointError for another's."""
    own = checkpoint.get("mmattn")
    if not isinstance(own, dict) or not {"schema", "tokenizer"} <= own.keys():
        raise CheckpointError("this is not a checkpoint of a captioning run of mmattn")
    if own["schema"] != SCHEMA:
        raise CheckpointError(
            f"the checkpoint has schema {own['schema']!r}; this version reads {SCHEMA}"
        )
    return own


def check_same_tokenizer(saved: str, tokenizer: CaptionTokenizer) -> None:
    """Raise CheckpointError where a checkpoint's tokenizer is not this one."""
    if saved == tokenizer.to_json():
        return
    from tokenizers import Tokenizer

    theirs = Tokenizer.from_str(saved).get_vocab()
    ours = tokenizer.backend.get_vocab()
    differing = sorted(
        (token for token in theirs.keys() | ours.keys() if theirs.get(token) != ours.get(token)),
        key=lambda token: min(theirs.get(token, 1 << 30), ours.get(token, 1 << 30)),
    )
    first = f", first difference {differing[0]!r}" if differing else ", other merges or settings"
    raise CheckpointError(
        f"the checkpoint was trained with another tokenizer: {len(theirs)} tokens there, "
        f"{len(ours)} here{first}. Use the data and tokenizer settings of that run"
    )


def check_same_shapes(saved: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raise CheckpointError where a checkpoint's parameters are not this model's."""
    differing = [
        f"{name} is {tuple(saved[name].shape) if name in saved else 'missing'} in the checkpoint, "
        f"{tuple(own[name].shape) if name in own else 'missing'} in the model"
        for name in sorted(saved.keys() | own.keys())
        if name not in saved or name not in own or saved[name].shape != own[name].shape
    ]
    if differing:
        raise CheckpointError(
            f"the checkpoint is of another architecture: {len(differing)} of {len(own)} parameters "
            f"differ, first: {differing[0]}. Use the model settings of that run"
        )
