"""While training and testing: why a classifier answers as it does, and where it is surely wrong."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
from torch import nn

from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.order import stable_hash
from mmattn.errors import ConfigError, UserError
from mmattn.maps.decision_archive import save_decision
from mmattn.maps.decision_gallery import build_decision_gallery
from mmattn.maps.decision_record import DecisionRecord
from mmattn.maps.decision_sheet import decision_line, decision_sheet
from mmattn.maps.png import save_png
from mmattn.metrics.label_metric import LabelMetric
from mmattn.tasks.classification import ClassificationTask
from mmattn.training.best_effort import BestEffort
from mmattn.training.loggers.media import Media
from mmattn.training.parts import classification_task, label_data
from mmattn.training.pictures.decision_records import decision_records
from mmattn.training.pictures.every_nth import EveryNth
from mmattn.training.pictures.example_probes import chosen_examples
from mmattn.training.pictures.file_names import file_names
from mmattn.training.pictures.mistakes import EXPLAINED, confident_mistakes
from mmattn.training.pictures.probes import Probes, split_named

log = logging.getLogger(__name__)
SHARE = 0.6  # of what one step may log; the pictures of the labels have the rest


class Shown(NamedTuple):
    """Examples of one set that are explained: `why` is "probe" or "mistake"."""

    why: str
    set: str
    dataset: LabelledSet
    head: str
    keys: list[str]


class DecisionLogger(L.Callback):
    """Explains a fixed set of probe examples, and the mistakes that a classifier is surest of.

    At every validation: the probe examples, the same ones each time, and the most confident
    mistakes of the validation set; at the end of testing those of each test set. For each example:
    its images under the relevance of the predicted class and, where that is wrong, of the right
    one; the words of its text tinted by the same; prediction, probability and truth. The mistakes
    are found in what the task's metrics hold, of all processes, before they are reset.

    Rank 0 draws. Files go to `folder/<set>/step-…/probes/` and `…/mistakes/`, with a folder a head
    where there are several: PNG pictures and NPZ files with the numbers; `folder/index.html` shows
    all of them over training. The model is left as it was, so a run with and without this callback
    learns the same. Nor does a disk that is full or gone end a run: it is warned of once.

    Args:
        folder: where the files go.
        heads: whose decisions; those of all heads that give the whole a class if None.
        probes: which examples; four of the validation set if None.
        mistakes: number of mistakes of each head at each validation; 0 draws none.
        every_n_validations: draw at every n-th validation; at none if None or 0.
        test_mistakes: number of mistakes of each head and test set; 0 draws none.
        at_once: examples explained together.
        page: write the HTML page, and log it at the end.

    Raises:
        ConfigError: for a number that is too small.
    """

    def __init__(
        self,
        folder: str,
        *,
        heads: Sequence[str] | None = None,
        probes: Probes | None = None,
        mistakes: int = 4,
        every_n_validations: int | None = 1,
        test_mistakes: int = 8,
        at_once: int = 16,
        page: bool = True,
    ):
        if min(mistakes, test_mistakes, at_once - 1) < 0:
            raise ConfigError(
                f"mistakes={mistakes} and test_mistakes={test_mistakes} must be 0 or more, and "
                f"at_once={at_once} 1 or more"
            )
        self.folder, self.heads = Path(folder), None if heads is None else list(heads)
        self.probes, self.page = probes or Probes(), page
        self.mistakes, self.test_mistakes, self.at_once = mistakes, test_mistakes, at_once
        self._every = EveryNth(every_n_validations)
        self._media, self._effort = Media(SHARE), BestEffort()

    @property
    def state_key(self) -> str:
        """What a checkpoint knows this callback by: with other probes or heads it is another."""
        return self._generate_state_key(probes=str(self.probes), heads=str(self.heads))

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there were, so that a resumed run draws every n-th of all."""
        return {"validations": self._every.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from those of a checkpoint."""
        self._every.seen = state_dict["validations"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Explain one example of each head before training.

        Raises:
            ConfigError: for a head, a set, an example or a transform that does not do.
        """
        task, splits = classification_task(pl_module), label_data(trainer).splits
        heads, keys = self._explained(task), chosen_examples(self.probes, splits)
        for head in heads:
            shown = Shown("probe", self.probes.split, self._probed(trainer), head, keys[:1])
            try:
                self._records(trainer, task, shown)
            except UserError:
                raise
            except (ValueError, RuntimeError) as error:
                raise ConfigError(f"callbacks.decisions: {error}") from error

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain the probes and the validation set's mistakes, while the metrics hold it."""
        if trainer.sanity_checking or not self._every.next():
            return
        task, splits = classification_task(pl_module), label_data(trainer).splits
        keys, where = chosen_examples(self.probes, splits), self.probes.split
        dataset = self._probed(trainer)
        probed = [Shown("probe", where, dataset, head, keys) for head in self._explained(task)]
        wrong = self._mistaken(task, "val", splits.val, task.val_scores, self.mistakes)
        self._show(trainer, task, [*probed, *wrong])

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Explain the mistakes of every test set, while the metrics hold them."""
        task, splits = classification_task(pl_module), label_data(trainer).splits
        for i, (scores, dataset) in enumerate(
            zip(task.test_scores, splits.test.values(), strict=True)
        ):
            assert isinstance(scores, nn.ModuleDict)
            prefix = task.test_prefix(i)
            self._show(
                trainer, task, self._mistaken(task, prefix, dataset, scores, self.test_mistakes)
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the page of all that was drawn."""
        self._log_page(trainer)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the page again, with the test sets."""
        self._log_page(trainer)

    def _explained(self, task: ClassificationTask) -> list[str]:
        """Return the heads. Raises ConfigError for one that is not there or labels words."""
        able = [head for head, each in task.classes.items() if each.kind in EXPLAINED]
        unable = [head for head in self.heads or () if head not in able]
        if unable:
            raise ConfigError(
                f"callbacks.decisions.heads names {unable[0]!r}; the heads that give the whole a "
                f"class are {', '.join(able) or 'none'}"
            )
        return able if self.heads is None else self.heads

    def _probed(self, trainer: L.Trainer) -> LabelledSet:
        splits = label_data(trainer).splits
        return split_named(splits.train, splits.val, splits.test, self.probes.split)

    def _mistaken(
        self,
        task: ClassificationTask,
        prefix: str,
        dataset: LabelledSet,
        scores: nn.ModuleDict,
        count: int,
    ) -> list[Shown]:
        """Return each head's most confident mistakes: of all processes, and the same in each."""
        found = []
        for head in self._explained(task) if count else []:
            metric = scores[head]
            assert isinstance(metric, LabelMetric)
            hashes = confident_mistakes(task.classes[head].kind, metric.examples(), count)
            found.append(Shown("mistake", prefix, dataset, head, keys_of(dataset, hashes)))
        return found

    def _records(
        self, trainer: L.Trainer, task: ClassificationTask, shown: Shown
    ) -> list[DecisionRecord]:
        records = decision_records(
            *(task, label_data(trainer), shown.dataset, shown.keys, shown.head),
            at_once=self.at_once,
        )
        return [
            replace(record, set=shown.set, why=shown.why, step=trainer.global_step)
            for record in records
        ]

    def _show(self, trainer: L.Trainer, task: ClassificationTask, all_: Sequence[Shown]) -> None:
        """Draw, write and log on rank 0."""
        if not trainer.is_global_zero:
            return
        several = len(self._explained(task)) > 1
        for shown in all_:
            folder = place(self.folder, shown, trainer.global_step, several)
            with self._effort.at(folder):  # an image may be gone by now
                self._draw(trainer, self._records(trainer, task, shown), folder, several)
        if self.page and any(shown.keys for shown in all_):
            with self._effort.at(self.folder):
                build_decision_gallery(self.folder)

    def _draw(
        self,
        trainer: L.Trainer,
        records: Sequence[DecisionRecord],
        folder: Path,
        several: bool,
    ) -> None:
        if not records:
            return
        names = file_names([record.key for record in records])
        pictures, first = [decision_sheet(record) for record in records], records[0]
        # Logged first: a logger is no worse off for a disk that is full.
        key = "/".join(["decisions", first.set, f"{first.why}s", *(first.heads if several else ())])
        captions = [f"{record.key} | {decision_line(record)}" for record in records]
        self._media.images(trainer.loggers, trainer.global_step, key, pictures, captions)
        with ThreadPoolExecutor(2) as pool:  # compression runs without the interpreter
            list(pool.map(save_png, [folder / f"{name}.png" for name in names], pictures))
            list(pool.map(save_decision, [folder / f"{name}.npz" for name in names], records))

    def _log_page(self, trainer: L.Trainer) -> None:
        path = self.folder / "index.html"
        if not self.page or not trainer.is_global_zero or not path.is_file():
            return
        with self._effort.at(path):
            page = path.read_text("utf-8")
            self._media.page(trainer.loggers, trainer.global_step, "decisions/page", page)


def keys_of(dataset: LabelledSet, hashes: Sequence[int]) -> list[str]:
    """Return the keys of examples by their hashes (`stable_hash`), in their order."""
    sought = set(hashes)
    wanted: Mapping[int, str] = {
        number: example.key
        for example in (dataset.examples if hashes else ())
        if (number := stable_hash(example.key)) in sought
    }
    return [wanted[number] for number in hashes]


def place(folder: Path, shown: Shown, step: int, several: bool) -> Path:
    """Return where the files of some examples go."""
    (of_set,) = file_names([shown.set])
    under = folder / of_set / f"step-{step:06d}" / f"{shown.why}s"
    return under / file_names([shown.head])[0] if several else under
