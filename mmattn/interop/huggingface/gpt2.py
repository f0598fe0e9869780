"""Hugging Face's GPT-2 with cross-attention in our own blocks: architecture and weights."""

from typing import Any

import torch
from torch import Tensor

from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.activations import ACTIVATIONS
from mmattn.interop.json_settings import Settings
from mmattn.interop.named_weights import NamedWeights

ATTENTIONS = ("attn", "crossattention")


def gpt2_architecture(config: Settings) -> dict[str, Any]:
    """Return what `mmattn.architecture.construct` needs for the decoder, its section "text".

    Raises:
        CheckpointError: for another kind of decoder, or a setting that our blocks do not express.
    """
    config.choice("model_type", {"gpt2": None})
    if not config.flag("add_cross_attention", False):
        raise config.wrong("add_cross_attention", "true: a captioner's decoder sees the image")
    if config.raw("pruned_heads", {}):
        raise config.wrong("pruned_heads", "empty: every block has the same heads")
    dim = config.whole("n_embd", 768)
    return {
        "vocab_size": config.whole("vocab_size", 50257),
        "dim": dim,
        "depth": config.whole("n_layer", 12),
        "block": {
            "heads": config.whole("n_head", 12),
            "mlp_ratio": config.whole("n_inner", 4 * dim) / dim,
            "activation": config.choice("activation_function", ACTIVATIONS, "gelu_new"),
            "dropout": config.number("resid_pdrop", 0.1),
            "attention_dropout": config.number("attn_pdrop", 0.1),
            "norm_eps": config.number("layer_norm_epsilon", 1e-5),
        },
        "max_length": config.whole("n_positions", 1024),
        "context_dim": dim,
        "tie_embeddings": config.flag("tie_word_embeddings", True),
    }


def gpt2_weights(weights: NamedWeights, prefix: str, config: Settings) -> dict[str, Tensor]:
    """Take the decoder's weights, and return them as those of our `TextTransformer`.

    How attention is scaled is folded into the queries.

    Args:
        weights: of the whole model.
        prefix: what the decoder's names begin with.
        config: its section of config.json.

    Raises:
        CheckpointError: where one is missing or misshaped, or the output layer is tied to the token
            embeddings and yet differs from them.
    """
    text, inside = gpt2_architecture(config), f"{prefix}transformer."
    ours = _embeddings(weights, prefix, text)
    ours["positions.table"] = weights.take(f"{inside}wpe.weight", text["max_length"], text["dim"])
    for i in range(text["depth"]):
        block = _block(weights, f"{inside}h.{i}.", text, query_scale(config, i))
        ours |= {f"blocks.{i}.{name}": value for name, value in block.items()}
    return ours | weights.take_module(f"{inside}ln_f", "norm", text["dim"])


def query_scale(config: Settings, layer: int) -> float:
    """Return by what queries are multiplied, so that our 1/√K does what the settings say."""
    scale = 1.0
    if not config.flag("scale_attn_weights", True):
        scale = (config.whole("n_embd", 768) // config.whole("n_head", 12)) ** 0.5
    if config.flag("scale_attn_by_inverse_layer_idx", False):
        scale /= layer + 1
    return scale


def _embeddings(weights: NamedWeights, prefix: str, text: dict[str, Any]) -> dict[str, Tensor]:
    """Take the token embeddings and the output layer, of which a file may hold one for both."""
    embedding, head = f"{prefix}transformer.wte.weight", f"{prefix}lm_head.weight"
    shape, tied = (text["vocab_size"], text["dim"]), text["tie_embeddings"]
    if tied and head in weights and embedding not in weights:
        return {"embedding.weight": weights.take(head, *shape)}
    ours = {"embedding.weight": weights.take(embedding, *shape)}
    if not tied:
        ours["head.weight"] = weights.take(head, *shape)
    elif head in weights and not torch.equal(weights.take(head, *shape), *ours.values()):
        raise CheckpointError(
            f"{weights.source}: by config.json {head} is tied to {embedding}, but they differ: set "
            "the decoder's 'tie_word_embeddings' to false if both are meant"
        )
    return ours


def _block(
    weights: NamedWeights, here: str, text: dict[str, Any], scale: float
) -> dict[str, Tensor]:
    """Take the weights of one block at `here`; queries are multiplied by `scale`."""
    dim = text["dim"]
    hidden = round(dim * text["block"]["mlp_ratio"])
    # The causal masks that older versions stored.
    masks = [f"{at}.{name}" for at in ATTENTIONS for name in ("bias", "masked_bias")]
    weights.drop(*(here + name for name in masks))
    joint = _conv1d(weights, f"{here}attn.c_attn", dim, 3 * dim)
    query = _conv1d(weights, f"{here}crossattention.q_attn", dim, dim)
    linear = {
        "self_attention.to_q": {part: value[:dim] * scale for part, value in joint.items()},
        "self_attention.to_kv": {part: value[dim:] for part, value in joint.items()},
        "self_attention.to_out": _conv1d(weights, f"{here}attn.c_proj", dim, dim),
        "cross_attention.to_q": {part: value * scale for part, value in query.items()},
        "cross_attention.to_kv": _conv1d(weights, f"{here}crossattention.c_attn", dim, 2 * dim),
        "cross_attention.to_out": _conv1d(weights, f"{here}crossattention.c_proj", dim, dim),
        "mlp.up": _conv1d(weights, f"{here}mlp.c_fc", dim, hidden),
        "mlp.down": _conv1d(weights, f"{here}mlp.c_proj", hidden, dim),
    }
    return {
        **{f"{at}.{part}": value for at, parts in linear.items() for part, value in parts.items()},
        **weights.take_module(f"{here}ln_1", "self_norm", dim),
        **weights.take_module(f"{here}ln_cross_attn", "cross_norm", dim),
        **weights.take_module(f"{here}ln_2", "mlp_norm", dim),
    }


def _conv1d(weights: NamedWeights, name: str, into: int, out: int) -> dict[str, Tensor]:
    """Take a linear map whose weight is stored as [into, out]."""
    return {
        "weight": weights.take(f"{name}.weight", into, out).t(),
        "bias": weights.take(f"{name}.bias", out),
    }
