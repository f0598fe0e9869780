"""Hugging Face's `BlipForConditionalGeneration` in our own blocks, with equal outputs."""

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models

from mmattn.assembly import assembled
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.interop.huggingface.blip_config import (
    StackConfig,
    TextConfig,
    VisionConfig,
    check_kind,
    text_config,
    vision_config,
)
from mmattn.interop.huggingface.blip_weights import by_todays_names, take_text, take_vision
from mmattn.interop.huggingface.folder import read_preprocessing, read_tokenizer, read_weights
from mmattn.interop.huggingface.generation import read_generation
from mmattn.interop.json_settings import read_settings
from mmattn.interop.model_tokenizer import check_vocabulary, model_tokenizer
from mmattn.interop.named_weights import NamedWeights

BEGIN = "[DEC]"  # what BLIP's authors call the token that a caption begins with
# What Hugging Face's tokenizers do to a decoded text if told to clean up spaces.
CLEANED = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'", " n't": "n't"}
CLEANED |= {f" '{ending}": f"'{ending}" for ending in ("m", "s", "ve", "re")}


def read_blip(folder: Path) -> Bundle:
    """Read a folder of a BLIP captioner (Li et al. 2022) in Hugging Face's layout.

    It gives the outputs of the model that `from_pretrained` makes of the folder, at the folder's
    own image size; folders with the names of earlier versions are read, too.

    The folder's choice of decoding is the one of its generation_config.json, at which BLIP's own
    `generate` does not look. A caption and its begin token have as many places as the model has
    positions: `max_length` is cut to that.

    Raises:
        CheckpointError: for a missing or damaged file, weights that are missing, left over or not
            of the shape that config.json says, and whatever our blocks or options do not express.
    """
    folder = Path(folder)
    config = read_settings(folder / "config.json")
    check_kind(config)
    vision, text = vision_config(config), text_config(config)
    generation = read_generation(folder, config.section("text_config", {}), config)
    return Bundle(
        model=_model(folder, vision, text),
        tokenizer=_tokenizer(folder, text),
        preprocessing=read_preprocessing(folder, (vision.image_size, vision.image_size)),
        max_length=min(generation.max_length, text.places - 1),
        decoding=generation.decoding,
        source=f"Hugging Face blip, {folder.resolve().name}",
    )


def _model(folder: Path, vision: VisionConfig, text: TextConfig) -> Captioner:
    """Return the captioner. The weights are checked before any memory is taken for a model."""
    weights = NamedWeights(by_todays_names(read_weights(folder)), str(folder))
    state = {f"vision.{name}": x for name, x in take_vision(weights, vision).items()}
    state |= {f"text.{name}": x for name, x in take_text(weights, text, vision.dim).items()}
    weights.refuse_rest()
    tied = "text.head.weight" not in state
    architecture = {"vision": _vision(vision), "text": _text(text, vision.dim, tied)}
    return assembled(architecture, state, str(folder / "config.json"))


def _vision(config: VisionConfig) -> dict[str, Any]:
    return {
        "image_size": [config.image_size, config.image_size],
        "patches": {"kind": "linear", "patch_size": config.patch_size, "dim": config.dim},
        "depth": config.depth,
        "block": _block(config, pre_norm=True),
        "class_token": True,
    }


def _text(config: TextConfig, context_dim: int, tied: bool) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "dim": config.dim,
        "depth": config.depth,
        "block": _block(config, pre_norm=False),
        "max_length": config.places,
        "context_dim": context_dim,
        "embed_norm": "layer",
        "tie_embeddings": tied,
        "head_transform": True,
        "head_bias": True,
    }


def _block(config: StackConfig, *, pre_norm: bool) -> dict[str, Any]:
    return {
        "heads": config.heads,
        "mlp_ratio": config.hidden / config.dim,
        "pre_norm": pre_norm,
        "activation": config.activation,
        "norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
    }


def _tokenizer(folder: Path, text: TextConfig) -> CaptionTokenizer:
    """Return the folder's tokenizer, with a begin token and with cleaned spaces, if so it says.

    The begin token may be missing: the tokenizer of BLIP's folders is BERT's own, and the model
    never writes the token that it begins with.
    """
    pad, begin, end = text.special
    backend = read_tokenizer(folder, SpecialIds(pad, end, end)).backend
    if begin == backend.get_vocab_size():
        backend.add_special_tokens([AddedToken(BEGIN, special=True)])
    if _cleans_spaces(folder) and isinstance(backend.model, models.WordPiece):
        clean = [decoders.Replace(old, new) for old, new in CLEANED.items()]
        joined = backend.decoder or decoders.WordPiece()
        # Joined first: what is replaced may be of two tokens.
        backend.decoder = decoders.Sequence([joined, decoders.Fuse(), *clean])
    tokenizer = model_tokenizer(backend, str(folder), text.special)
    check_vocabulary(tokenizer, text.vocab_size)
    return tokenizer


def _cleans_spaces(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    return path.is_file() and read_settings(path).flag("clean_up_tokenization_spaces", False)
