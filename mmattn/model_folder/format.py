"""Writing a model as a folder and reading it back; nothing that is read can run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.assembly import bare
from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError, DataError, one_line
from mmattn.files import folder_written_whole, write_whole
from mmattn.json_file import read_json
from mmattn.model_folder.card import model_card
from mmattn.model_folder.config import (
    TASKS,
    check_config,
    config_json,
    config_of,
    preprocessing,
)
from mmattn.model_folder.layout import CARD, CONFIG, MANIFEST, TOKENIZER, WEIGHTS
from mmattn.model_folder.manifest import check_manifest, own_names, write_manifest
from mmattn.model_folder.migrations import check_format, migrate
from mmattn.model_folder.recognise import locate
from mmattn.model_folder.weights import (
    DTYPES,
    copied,
    dtype_name,
    load_tensors,
    tensors_to_store,
    tied_parameters,
)
from mmattn.weights import read_state_dict, write_state_dict


def write_folder(
    bundle: Bundle | ClassifierBundle,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    results: Mapping[str, float] | None = None,
) -> Path:
    """Write a model folder, whole or not at all; return its path.

    An older model folder is replaced, its card included.

    Args:
        bundle: what is written.
        folder: where; any other content than a model folder's is refused.
        dtype: that the weights are stored in; as they are if None.
        results: measured figures by name, for the card.

    Raises:
        CheckpointError: for a model that plain values do not describe, or that has weights which
            are not finite.
        ConfigError: for a folder that holds other files, or a type that is not stored.
    """
    tensors = tensors_to_store(bundle.model, dtype)
    tied = tied_parameters(bundle.model)
    config = config_of(bundle, dtype_name(tensors), tied)
    # What could not be read back is better known now.
    load_tensors(fitting(config, "the model"), tensors, tied, "the model")
    folder = Path(folder).expanduser()
    with folder_written_whole(folder, own_names(folder)) as place:
        write_state_dict(tensors, place / WEIGHTS)
        write_whole(place / CONFIG, config_json(config))
        if bundle.tokenizer is not None:
            write_whole(place / TOKENIZER, bundle.tokenizer.to_json().encode())
        write_whole(place / CARD, model_card(bundle, config, results or {}).encode())
        write_manifest(place)
    return folder


def read_folder(
    folder: str | Path, *, dtype: torch.dtype | None = None, alone: bool = True
) -> Bundle | ClassifierBundle:
    """Read a model folder, or the one in a run directory. The model is on the CPU, in evaluation.

    Args:
        folder: a model folder, or a run directory that has one.
        dtype: what the model's floating numbers become; as they were stored if None.
        alone: refuse files that are not of the model; a copy of a hub's repository may have some.

    Raises:
        ConfigError: where there is no folder.
        CheckpointError: for another kind of folder, and for files that are missing, altered,
            foreign, of a newer version or that do not fit each other.
    """
    place = locate(folder)
    config, state = read_stored(place, check_manifest(place, alone=alone))
    source = str(place / CONFIG)
    check_config(config, source)
    return TASKS[config["task"]].bundle_of(
        config,
        model=read_model(place, config, state, dtype),
        tokenizer=read_tokenizer(place / TOKENIZER, config),
        preprocessing=preprocessing(config, source),
    )


def read_stored(place: Path, vouched: set[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return configuration and tensors in this version's format.

    Raises:
        CheckpointError: for a file that is no such thing, that the manifest does not name, or of
            another version of the format.
    """
    require(place, vouched, (CONFIG,))
    config = read_json(place / CONFIG)
    check_format(config, str(place))
    # A model that reads no text has no tokenizer; what else it may be, `check_config` says.
    tokenizer = [] if config.get("tokenizer") is None else [TOKENIZER]
    require(place, vouched, [*tokenizer, WEIGHTS])
    return migrate(config, read_state_dict(place / WEIGHTS))


def require(place: Path, vouched: set[str], names: Sequence[str]) -> None:
    """Raise CheckpointError for a file that a manifest does not name."""
    missing = [name for name in names if name not in vouched]
    if missing:
        raise CheckpointError(
            f"{place}: its {MANIFEST} does not name {missing[0]}; copy the folder again from where "
            "it came"
        )


def read_model(
    place: Path, config: Mapping[str, Any], state: dict[str, Tensor], dtype: torch.dtype | None
) -> Captioner | Classifier:
    """Build the model and give it the stored weights. Raises CheckpointError where they differ."""
    stored = config["weights"]
    dtype = dtype or DTYPES.get(stored["dtype"])
    model = fitting(config, str(place / CONFIG))
    own = {name: copied(tensor, dtype) for name, tensor in state.items()}
    load_tensors(model, own, stored["tied"], str(place / WEIGHTS))
    return model.to(dtype)  # also the buffers that no file holds


def fitting(config: Mapping[str, Any], source: str) -> Captioner | Classifier:
    """Build a configuration's model, without weights.

    Raises CheckpointError where that cannot be, or all else does not fit it.
    """
    task = TASKS[config["task"]]
    model = bare(task.build, config["architecture"], source)
    task.check_fits(config, model, source)
    return model


def read_tokenizer(path: Path, config: Mapping[str, Any]) -> CaptionTokenizer | None:
    """Read the tokenizer; None where the model has none.

    Raises:
        CheckpointError: where it cannot be read, and for another than the model's.
    """
    values = config["tokenizer"]
    if values is None:
        return None
    special = SpecialIds(*(values[role] for role in SpecialIds._fields))
    try:
        tokenizer = CaptionTokenizer.load(path, special)
    except DataError as error:
        raise CheckpointError(one_line(error)) from error
    wanted = values["vocab_size"]
    if tokenizer.vocab_size != wanted:
        raise CheckpointError(
            f"{path}: has {tokenizer.vocab_size} tokens, and the model was written with {wanted}: "
            "it is another model's tokenizer"
        )
    return tokenizer
