"""A captioner at hand as the teacher of another one."""

from mmattn.bundle import Bundle
from mmattn.model_folder.source import captioner_of, read_source
from mmattn.tasks.methods.distillation import Distillation, Teacher


def distillation(
    teacher: str, weight: float = 0.5, temperature: float = 1.0, revision: str | None = None
) -> Distillation:
    """Return the distillation from a captioner, which is read when training begins.

    Args:
        teacher: a model folder, a run directory that has one, or an id of the hub; of a joint model
            the captioner in it teaches.
        weight, temperature: see `Distillation`.
        revision: of the hub.

    Raises:
        ConfigError: for a weight or a temperature that cannot be.
    """

    def read() -> Bundle:
        found = read_source(teacher, revision=revision)
        return captioner_of(found, teacher, "task.cross_entropy.distillation")

    return Distillation(Teacher(teacher, read), weight, temperature)
