"""Hugging Face's ViT and DeiT encoders in our own blocks: architecture and weights."""

from typing import Any

import torch
from torch import Tensor

from mmattn.interop.huggingface.activations import ACTIVATIONS
from mmattn.interop.json_settings import Settings
from mmattn.interop.named_weights import NamedWeights
from mmattn.interop.projections import take_separate

# The tokens that each kind puts before the patches.
PREFIX = {"vit": ("cls_token",), "deit": ("cls_token", "distillation_token")}
BLOCK = "encoder.layer.{}."
# Version 5 renamed the blocks and their parts; it still writes the older names, unless told not to.
RENAMED_BLOCK = "layers.{}."
RENAMED = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
POOLER = ("pooler.dense.weight", "pooler.dense.bias")


def vit_architecture(config: Settings) -> dict[str, Any]:
    """Return what `mmattn.architecture.construct` needs for the encoder, its section "vision".

    Raises:
        CheckpointError: for another kind of encoder, or a setting that our blocks do not express.
    """
    config.choice("model_type", dict.fromkeys(PREFIX))
    dim, heads = config.whole("hidden_size", 768), config.whole("num_attention_heads", 12)
    if config.whole("head_dim", dim // heads) != dim // heads:
        raise config.wrong("head_dim", f"hidden_size / num_attention_heads = {dim // heads}")
    if config.raw("pruned_heads", {}):
        raise config.wrong("pruned_heads", "empty: every block has the same heads")
    if config.whole("num_channels", 3) != 3:
        raise config.wrong("num_channels", "3: pictures are read as RGB")
    patch, other = config.pair("patch_size", 16)
    if patch != other:
        raise config.wrong("patch_size", "one number: patches are square here")
    return {
        "image_size": list(config.pair("image_size", 224)),
        "patches": {"kind": "linear", "patch_size": patch, "dim": dim},
        "depth": config.whole("num_hidden_layers", 12),
        "block": {
            "heads": heads,
            "mlp_ratio": config.whole("intermediate_size", 3072) / dim,
            "activation": config.choice("hidden_act", ACTIVATIONS, "gelu"),
            "bias": config.flag("qkv_bias", True),
            "dropout": config.number("hidden_dropout_prob", 0.0),
            "attention_dropout": config.number("attention_probs_dropout_prob", 0.0),
            "norm_eps": config.number("layer_norm_eps", 1e-12),
        },
        "class_token": True,
        "registers": len(PREFIX[config.raw("model_type")]) - 1,
    }


def vit_weights(weights: NamedWeights, prefix: str, config: Settings) -> dict[str, Tensor]:
    """Take the encoder's weights, and return them as those of our `VisionTransformer`.

    The positions of the class and distillation tokens are folded into the tokens. The pooler, which
    a captioner does not ask, is dropped.

    Args:
        weights: of the whole model.
        prefix: what the encoder's names begin with.
        config: its section of config.json.

    Raises:
        CheckpointError: where one is missing or misshaped.
    """
    vision = vit_architecture(config)
    ours = _embeddings(weights, f"{prefix}embeddings.", vision, PREFIX[config.raw("model_type")])
    for i in range(vision["depth"]):
        here, names = prefix + BLOCK.format(i), {name: name for name in RENAMED}
        newer = prefix + RENAMED_BLOCK.format(i)
        if f"{newer}layernorm_before.weight" in weights:
            here, names = newer, RENAMED
        block = _block(weights, {old: here + name for old, name in names.items()}, here, vision)
        ours |= {f"blocks.{i}.{name}": value for name, value in block.items()}
    ours |= weights.take_module(f"{prefix}layernorm", "norm", vision["patches"]["dim"])
    weights.drop(*(prefix + name for name in (*POOLER, "embeddings.mask_token")))
    return ours


def _embeddings(
    weights: NamedWeights, prefix: str, vision: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Take what is before the blocks; `names` are the tokens before the patches."""
    patch, dim = vision["patches"]["patch_size"], vision["patches"]["dim"]
    rows, columns = (side // patch for side in vision["image_size"])
    places = len(names) + rows * columns
    table = weights.take(f"{prefix}position_embeddings", 1, places, dim)[0]
    tokens = torch.cat([weights.take(prefix + name, 1, 1, dim)[0] for name in names])
    return {
        "prefix_tokens": tokens + table[: len(names)],
        "position_table": table[len(names) :],
        **weights.take_module(
            f"{prefix}patch_embeddings.projection", "patches.project", dim, 3, patch, patch
        ),
    }


def _block(
    weights: NamedWeights, names: dict[str, str], here: str, vision: dict[str, Any]
) -> dict[str, Tensor]:
    """Take the weights of one block at `here`; `names` are those of its linear maps."""
    dim = vision["patches"]["dim"]
    hidden = round(dim * vision["block"]["mlp_ratio"])
    inputs = [names[f"attention.attention.{name}"] for name in ("query", "key", "value")]
    bias = vision["block"]["bias"]
    return {
        **take_separate(weights, inputs, "self_attention", dim, dim, bias=bias),
        **weights.take_module(f"{here}layernorm_before", "self_norm", dim),
        **weights.take_module(names["attention.output.dense"], "self_attention.to_out", dim, dim),
        **weights.take_module(f"{here}layernorm_after", "mlp_norm", dim),
        **weights.take_module(names["intermediate.dense"], "mlp.up", hidden, dim),
        **weights.take_module(names["output.dense"], "mlp.down", dim, hidden),
    }
