"""What a BLIP folder's config.json says, checked; what it leaves out is Hugging Face's default."""

from dataclasses import dataclass
from typing import Any

from mmattn.data.tokenizer import SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.activations import ACTIVATIONS
from mmattn.interop.json_settings import Settings


@dataclass(frozen=True)
class StackConfig:
    """What both stacks have; `hidden` is the width inside the feed-forward network."""

    dim: int
    hidden: int
    depth: int
    heads: int
    activation: str
    norm_eps: float
    dropout: float
    attention_dropout: float


@dataclass(frozen=True)
class VisionConfig(StackConfig):
    """The image encoder: square images of `image_size` pixels in patches of `patch_size`."""

    image_size: int
    patch_size: int


@dataclass(frozen=True)
class TextConfig(StackConfig):
    """The text decoder: texts of at most `places` tokens; `tied` if its output layer is no own."""

    vocab_size: int
    special: SpecialIds
    places: int
    tied: bool


def check_kind(config: Settings) -> None:
    """Raise CheckpointError where a config.json is not of a BLIP that writes captions."""
    config.choice("model_type", {"blip": True})
    wanted, kinds = "BlipForConditionalGeneration", config.raw("architectures", [])
    if kinds and (not isinstance(kinds, list) or wanted not in kinds):
        raise config.wrong("architectures", f"[{wanted!r}]: another BLIP does not write captions")


def vision_config(config: Settings) -> VisionConfig:
    """Read the section vision_config. Raises CheckpointError for values that cannot be."""
    own = config.section("vision_config", {})
    image, patch = own.whole("image_size", 384), own.whole("patch_size", 16)
    if image % patch:
        raise own.wrong("image_size", f"a multiple of 'patch_size', which is {patch}")
    return VisionConfig(
        **_stack(own, heads=12, norm_eps=1e-5),
        dropout=0.0,
        attention_dropout=_fraction(own, "attention_dropout"),
        image_size=image,
        patch_size=patch,
    )


def text_config(config: Settings) -> TextConfig:
    """Read the section text_config. Raises CheckpointError for values that cannot be.

    Its encoder_hidden_size is not read: Hugging Face puts the image encoder's width in its place.
    """
    own = config.section("text_config", {})
    if not own.flag("is_decoder", True):
        raise own.wrong("is_decoder", "true: without it, the text does not attend to the image")
    if own.raw("position_embedding_type", "absolute") != "absolute":
        raise own.wrong("position_embedding_type", "'absolute': others are not supported")
    return TextConfig(
        **_stack(own, heads=8, norm_eps=1e-12),
        dropout=_fraction(own, "hidden_dropout_prob"),
        attention_dropout=_fraction(own, "attention_probs_dropout_prob"),
        vocab_size=own.whole("vocab_size", 30524),
        special=SpecialIds(
            pad=_token(own, "pad_token_id", 0),
            begin=_token(own, "bos_token_id", 30522),
            end=_token(own, "sep_token_id", 102),  # not eos_token_id, which BLIP never writes
        ),
        places=own.whole("max_position_embeddings", 512, least=2),
        # Either of the two ties; both have to be false for two tables.
        tied=own.flag("tie_word_embeddings", True) or config.flag("tie_word_embeddings", True),
    )


def _stack(own: Settings, *, heads: int, norm_eps: float) -> dict[str, Any]:
    """Read what both stacks have under one name; two of the defaults are each stack's own."""
    dim, heads = own.whole("hidden_size", 768), own.whole("num_attention_heads", heads)
    if dim % heads:
        raise own.wrong("hidden_size", f"a multiple of 'num_attention_heads', which is {heads}")
    return {
        "dim": dim,
        "hidden": own.whole("intermediate_size", 3072),
        "depth": own.whole("num_hidden_layers", 12),
        "heads": heads,
        "activation": own.choice("hidden_act", ACTIVATIONS, "gelu"),
        "norm_eps": _fraction(own, "layer_norm_eps", norm_eps),
    }


def _fraction(own: Settings, key: str, default: float = 0.0) -> float:
    value = own.number(key, default)
    if not 0 <= value < 1:
        raise own.wrong(key, "0 or more, and below 1")
    return value


def _token(own: Settings, key: str, default: int) -> int:
    number, size = own.whole(key, default, least=0), own.whole("vocab_size", 30524)
    if number >= size:
        raise CheckpointError(
            f"{own.where}: {key!r} is {number}, but the vocabulary has {size} tokens"
        )
    return number
