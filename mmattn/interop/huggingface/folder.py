"""A model folder in Hugging Face's layout: its weights, preprocessing and tokenizer."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from mmattn.data.backend import read_backend
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.image_processor import image_preprocessing
from mmattn.interop.huggingface.tokenizer_files import bert_backend, gpt2_backend
from mmattn.interop.json_settings import Settings, read_settings
from mmattn.interop.model_tokenizer import model_tokenizer
from mmattn.json_file import read_json
from mmattn.weights import read_state_dict

# In the order in which they are looked for: safetensors first, which cannot hold code.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
BARE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder by their names, in the type they are stored in.

    They are in model.safetensors or pytorch_model.bin, or in several files that an index names. The
    latter is a pickle: it is read with torch's `weights_only`, which runs no code.

    Raises:
        CheckpointError: where there are none, a file is damaged, or an index names a file outside
            of the folder, or tensors that its files do not hold.
    """
    folder = Path(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_state_dict(folder / name)
        if (folder / f"{name}.index.json").is_file():
            return _read_shards(folder, f"{name}.index.json", Path(name).suffix)
    raise CheckpointError(
        f"{folder}: has no weights; looked for {' and '.join(WEIGHTS)}, whole or with an index"
    )


def _read_shards(folder: Path, index: str, suffix: str) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names."""
    place_of = read_settings(folder / index).section("weight_map")
    state: dict[str, Tensor] = {}
    for shard in sorted({_shard_name(place_of, key, suffix) for key in place_of.values}):
        held = read_state_dict(folder / shard)
        promised = {key for key, place in place_of.values.items() if place == shard}
        if differing := sorted(promised ^ held.keys()):
            side = "lacks" if differing[0] in promised else "also holds"
            raise CheckpointError(f"{folder / shard}: {side} {differing[0]}, unlike {index} says")
        state |= held
    return state


def _shard_name(place_of: Settings, key: str, suffix: str) -> str:
    """Return the file that holds one tensor: a bare name, so that it is inside the folder."""
    name = place_of.raw(key)
    if not isinstance(name, str) or not BARE_NAME.fullmatch(name) or not name.endswith(suffix):
        raise place_of.wrong(key, f"the bare name of a {suffix} file in the same folder")
    return name


def read_preprocessing(folder: Path, image_size: tuple[int, int] | None = None) -> Preprocessing:
    """Return how the folder says that a picture becomes the model's input.

    Of processor_config.json, where that has a section `image_processor`, else of
    preprocessor_config.json. Missing values are the defaults of the image processor it names.

    Args:
        folder: the model folder.
        image_size: (height, width) of the network's input, where the caller knows it.

    Raises:
        CheckpointError: where both files are missing, or hold what `Preprocessing` does not
            express, or make pictures of another size than `image_size`.
    """
    folder = Path(folder)
    if (folder / "processor_config.json").is_file():
        processor = read_settings(folder / "processor_config.json")
        if processor.has("image_processor"):
            return image_preprocessing(processor.section("image_processor"), image_size)
    return image_preprocessing(read_settings(folder / "preprocessor_config.json"), image_size)


def read_tokenizer(folder: Path, special: SpecialIds) -> CaptionTokenizer:
    """Return the folder's tokenizer, with the special tokens that the model's configuration names.

    It is a tokenizer.json; or vocab.json with merges.txt, as GPT-2's; or vocab.txt, as BERT's.

    Raises:
        CheckpointError: where there is none of them, a file is damaged, or the tokenizer has no
            token of a special id.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        return model_tokenizer(read_backend(path, CheckpointError), str(path), special)
    config = _together(folder, "special_tokens_map.json", "tokenizer_config.json")
    added = _together(folder, "added_tokens.json")
    if (folder / "vocab.json").is_file():
        backend = gpt2_backend(folder, config, added)
    elif (folder / "vocab.txt").is_file():
        backend = bert_backend(folder, config, added)
    else:
        raise CheckpointError(
            f"{folder}: has no tokenizer; looked for tokenizer.json, vocab.json with merges.txt, "
            "and vocab.txt"
        )
    return model_tokenizer(backend, str(folder), special)


def _together(folder: Path, *names: str) -> Settings:
    """Return what those of the files hold that are there; the later ones win."""
    values: dict[str, Any] = {}
    for name in names:
        if (folder / name).is_file():
            values |= read_json(folder / name)
    return Settings(values, str(folder / names[-1]))
