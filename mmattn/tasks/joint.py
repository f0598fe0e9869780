"""The joint task: one encoding of the images serves captions, embeddings and matching."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.data.foils import Foils, draw_foils
from mmattn.data.module import CaptionDataModule
from mmattn.data.text_rows import text_rows
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError
from mmattn.joint import JointModel
from mmattn.tasks.captioning import CaptioningTask
from mmattn.tasks.contrastive import belong, caption_numbers, contrastive_loss
from mmattn.tasks.matching import matching_pairs
from mmattn.tasks.methods.cross_entropy import CrossEntropy
from mmattn.tasks.objective import Objective
from mmattn.tasks.pair_scores import PairScores, Texts, read_texts


class JointTask(CaptioningTask):
    """Trains a joint model on the weighted sum of three losses, and measures all it can do.

    Besides what `CaptioningTask` measures of a set: retrieval over the whole set from the
    embeddings (`val/image_to_text_recall_1` and so on; `val/mean_recall` of all six), and how well
    every true caption is told from a foil, a caption of another image (`val/match_accuracy`; see
    `FoilMetric`). A loss of weight 0 costs nothing: its parts of the model stand still, and what
    they would be measured by is left out.

    Args:
        model: the joint model.
        tokenizer: of its texts; kept in every checkpoint.
        optimizer: parameter groups -> optimiser, a partial that holds lr and weight_decay.
        scheduler: (optimiser, total steps) -> learning-rate schedule per step, or None.
        max_length: the longest caption, in tokens.
        objective: what it learns.
        rerank: how many candidates the matcher puts in order where retrieval is measured; 0 does
            not measure that.
        foil_seed: of the choice of foils, which is the same in every run and epoch.
        test_names, cross_entropy, layer_decay, meteor: see `CaptioningTask`.

    Raises:
        ConfigError: for weights and options that do not fit the model or each other.
    """

    printed = (
        *CaptioningTask.printed,
        "val/image_to_text_recall_1",
        "val/text_to_image_recall_1",
        "val/match_accuracy",
    )
    # What a captioner's task takes -> why this one does not.
    refused: ClassVar[Mapping[str, str]] = {
        "self_critical": "joint models have no self-critical training: train a captioner with it "
        "(model=captioner task=captioning, or an experiment with a captioner, such as "
        "flickr8k_frozen)"
    }
    model: JointModel  # type: ignore[assignment]

    def __init__(
        self,
        model: JointModel,
        tokenizer: CaptionTokenizer,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None,
        *,
        max_length: int,
        objective: Objective | None = None,
        rerank: int = 0,
        foil_seed: int = 0,
        test_names: Sequence[str] = ("",),
        cross_entropy: CrossEntropy | None = None,
        layer_decay: float = 1.0,
        meteor: bool = False,
    ):
        if not isinstance(model, JointModel):
            raise ConfigError(
                f"task=joint trains a JointModel, and this is a {type(model).__name__}: set "
                "model=joint"
            )
        super().__init__(
            *(model, tokenizer, optimizer, scheduler),
            max_length=max_length,
            test_names=test_names,
            cross_entropy=cross_entropy,
            layer_decay=layer_decay,
            meteor=meteor,
        )
        self.objective = objective or Objective()
        self.rerank, self.foil_seed = rerank, foil_seed
        self.objective.check(model)
        check_rerank(rerank, self.objective)
        for part in self.objective.idle_parts(model):
            part.requires_grad_(False)
        self.val_pairs = self._pair_scores()
        self.test_pairs = nn.ModuleList(self._pair_scores() for _ in self.test_names)
        self._foils: dict[str, Foils] = {}

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Return the weighted sum of the losses."""
        self.model.limit_scale()
        losses = self.losses(batch)
        weights = self.objective.weights
        loss = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}_loss": each.detach() for name, each in losses.items()})
        if "contrastive" in losses:
            self.log("train/scale", self.model.scale.detach())
        return loss

    def losses(self, batch: CaptionBatch) -> dict[str, Float[Tensor, ""]]:
        """Return the losses that have a weight, without it."""
        image = self.model.see(batch)
        losses = {}
        if self.objective.captioning:
            losses["caption"] = self._caption_loss(image, batch)
        if self.objective.compares:
            losses |= self._pair_losses(image, batch, read_texts(self.model, batch))
        return losses

    def validation_step(self, batch: CaptionBatch, batch_idx: int) -> dict[str, ImageTokens] | None:
        """Measure the loss of captions, caption the batch, and embed and match it.

        Returns what `CaptioningTask.validation_step` does.
        """
        image = self._evaluate_joint(batch, "val")
        return None if image is None else {"image": image}

    def test_step(self, batch: CaptionBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Do the same on the test set `test_names[dataloader_idx]`."""
        self._evaluate_joint(batch, self.test_prefix(dataloader_idx), dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation set."""
        if self.objective.captioning:
            super().on_validation_epoch_end()
        self._log_pairs("val", self.val_pairs)

    def on_test_epoch_end(self) -> None:
        """Log the scores of every test set."""
        if self.objective.captioning:
            super().on_test_epoch_end()
        for i in range(len(self.test_names)):
            self._log_pairs(self.test_prefix(i), self._pairs_of_test(i))

    def _caption_loss(self, image: ImageTokens, batch: CaptionBatch) -> Float[Tensor, ""]:
        loss, figures = self.teacher_forcing(self.model.connect(image), batch)
        self.log_dict({f"train/{name}": value for name, value in figures.items()})
        return loss

    def _pair_losses(
        self, image: ImageTokens, batch: CaptionBatch, texts: Texts
    ) -> dict[str, Float[Tensor, ""]]:
        model, device = self.model, texts.owner.device
        known = caption_numbers(batch.known or batch.references).to(device)
        numbers = caption_numbers([texts.captions])[0].to(device)
        losses, similarity = {}, None
        if self.objective.contrastive:
            images = model.image_embeddings(image)
            embedded = model.text_embeddings(texts.hidden, texts.valid)
            losses["contrastive"] = contrastive_loss(
                *(images, embedded, known, numbers, model.scale, model.logit_bias),
                kind=self.objective.contrastive_loss,
            )
            similarity = (model.scale * images @ embedded.T).detach()
        if self.objective.matching:
            positive = belong(known, numbers)
            pairs = matching_pairs(similarity, positive, texts.owner, self.objective.hard_negatives)
            answer = model.match(
                image, pairs.images, texts.hidden[pairs.texts], texts.valid[pairs.texts]
            )
            losses["matching"] = F.cross_entropy(answer.float(), pairs.target)
        return losses

    def _evaluate_joint(
        self, batch: CaptionBatch, prefix: str, test: int | None = None
    ) -> ImageTokens | None:
        image, connected = self.model.see(batch), None
        if self.objective.captioning:
            connected = self.model.connect(image)
            self.measure_captions(connected, batch, test)
        if self.objective.compares:
            self._evaluate_pairs(image, batch, prefix, test)
        return connected

    def _evaluate_pairs(
        self, image: ImageTokens, batch: CaptionBatch, prefix: str, test: int | None
    ) -> None:
        pairs = self.val_pairs if test is None else self._pairs_of_test(test)
        texts = read_texts(self.model, batch)
        pairs.update(self.model, batch, image, texts)
        foils = self._foils_of(prefix, test)
        # The number of each caption among all of the batch, where it stands, and its foil.
        places = [(b, n) for b, own in enumerate(batch.references) for n in range(len(own))]
        chosen = [
            (row, place, foil)
            for row, place in enumerate(places)
            if (foil := foils[batch.keys[place[0]]][place[1]]) is not None
        ]
        pairs.has_foils = any(foil for each in foils.values() for foil in each)
        if chosen:
            rows = [row for row, _, _ in chosen]
            false = self._read_foils([foil for _, _, foil in chosen], texts.owner[rows])
            true = texts.select(rows)
            pairs.update_foils(self.model, batch, image, true, false, [p for _, p, _ in chosen])

    def _read_foils(self, captions: Sequence[str], owner: Tensor) -> Texts:
        tokens, valid = text_rows(self.tokenizer, captions, self.max_length)
        tokens, valid = tokens.to(owner.device), valid.to(owner.device)
        return Texts(owner, tuple(captions), self.model.read(tokens, valid), tokens, valid)

    def _foils_of(self, prefix: str, test: int | None) -> Foils:
        if prefix not in self._foils:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, CaptionDataModule):
                raise ConfigError(
                    f"task=joint takes foils from a CaptionDataModule, not {type(data).__name__}"
                )
            splits = data.splits
            dataset = splits.val if test is None else splits.test[self.test_names[test]]
            self._foils[prefix] = draw_foils(dataset, self.foil_seed)
        return self._foils[prefix]

    def _pair_scores(self) -> PairScores:
        return PairScores(
            contrastive=self.objective.contrastive > 0,
            matching=self.objective.matching > 0,
            width=self.model.embed_dim,
            longest=self.max_length,
            rerank=self.rerank,
        )

    def _pairs_of_test(self, index: int) -> PairScores:
        found = self.test_pairs[index]
        assert isinstance(found, PairScores)
        return found

    def _log_pairs(self, prefix: str, scores: PairScores) -> None:
        for name, value in scores.compute(self.model).items():  # the same on every rank
            self.log(f"{prefix}/{name}", value, sync_dist=True)
        scores.reset()


def check_rerank(rerank: int, objective: Objective) -> None:
    """Raise ConfigError for a number of candidates that cannot be found and put in order."""
    if rerank < 0 or (rerank and not (objective.matching and objective.contrastive)):
        raise ConfigError(
            f"task.rerank={rerank}: the number of candidates that embeddings find and the matcher "
            "puts in order; set 0 where task.objective.contrastive or task.objective.matching is 0"
        )
