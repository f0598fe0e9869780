"""Mixup and CutMix: training images, and their labels, mixed with those of another image."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2

from mmattn.batch import IGNORE, LabelBatch
from mmattn.errors import ConfigError


class Mixing:
    """Mixes a batch by mixup (Zhang et al. 2018), CutMix (Yun et al. 2019), or either at random.

    Args:
        mixup: α of the Beta distribution that the share is drawn from; 0 is off.
        cutmix: the same for CutMix.

    Raises:
        ConfigError: for a negative α.
    """

    def __init__(self, mixup: float, cutmix: float):
        if mixup < 0 or cutmix < 0:
            raise ConfigError(f"mixup={mixup} and cutmix={cutmix} must not be negative")
        self.alphas = [(v2.MixUp, mixup), (v2.CutMix, cutmix)]
        self.alphas = [(kind, alpha) for kind, alpha in self.alphas if alpha]

    def __bool__(self) -> bool:
        """Whether anything is mixed."""
        return bool(self.alphas)

    def __call__(self, batch: LabelBatch, classes: dict[str, int]) -> LabelBatch:
        """Return the batch with mixed images, and targets that are shares [B, classes].

        Args:
            batch: one image an example, and as many images as examples.
            classes: the number of classes of each head.

        Raises:
            ValueError: where images are shared, or an example has none or a text of its own.
        """
        if batch.images is None or len(batch.images) != len(batch.keys) or batch.cached:
            raise ValueError(
                "mixup and cutmix mix the pixels of examples with one image each: set task.mixup=0 "
                "and task.cutmix=0"
            )
        chosen = int(torch.randint(len(self.alphas), ()))
        kind, alpha = self.alphas[chosen]
        count = len(batch.images)
        each = torch.arange(count, device=batch.images.device)
        # The examples are the "classes": what comes back says how much of which is in each.
        images, shares = kind(alpha=alpha, num_classes=count)(batch.images, each)
        targets = {
            head: mixed(target, shares, classes[head]) for head, target in batch.targets.items()
        }
        return replace(batch, images=images, targets=targets)


def mixed(target: Tensor, shares: Tensor, classes: int) -> Tensor:
    """Return targets [B, classes] mixed by shares [B, B]; one without a label leaves no label."""
    unlabelled = target < 0 if not target.is_floating_point() else (target == IGNORE).all(-1)
    if not target.is_floating_point():
        target = F.one_hot(target.clamp(min=0), classes).float()
    result = shares @ target
    return result.masked_fill(((shares > 0) & unlabelled).any(-1, keepdim=True), float(IGNORE))
