"""config.json: all that a model is besides weights and tokenizer, as plain values."""

import json
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from mmattn.architecture import describe
from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import CheckpointError, ConfigError, one_line
from mmattn.joint import JointModel
from mmattn.model_folder import captioner_config, classifier_config, joint_config
from mmattn.model_folder.layout import FORMAT, library_version
from mmattn.model_folder.text_fits import shown
from mmattn.model_folder.weights import DTYPES, MIXED

# What a model is for -> the module that knows what only such models have.
TASKS: dict[str, ModuleType] = {
    "caption": captioner_config,
    "classify": classifier_config,
    "joint": joint_config,
}
KINDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "mmattn": (str,),
    "task": (str,),
    "source": (str,),
    "architecture": (dict,),
    "weights": (dict,),
    "max_length": (int,),
}
# What `timm.create_model` may be told of where weights come from.
ORIGINS = re.compile(r"pretrained.*|checkpoint.*|cache_dir")
# A string of an architecture is a name: no path and no address can be written with these.
NAME = re.compile(r"[\w.-]*")
# What the data call their heads may be any text, and is never looked up anywhere.
HEADS = ("heads", "word_heads")


def config_of(
    bundle: Bundle | ClassifierBundle, dtype: str, tied: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
        bundle: what is written.
        dtype: name of the type of the stored weights.
        tied: parameters that are not stored -> those that they are.

    Raises:
        CheckpointError: for a model that plain values do not describe.
    """
    tokenizer, prepared = bundle.tokenizer, bundle.preprocessing
    task = task_of(bundle)
    texts = None
    if tokenizer is not None:
        texts = {"vocab_size": tokenizer.vocab_size, **tokenizer.special._asdict()}
    config = {
        "format": FORMAT,
        "mmattn": library_version(),
        "task": task,
        "source": bundle.source,
        "architecture": without_origins(describe(bundle.model)),
        "weights": {"dtype": dtype, "tied": dict(tied)},
        "preprocessing": None if prepared is None else prepared.settings(),
        "tokenizer": texts,
        "max_length": bundle.max_length,
        **TASKS[task].values_of(bundle),
    }
    try:
        plain = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the model's settings are not plain values: {error}") from error
    check_config(plain, "the model's settings")
    return plain


def task_of(bundle: Bundle | ClassifierBundle) -> str:
    """Return what a bundle's model is for, one of `TASKS`."""
    if isinstance(bundle, ClassifierBundle):
        return "classify"
    return "joint" if isinstance(bundle.model, JointModel) else "caption"


def config_json(config: Mapping[str, Any]) -> bytes:
    """Return the content of the file."""
    return (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode()


def without_origins(architecture: dict[str, Any]) -> dict[str, Any]:
    """Return an architecture without what timm was told of where its weights come from."""
    if architecture["vision"] is None:
        return architecture
    patches = architecture["vision"]["patches"]
    if "options" in patches:
        kept = {k: v for k, v in patches["options"].items() if not ORIGINS.fullmatch(k)}
        patches = {**patches, "options": kept}
    return {**architecture, "vision": {**architecture["vision"], "patches": patches}}


def check_config(config: Mapping[str, Any], source: str) -> None:
    """Check a configuration of this version's format.

    Raises:
        CheckpointError: for a key that is missing, unknown, of another type or that would make
            reading run something or look elsewhere.
    """
    check_nothing_runs(config, source)
    check_keys(config, KINDS, source)
    task = TASKS.get(config["task"])
    if task is None:
        known = ", ".join(TASKS)
        raise CheckpointError(f"{source}: task is {config['task']!r}; this version knows {known}")
    check_keys(config, task.KINDS, source)
    unknown = sorted(config.keys() - KINDS.keys() - task.KINDS.keys())
    if unknown:
        raise CheckpointError(f"{source}: format {FORMAT} has no key {unknown[0]!r}")
    check_architecture(config["architecture"], source)
    check_weights(config["weights"], source)
    task.check(config, source)


def check_keys(
    config: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], source: str
) -> None:
    """Raise CheckpointError for a key that is missing, or of another type."""
    for key, wanted in kinds.items():
        if key in config and type(config[key]) in wanted:
            continue
        found = f"is {shown(config[key])}" if key in config else "is missing"
        names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in wanted)
        raise CheckpointError(f"{source}: {key} {found}; format {FORMAT} has a {names}")


def check_nothing_runs(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for a `_target_` at any depth."""
    for where, key, _ in walk(config):
        if key == "_target_":
            raise CheckpointError(
                f"{source}: {where} would say what to run, and a model folder holds values only: "
                "it is not of mmattn, or somebody changed it; do not use it"
            )


def check_architecture(architecture: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for an architecture that would read a file or fetch weights."""
    settings = {key: value for key, value in architecture.items() if key not in HEADS}
    for where, key, value in walk(settings, "architecture"):
        if ORIGINS.fullmatch(key) and value is not False:
            raise CheckpointError(
                f"{source}: {where} is {shown(value)}: the weights of a model folder come from "
                "itself only"
            )
        if isinstance(value, str) and not NAME.fullmatch(value):
            raise CheckpointError(f"{source}: {where} is {shown(value)}, which is no name")


def check_weights(weights: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError where type or ties of the weights are not said as they should be."""
    dtype, tied = weights.get("dtype"), weights.get("tied")
    if dtype not in (*DTYPES, MIXED):
        known = ", ".join((*DTYPES, MIXED))
        raise CheckpointError(f"{source}: weights.dtype is {shown(dtype)}; known: {known}")
    if not isinstance(tied, dict) or not all(isinstance(name, str) for name in tied.values()):
        raise CheckpointError(f"{source}: weights.tied is {shown(tied)}, not names of parameters")


def preprocessing(config: Mapping[str, Any], source: str) -> Preprocessing | None:
    """Return the preprocessing, None where a model sees no pictures.

    Raises:
        CheckpointError: for values that it cannot have.
    """
    values = config["preprocessing"]
    if values is None:
        return None
    try:
        found = Preprocessing.of_settings(dict(values))
        found.transform()
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: preprocessing cannot be built ({one_line(error)})"
        ) from error
    size: Any = found.size
    if not isinstance(size, tuple) or [type(n) is int and n > 0 for n in size] != [True, True]:
        raise CheckpointError(f"{source}: preprocessing.size is {shown(size)}: give two numbers")
    return found


def walk(value: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (dotted place, key, value) of every entry of nested values; list items have key "".

    Values may be nested deeper than Python calls.
    """
    waiting = [(where, value)]
    while waiting:
        where, value = waiting.pop()
        entries = value.items() if isinstance(value, Mapping) else ()
        if isinstance(value, list):
            entries = (("", item) for item in value)
        for key, inner in entries:
            place = f"{where}.{key}".strip(".")
            waiting.append((place, inner))
            yield place, key, inner
