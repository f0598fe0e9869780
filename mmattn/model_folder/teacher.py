"""Captioners at hand as the teachers of another one."""

from collections.abc import Sequence
from functools import partial

from mmattn.bundle import Bundle
from mmattn.errors import ConfigError
from mmattn.model_folder.source import captioner_of, read_source
from mmattn.tasks.methods.distillation import KEY, Distillation, Teacher


def distillation(
    teacher: str | Sequence[str],
    weight: float = 0.5,
    temperature: float = 1.0,
    revision: str | None = None,
) -> Distillation:
    """Return the distillation from captioners, which are read when training begins.

    Args:
        teacher: a model folder, a run directory that has one, or an id of the hub, or several such;
            of a joint model the captioner in it teaches.
        weight, temperature: see `Distillation`.
        revision: of the hub.

    Raises:
        ConfigError: for no teacher, and for a weight or a temperature that cannot be.
    """
    sources = [teacher] if isinstance(teacher, str) else teacher
    teachers = [Teacher(source, partial(_read, source, revision)) for source in sources]
    return Distillation(teachers, weight, temperature)


def _read(source: str, revision: str | None) -> Bundle:
    try:
        return captioner_of(read_source(source, revision=revision), source, KEY)
    except ConfigError as error:
        raise ConfigError(f"{KEY}.teacher={source}: {error}") from error
