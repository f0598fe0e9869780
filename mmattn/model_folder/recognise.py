"""Which model folder a path means; of a folder that is something else, what it is."""

from pathlib import Path
from shlex import quote

from mmattn.errors import CheckpointError, ConfigError
from mmattn.json_file import read_json
from mmattn.model_folder.layout import CONFIG, MANIFEST

RUN_CONFIG, RUN_MODEL = "config.yaml", "model"


def locate(path: str | Path) -> Path:
    """Return the model folder that `path` is, or that the run directory `path` holds.

    Raises:
        ConfigError: where there is no folder.
        CheckpointError: for a folder that is something else, saying what it is and what reads it.
    """
    place = Path(path).expanduser()
    if place.is_file():
        raise ConfigError(f"{place} is a file: {of_file(place)}")
    if not place.is_dir():
        raise ConfigError(f"{place} does not exist; give a model folder or a run directory")
    if (place / MANIFEST).is_file():
        return place
    if (place / RUN_CONFIG).is_file() and (place / RUN_MODEL).is_dir():
        return place / RUN_MODEL
    raise CheckpointError(f"{place} is {what_it_is(place)}")


def of_file(path: Path) -> str:
    """Return what to do with a file where a folder is wanted."""
    if path.suffix == ".ckpt":
        return importing(path)
    return f"give the folder that holds it, {path.parent}"


def what_it_is(place: Path) -> str:
    """Return what a folder without a manifest is, and the remedy."""
    if (place / RUN_CONFIG).is_file():
        return (
            f"a run directory without {RUN_MODEL}/, of an older version or of a run that ended "
            f"early: {importing(place)}"
        )
    if (place / "open_clip_config.json").is_file():
        return f"a model of open_clip: {importing(place)}"
    config = read_values(place / CONFIG)
    if "model_type" in config:
        kind = str(config["model_type"])[:40]
        return f"a model of Hugging Face transformers ({kind!r}): {importing(place)}"
    if "mmattn" in config:
        return f"a model folder without {MANIFEST}: copy it again from where it came"
    checkpoints = sorted(place.glob("*.ckpt"))
    if checkpoints:
        return f"a folder of checkpoints: {importing(checkpoints[-1])}"
    return f"no model folder: it has no {MANIFEST}; give a model folder or a run directory"


def importing(source: Path) -> str:
    """Return how to make a model folder of something else."""
    return f"`mmattn import {quote(str(source))} DEST` makes a model folder of it"


def read_values(path: Path) -> dict[str, object]:
    """Return what a JSON file says, nothing where it is no JSON file of named values."""
    try:
        return read_json(path)
    except CheckpointError:
        return {}
