"""Distillation: what other captioners expect at each place is a target, too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isclose, log
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.backbones import TimmPatches
from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer, check_same_tokens
from mmattn.errors import ConfigError

KEY = "task.cross_entropy.distillation"


@runtime_checkable
class Known(Protocol):
    """What is read of a teacher."""

    model: Captioner
    tokenizer: CaptionTokenizer
    preprocessing: Preprocessing


@runtime_checkable
class Pictured(Protocol):
    """What is asked of the data: how pictures become a student's input."""

    cached: bool
    eval_transform: Callable[[Tensor], Tensor]
    image_size: tuple[int, int]


class Teacher:
    """A captioner that is asked and never changed.

    It is no module of the task: neither checkpoints nor the optimiser, averaged weights or what
    divides a model among GPUs know of it; each process has a whole one. It is read when training
    begins, so that a finished run can be looked at without it.

    Args:
        source: what it is called.
        read: reads it.
    """

    def __init__(self, source: str, read: Callable[[], Known]):
        self.source, self._read = source, read
        self._model: Captioner | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Teacher":
        """Return itself: what averages the weights of a task copies the task."""
        return self

    def check_cached(self, student: Captioner) -> None:
        """Raise UserError where it cannot teach from the frozen features of images alone."""
        own, its = student.vision.patches, self.known.model.vision.patches
        if not (isinstance(its, TimmPatches) and its.makes_the_features_of(own)):
            raise ConfigError(
                f"{KEY}: feature_cache holds features of the student's frozen encoder, and "
                f"{self.source} does not have the very same one: set feature_cache=null, so that "
                "it sees the pictures"
            )

    def prepare(self, student: Captioner, tokenizer: CaptionTokenizer, data: Pictured) -> None:
        """Read it, and see that it says the same words of the same pictures as its student.

        Raises:
            UserError: where it cannot be read, or does not fit, with the remedy.
        """
        found = self.known
        if data.cached:
            self.check_cached(student)
        check_same_tokens(found.tokenizer, tokenizer, f"{KEY}.teacher={self.source}")
        own = Preprocessing.of_transform(data.eval_transform, data.image_size)
        check_pictures(found.preprocessing, own, self.source)
        self._model = found.model.eval().requires_grad_(False)

    @cached_property
    def known(self) -> Known:
        """What it is."""
        return self._read()

    @torch.no_grad()
    def logits(self, batch: CaptionBatch) -> Float[Tensor, "R V"]:
        """Return its logits at the R real tokens of a batch, of which it sees the true words."""
        model = self._model
        if model is None:
            raise RuntimeError(f"{self.source} was not prepared")
        weights, images = next(model.parameters()), batch.images
        if (weights.device, weights.dtype) != (images.device, images.dtype):
            model.to(images.device, images.dtype)
        return model.logits(model.decode(model.encode_batch(batch), batch.tokens)[batch.valid])


@dataclass(frozen=True)
class Distillation:
    """Mixes the cross-entropy with the distance to teachers' predictions (Hinton et al. 2015).

    Each token's loss is (1 - weight) · cross-entropy + weight · T² · KL(teachers ‖ student), the
    distributions at temperature T; T² keeps the gradients as large as they are without it. Several
    teachers say the mean of their probabilities. A teacher of the student's own size that was
    trained on the same data teaches something, too (Furlanello et al. 2018, "Born-again neural
    networks").

    Attributes:
        teachers: the captioners that are asked.
        weight: how much of the loss is theirs.
        temperature: what the logits of all are divided by.

    Raises:
        ConfigError: for no teacher, and for a weight or a temperature that cannot be.
    """

    teachers: Sequence[Teacher]
    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self):
        if not self.teachers:
            raise ConfigError(f"{KEY}.teacher=[]: name a captioner, or several")
        if not 0 < self.weight <= 1:
            raise ConfigError(f"{KEY}.weight={self.weight} is a share, above 0 and up to 1")
        if self.temperature <= 0:
            raise ConfigError(f"{KEY}.temperature={self.temperature} must be above 0")

    def check_cached(self, student: Captioner) -> None:
        """Raise UserError where a teacher cannot teach from the features of images alone."""
        for teacher in self.teachers:
            teacher.check_cached(student)

    def prepare(self, student: Captioner, tokenizer: CaptionTokenizer, data: Pictured) -> None:
        """Get every teacher ready. Raises UserError for one that does not fit."""
        for teacher in self.teachers:
            teacher.prepare(student, tokenizer, data)

    def expected(self, batch: CaptionBatch) -> Float[Tensor, "R V"]:
        """Return the logarithm of the teachers' mean probability at temperature T, float32."""
        each = [
            F.log_softmax(teacher.logits(batch).float() / self.temperature, -1)
            for teacher in self.teachers
        ]
        return torch.stack(each).logsumexp(0) - log(len(each))

    def losses(
        self, student: Float[Tensor, "R V"], expected: Float[Tensor, "R V"]
    ) -> Float[Tensor, "R"]:
        """Return T² · KL(teachers ‖ student) of each token, of its logits and what is expected."""
        log_q = F.log_softmax(student.float() / self.temperature, -1)
        return self.temperature**2 * (expected.exp() * (expected - log_q)).sum(-1)


def check_pictures(teacher: Preprocessing, student: Preprocessing, source: str) -> None:
    """Raise ConfigError where a teacher takes other pictures than its student."""
    if teacher.size != student.size:
        raise ConfigError(
            f"{KEY}.teacher={source} takes pictures of {teacher.size[0]} x {teacher.size[1]} "
            f"pixels, and data.image_size is {list(student.size)}: train both with the same"
        )
    pairs = zip(teacher.mean + teacher.std, student.mean + student.std, strict=True)
    if not all(isclose(one, other, abs_tol=1e-4) for one, other in pairs):
        raise ConfigError(
            f"{KEY}.teacher={source} takes pictures less {teacher.mean} and divided by "
            f"{teacher.std}, and data.eval_transform makes them less {student.mean} and divided by "
            f"{student.std}: train both with the same"
        )
