"""A control in every validation: is a caption likelier with its own image than with another one?"""

import logging
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError
from mmattn.metrics.keyed_means import KeyedMeans
from mmattn.tasks.captioning import CaptioningTask
from mmattn.training.parts import captioning_task

log = logging.getLogger(__name__)
FIGURE = "shuffled_loss"


class ShuffledImages(L.Callback):
    """Measures `val/shuffled_loss`: the loss of captions with the images of others.

    Each image's encoding gives way to that of the image half a batch further on. A captioner that
    looks has a much higher loss then; one that does not is warned of. Costs another pass of the
    decoder over each validation batch. An image that is alone in its batch is left out; as other
    batches give other pairs, the figure depends a little on their size and on the number of ranks.

    Args:
        margin: how much higher the loss must be, as a share of `val/loss`.

    Raises:
        ConfigError: for a negative margin.
    """

    def __init__(self, margin: float = 0.01):
        if margin < 0:
            raise ConfigError(f"callbacks.shuffled_images.margin={margin} must not be negative")
        self.margin, self.means = margin, KeyedMeans([FIGURE])

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self.means = self.means.to(pl_module.device)
        self.means.reset()

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: CaptionBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Measure a batch, of which the step hands over the encoded images."""
        if not outputs:  # a joint model may learn no captions
            return
        # Not left out where there is one image: ranks that share weights must do so together.
        with torch.no_grad(), trainer.precision_plugin.val_step_context():
            totals = shuffled_losses(captioning_task(pl_module), outputs["image"], batch)
        alone = len(batch.keys) == 1
        counts = batch.valid.sum((1, 2)).float() * (not alone)
        keys = torch.tensor([stable_hash(key) for key in batch.keys], device=totals.device)
        self.means.update(keys, (totals * (not alone))[:, None], counts[:, None])

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the mean over all images; every rank has it."""
        if trainer.sanity_checking or not self.means.update_called:
            return
        for name, value in self.means.compute().items():
            pl_module.log(f"val/{name}", value, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn where images do not matter."""
        found = trainer.callback_metrics
        if trainer.sanity_checking or not {"val/loss", f"val/{FIGURE}"} <= found.keys():
            return
        own, other = float(found["val/loss"]), float(found[f"val/{FIGURE}"])
        if other < own * (1 + self.margin) and trainer.is_global_zero:
            log.warning(
                "val/loss is %.4g, and %.4g with the images of others: the captioner does not look "
                "at its images. It may be too early; else see that the encoder learns, or gets "
                "pictures as it was trained with (data.eval_transform), and lower optimizer.lr",
                *(own, other),
            )


def shuffled_losses(task: CaptioningTask, image: ImageTokens, batch: CaptionBatch) -> Tensor:
    """Return the sum of each image's token losses [B], with the encoding of another image."""
    other = image._replace(tokens=image.tokens.roll(len(batch.keys) // 2, 0))
    logits, targets = task.token_losses(other, batch)
    losses = F.cross_entropy(logits, targets, reduction="none").float()
    spread = torch.zeros_like(batch.valid, dtype=torch.float).masked_scatter(batch.valid, losses)
    return spread.sum((1, 2))
