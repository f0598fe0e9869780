"""The classification task: batch -> model -> loss -> log, for one head or many."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from mmattn.batch import LabelBatch
from mmattn.classifier import Classifier
from mmattn.data.labelled.classes import Classes, LabelSummary
from mmattn.data.order import stable_hash
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError, ConfigError, DataError
from mmattn.metrics.keyed_means import KeyedMeans
from mmattn.metrics.label_metric import LabelMetric
from mmattn.metrics.label_scores import label_scores
from mmattn.tasks.losses import LossOptions, class_weights, head_loss, losses_of
from mmattn.tasks.mixing import Mixing
from mmattn.tasks.task import Task

# What one number says how good a head of each kind is.
PRIMARY = {"single": "accuracy", "multi": "f1_macro", "soft": "vqa_accuracy", "words": "accuracy"}


class ClassificationTask(Task):
    """Trains and evaluates a classifier.

    With a single head its metrics are `val/accuracy` and so on, with several
    `val/<head>/accuracy`. `val/score` is the mean of each head's first one (see `PRIMARY`).

    Args:
        model: the classifier.
        tokenizer: of its texts; None for a model that reads none.
        optimizer: parameter groups -> optimiser, a partial that holds lr and weight_decay.
        scheduler: (optimiser, total steps) -> learning-rate schedule per step, or None.
        labels: the classes of every head, kept in every checkpoint, and how frequent they are.
        lacking: "image" or "text" -> the place of an example of the data without it.
        test_names: names of the test sets, in the order of their loaders.
        loss: how mistakes count.
        losses: the same for heads of their own.
        mixup, cutmix: see `Mixing`; for models of images alone.
        layer_decay: learning rate of each encoder layer over that of the next.

    Raises:
        ConfigError: for options of a head that there is not, or that do not fit the model.
        DataError: for data without what the model needs of every example.
    """

    printed = ("val/loss", "val/score")
    model: Classifier

    def __init__(
        self,
        model: Classifier,
        tokenizer: CaptionTokenizer | None,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None,
        *,
        labels: LabelSummary,
        lacking: Mapping[str, str],
        loss: LossOptions,
        losses: Mapping[str, LossOptions] | None = None,
        test_names: Sequence[str] = ("",),
        mixup: float = 0.0,
        cutmix: float = 0.0,
        layer_decay: float = 1.0,
    ):
        super().__init__(
            model, tokenizer, optimizer, scheduler, test_names=test_names, layer_decay=layer_decay
        )
        check_nothing_lacks(model, lacking)
        self.classes = dict(labels.classes)
        self.temperature: dict[str, float] = {}
        unknown = [head for head in losses or {} if head not in self.classes]
        if unknown:
            raise ConfigError(
                f"task.losses names {unknown[0]!r}; the heads are {', '.join(self.classes)}"
            )
        self.losses = {head: (losses or {}).get(head, loss) for head in self.classes}
        self.mixing = Mixing(mixup, cutmix)
        if self.mixing and (model.text is not None or model.word_heads):
            raise ConfigError(
                "task.mixup and task.cutmix mix images, and a text cannot be mixed: set both to 0"
            )
        for head, own in self.losses.items():
            kind, counts = self.classes[head].kind, labels.counts[head]
            weights = class_weights(own, kind, counts, labels.labelled[head])
            self.register_buffer(f"weights_of_{head}", weights, persistent=False)
        self.val_scores = self._scores()
        self.test_scores = nn.ModuleList(self._scores() for _ in self.test_names)
        self.val_losses = self._losses()
        self.test_losses = nn.ModuleList(self._losses() for _ in self.test_names)

    def _scores(self) -> nn.ModuleDict:
        return nn.ModuleDict(
            {head: label_scores(each.kind, each.names) for head, each in self.classes.items()}
        )

    def _losses(self) -> KeyedMeans:
        return KeyedMeans(list(self.classes))

    def loss(
        self, scores: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, ""]]:
        """Return each head's loss, without its weight."""
        return {
            head: head_loss(
                self.classes[head].kind,
                scores[head].float(),
                targets[head],
                own,
                getattr(self, f"weights_of_{head}"),
            )
            for head, own in self.losses.items()
        }

    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Return the weighted sum over heads."""
        parts = [self.losses[head].weight * loss for head, loss in losses.items()]
        return torch.stack(parts).sum()

    def training_step(self, batch: LabelBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the weighted sum of the heads' losses."""
        if self.mixing:
            sizes = {head: len(each.names) for head, each in self.classes.items()}
            batch = self.mixing(batch, sizes)
        losses = self.loss(self.model(batch), batch.targets)
        loss = self.total(losses)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.keys))
        if len(losses) > 1:
            named = {f"train/{head}/loss": each for head, each in losses.items()}
            self.log_dict(named, batch_size=len(batch.keys))
        return loss

    def validation_step(self, batch: LabelBatch, batch_idx: int) -> None:
        """Measure the validation set."""
        self._evaluate(batch, self.val_scores, self.val_losses)

    def test_step(self, batch: LabelBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Measure the test set `test_names[dataloader_idx]`."""
        self._evaluate(batch, *self._of_test(dataloader_idx))

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation set."""
        self._log_scores("val", self.val_scores, self.val_losses)

    def on_test_epoch_end(self) -> None:
        """Log the scores of every test set."""
        for i in range(len(self.test_names)):
            self._log_scores(self.test_prefix(i), *self._of_test(i))

    def own_values(self) -> dict[str, Any]:
        """Return what a checkpoint says of the model besides its weights: plain values."""
        classes = {
            head: {"kind": each.kind, "names": list(each.names), "open": each.open}
            for head, each in self.classes.items()
        }
        return {**super().own_values(), "classes": classes}

    def check_own_values(self, saved: dict[str, Any]) -> None:
        """Raise CheckpointError for other classes, by their names, or another tokenizer."""
        if "classes" not in saved:
            raise CheckpointError("the checkpoint is of another task: it says nothing of classes")
        check_same_classes(saved["classes"], self.classes)
        super().check_own_values(saved)

    def _of_test(self, index: int) -> tuple[nn.ModuleDict, KeyedMeans]:
        scores, losses = self.test_scores[index], self.test_losses[index]
        assert isinstance(scores, nn.ModuleDict)
        assert isinstance(losses, KeyedMeans)
        return scores, losses

    def _evaluate(self, batch: LabelBatch, scores: nn.ModuleDict, losses: KeyedMeans) -> None:
        found = {head: each.float() for head, each in self.model(batch).items()}
        device = next(iter(found.values())).device
        keys = torch.tensor([stable_hash(key) for key in batch.keys], device=device)
        losses.update(keys, *self._loss_sums(found, batch.targets))
        for head, metric in scores.items():
            assert isinstance(metric, LabelMetric)
            metric.update(keys, found[head], batch.targets[head])

    def _loss_sums(
        self, scores: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "B heads"], Float[Tensor, "B heads"]]:
        """Return each example's loss by head, and how many labels it has there."""
        sums, counts = [], []
        for head, own in self.losses.items():
            kind, weights = self.classes[head].kind, getattr(self, f"weights_of_{head}")
            losses, kept = losses_of(kind, scores[head], targets[head], own, weights)
            sums.append(losses.where(kept, 0.0).reshape(len(losses), -1).sum(1))
            counts.append(kept.reshape(len(losses), -1).sum(1).float())
        return torch.stack(sums, 1), torch.stack(counts, 1)

    def _log_scores(self, prefix: str, scores: nn.ModuleDict, losses: KeyedMeans) -> None:
        means = losses.compute()  # gathered: the same on every rank
        loss = sum(self.losses[head].weight * mean for head, mean in means.items())
        self.log(f"{prefix}/loss", float(loss), sync_dist=True)
        losses.reset()
        first = []
        for head, metric in scores.items():
            assert isinstance(metric, LabelMetric)
            name = prefix if len(scores) == 1 else f"{prefix}/{head}"
            values = metric.compute()  # gathered: the same on every rank
            first.append(values[PRIMARY[self.classes[head].kind]])
            for what, value in values.items():
                self.log(f"{name}/{what}", float(value), sync_dist=True)
            metric.reset()
        self.log(f"{prefix}/score", sum(first) / len(first), sync_dist=True)


def check_nothing_lacks(model: Classifier, lacking: Mapping[str, str]) -> None:
    """Raise DataError for an example without an image or a text that the model needs."""
    for what, place in lacking.items():
        encoder = model.vision if what == "image" else model.text
        if encoder is not None and what not in model.may_miss:
            raise DataError(
                f"{place} has no {what}, and the model reads one of every example: add it, set "
                f"model.may_miss.{what}=0.1 to train for examples without, or choose a model of "
                "the other one alone"
            )


def check_same_classes(saved: Mapping[str, Any], own: Mapping[str, Classes]) -> None:
    """Raise CheckpointError where a checkpoint's heads or the names of its classes are others."""
    if saved.keys() != own.keys():
        raise CheckpointError(
            f"the checkpoint has the heads {', '.join(saved)}, and this run {', '.join(own)}"
        )
    for head, each in own.items():
        theirs = list(saved[head]["names"])
        if theirs == list(each.names):
            continue
        differing = [
            f"class {i} is {a!r} there and {b!r} here"
            for i, (a, b) in enumerate(zip(theirs, each.names, strict=False))
            if a != b
        ]
        raise CheckpointError(
            f"the checkpoint has {len(theirs)} classes of {head} and this run {len(each.names)}; "
            f"{differing[0] if differing else 'the first ones are the same'}: use the data of that "
            "run, or give its classes in their order"
        )
