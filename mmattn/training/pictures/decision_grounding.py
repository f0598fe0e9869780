"""Does the explanation of a classifier's answer fall on what the question is about?"""

from collections.abc import Mapping, Sequence

import lightning as L
import numpy as np
import torch
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.classifier import Classifier
from mmattn.data.label_module import LabelDataModule
from mmattn.data.labelled.grounded import GroundedExamples
from mmattn.data.labelled.groups import LabelledSet
from mmattn.errors import ConfigError
from mmattn.maps.decision import decision_relevance
from mmattn.maps.decision_attention import attends_to_images, decision_attention
from mmattn.maps.quality.grounding import averages, ground, totals
from mmattn.maps.quality.other_text import other_texts
from mmattn.maps.quality.randomisation import randomised
from mmattn.placement import PlacedRegion, placement_of, seen_regions
from mmattn.tasks.classification import ClassificationTask
from mmattn.training.parts import classification_task, label_data

# What is measured: the relevance itself and, in tests, what it must beat.
OWN, RAW, RANDOM, OTHER = "", "raw_attention", "randomised_weights", "other_question"


class DecisionGrounding(L.Callback):
    """Logs whether the relevance of the right answer falls on the thing that the example names.

    For examples of which the store knows where that is (`GroundedExamples`), with the measurement
    and the chance level of captions (`maps.quality.grounding`), on the first image. The *right*
    answer is explained, so that every example counts whether or not the model found it.

    Logs `<set>/attention/pointing`, `pointing_chance`, `energy`, `energy_ratio` and `examples`, and
    over all test sets together `attention/…`. The same figures in tests for what must do worse,
    below `<set>/attention/<name>/`:

    - `randomised_weights`: relevance of a copy of the model that has learnt nothing;
    - `other_question`: of the same image's answer to another example's text, one that names nothing
      in a picture; of texts that are drawn of the same batch;
    - `raw_attention`: plain attention, where what is read attends to the image at all. No control,
      but what one would look at without gradients.

    Args:
        head: the head that answers, one of single classes; the first such head if None.
        examples: at most so many are measured of each set, drawn once.
        at_once: examples explained together.
        seed: of what is drawn.
    """

    def __init__(
        self, *, head: str | None = None, examples: int = 256, at_once: int = 32, seed: int = 0
    ):
        if min(examples, at_once) < 1:
            raise ConfigError(f"examples={examples} and at_once={at_once} must both be 1 or more")
        self.head, self.examples, self.at_once, self.seed = head, examples, at_once, seed
        self._sums: dict[tuple[str, str], Tensor] = {}  # of each set and what is measured
        self._named: dict[str, NamedRegions] = {}
        self._head: str | None = None
        self._random: Classifier | None = None

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the validation set's sums."""
        self._start(trainer, pl_module, {"val": label_data(trainer).splits.val}, [OWN])

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the sums of every test set, with those of the controls."""
        model = classification_task(pl_module).model
        lines = [OWN, RANDOM, OTHER, *([RAW] if attends_to_images(model) else [])]
        if model.text is None:
            lines.remove(OTHER)
        tests = label_data(trainer).splits.test
        named = {f"test/{name}".rstrip("/"): dataset for name, dataset in tests.items()}
        self._start(trainer, pl_module, named, lines)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: LabelBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one validation batch."""
        data = label_data(trainer)
        if not data.is_repeat(data.splits.val, batch_idx):
            self._add(classification_task(pl_module), batch, "val")

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: LabelBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add one batch of a test set."""
        task, data = classification_task(pl_module), label_data(trainer)
        if not data.is_repeat(data.splits.test[task.test_names[dataloader_idx]], batch_idx):
            self._add(task, batch, task.test_prefix(dataloader_idx))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation set's figures."""
        self._log(trainer, classification_task(pl_module))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log each test set's figures, and those of all of them together."""
        for line in dict.fromkeys(line for _, line in self._sums):
            of_line = [sums for (_, own), sums in self._sums.items() if own == line]
            self._sums["", line] = torch.stack(of_line).sum(0)
        self._log(trainer, classification_task(pl_module))

    def _start(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        datasets: Mapping[str, LabelledSet],
        lines: Sequence[str],
    ) -> None:
        """Start at zero on every rank, also where it will meet no region: all ranks add up."""
        self._sums.clear()
        task, data = classification_task(module), label_data(trainer)
        self._head = self._answering(task)
        if trainer.sanity_checking or data.withhold == "image" or task.model.vision is None:
            return
        for prefix, dataset in datasets.items():
            if self._head is None or not isinstance(dataset.store, GroundedExamples):
                continue
            if prefix not in self._named or self._named[prefix].dataset is not dataset:
                self._named[prefix] = NamedRegions(dataset, data, self.examples, self.seed)
            for line in lines:
                self._sums[prefix, line] = torch.zeros(5, dtype=torch.float64)
        wanted = any(line == RANDOM for _, line in self._sums)
        self._random = randomised(task.model, self.seed) if wanted else None

    def _answering(self, task: ClassificationTask) -> str | None:
        """Return the head that is explained. Raises ConfigError for one that cannot be."""
        single = [head for head, each in task.classes.items() if each.kind == "single"]
        if self.head is not None and self.head not in single:
            raise ConfigError(
                f"callbacks.decisions_grounding.head is {self.head!r}; the heads of single classes "
                f"are {', '.join(single) or 'none'}"
            )
        return self.head or (single[0] if single else None)

    def _add(self, task: ClassificationTask, batch: LabelBatch, prefix: str) -> None:
        if (prefix, OWN) not in self._sums or self._head is None:
            return
        named, targets = self._named[prefix], batch.targets[self._head].tolist()
        chosen = [
            b
            for b, (key, target) in enumerate(zip(batch.keys, targets, strict=True))
            if key in named.regions and target >= 0
        ]
        if not chosen:
            return
        regions = [named.regions[batch.keys[b]] for b in chosen]
        part = batch.select(chosen)
        right = part.targets[self._head]
        self._sums[prefix, OWN] += measured(self._relevance(task.model, part, right), regions)
        if (prefix, RAW) in self._sums:
            self._sums[prefix, RAW] += measured(decision_attention(task.model, part), regions)
        if (prefix, RANDOM) in self._sums:
            assert self._random is not None
            self._sums[prefix, RANDOM] += measured(
                self._relevance(self._random, part, right), regions
            )
        if (prefix, OTHER) in self._sums:
            self._sums[prefix, OTHER] += self._of_other_texts(task, batch, chosen, named, regions)

    def _of_other_texts(
        self,
        task: ClassificationTask,
        batch: LabelBatch,
        chosen: Sequence[int],
        named: "NamedRegions",
        regions: Sequence[PlacedRegion],
    ) -> Tensor:
        """Return the totals for the same images with texts that name nothing in a picture."""
        silent = [b for b, key in enumerate(batch.keys) if key not in named.naming]
        kept, other = other_texts(batch, chosen, silent, self.seed)
        if not kept:
            return torch.zeros(5, dtype=torch.float64)
        maps = self._relevance(task.model, other, None)
        return measured(maps, [regions[place] for place in kept])

    def _relevance(self, model: Classifier, batch: LabelBatch, right: Tensor | None) -> Tensor:
        assert self._head is not None
        found = decision_relevance(model, batch, self._head, right, at_once=self.at_once)
        assert found.image is not None
        return found.image

    def _log(self, trainer: L.Trainer, task: ClassificationTask) -> None:
        for (prefix, line), sums in self._sums.items():
            here = sums.to(task.device, torch.float32)  # Apple's GPUs have no float64
            total = trainer.strategy.reduce(here, reduce_op="sum").tolist()
            if not total[-1]:
                continue
            figures = averages(total)
            figures["examples"] = figures.pop("words")
            name = "/".join(part for part in (prefix, "attention", line) if part)
            values = {f"{name}/{figure}": value for figure, value in figures.items()}
            task.log_dict(values, sync_dist=True)  # summed: the same on every rank
        self._sums.clear()
        self._random = None


class NamedRegions:
    """What some examples of a set name, and where it stands in their picture.

    Attributes:
        dataset: the set.
        regions: key -> region, of at most `limit` examples, drawn evenly. Those that the network's
            picture does not show are not among them.
        naming: the keys of all examples that name something in their picture, measured or not.

    Raises:
        ConfigError: for a transform of unknown geometry.
    """

    def __init__(self, dataset: LabelledSet, data: LabelDataModule, limit: int, seed: int):
        placement_of(data.eval_transform, data.image_size)
        self.dataset, store = dataset, dataset.store
        assert isinstance(store, GroundedExamples)
        self.regions: dict[str, PlacedRegion] = {}
        examples = dataset.examples
        self.naming = {example.key for example in examples}
        order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))
        for i in order.tolist():
            region = store.named_region(examples[i])
            if region is None:
                self.naming.discard(examples[i].key)
            elif len(self.regions) < limit:
                seen = seen_regions({"": region}, data.eval_transform)
                self.regions.update((examples[i].key, own) for own in seen.values())


def measured(maps: Tensor, regions: Sequence[PlacedRegion]) -> Tensor:
    """Return the totals [5] of the first images' maps [B, M, h, w] (`grounding.totals`).

    A map that is not finite, as of a model that diverged, is left out.
    """
    found = [
        ground(map, own.mask, placement=own.placement)
        for map, own in zip(maps[:, 0].float().cpu().numpy(), regions, strict=True)
        if np.isfinite(map).all()
    ]
    return torch.from_numpy(totals(found))
