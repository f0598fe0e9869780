"""BLIP's parameters by our names: joint projections split or joined, positions folded, head tied.

Letters: D is the width of the stack at hand, C the width of the image tokens, V the vocabulary.
"""

import torch
from torch import Tensor

from mmattn.interop.huggingface.blip_config import TextConfig, VisionConfig
from mmattn.interop.named_weights import NamedWeights
from mmattn.interop.projections import take_joint, take_separate

Weights = dict[str, Tensor]
WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
HEAD = "text_decoder.cls.predictions"
OUTPUT = f"{HEAD}.decoder.weight"
# Numbers 0, 1, 2, … that older files hold beside the weights.
PLACES = "text_decoder.bert.embeddings.position_ids"


def by_todays_names(state: Weights) -> Weights:
    """Return a state dict of older names by those of today, as Hugging Face's library does."""
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix("blip.")
        for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
            if name.endswith(f"LayerNorm{old}"):
                name = name.removesuffix(old) + new
        renamed[name] = value
    renamed.pop(PLACES, None)
    return renamed


def take_vision(weights: NamedWeights, config: VisionConfig) -> Weights:
    """Take the image encoder's parameters, by the names of `VisionTransformer`.

    The first position is the class token's: it is added to the token, for nothing else sees it.
    """
    embeddings, D, patch = "vision_model.embeddings", config.dim, config.patch_size
    places = (config.image_size // patch) ** 2
    token = weights.take(f"{embeddings}.class_embedding", 1, 1, D)[0]
    table = weights.take(f"{embeddings}.position_embedding", 1, 1 + places, D)[0]
    ours = {"prefix_tokens": token + table[:1], "position_table": table[1:]}
    ours |= weights.take_module(
        f"{embeddings}.patch_embedding", "patches.project", D, 3, patch, patch
    )
    ours |= weights.take_module("vision_model.post_layernorm", "norm", D)
    for i in range(config.depth):
        old, new = f"vision_model.encoder.layers.{i}", f"blocks.{i}"
        attention, inputs = f"{new}.self_attention", f"{old}.self_attn.qkv"
        ours |= take_joint(weights, attention, D, weight=f"{inputs}.weight", bias=f"{inputs}.bias")
        ours |= weights.take_module(f"{old}.self_attn.projection", f"{attention}.to_out", D, D)
        ours |= weights.take_module(f"{old}.layer_norm1", f"{new}.self_norm", D)
        ours |= weights.take_module(f"{old}.mlp.fc1", f"{new}.mlp.up", config.hidden, D)
        ours |= weights.take_module(f"{old}.mlp.fc2", f"{new}.mlp.down", D, config.hidden)
        ours |= weights.take_module(f"{old}.layer_norm2", f"{new}.mlp_norm", D)
    return ours


def take_text(weights: NamedWeights, config: TextConfig, C: int) -> Weights:
    """Take the text decoder's parameters, by the names of `TextTransformer`.

    There is no `head.weight` where the output layer shares the token embeddings.
    """
    bert, D = "text_decoder.bert", config.dim
    table = f"{bert}.embeddings.position_embeddings.weight"
    ours = {"positions.table": weights.take(table, config.places, D)}
    ours |= weights.take_module(f"{bert}.embeddings.LayerNorm", "embed_norm", D)
    for i in range(config.depth):
        old, new = f"{bert}.encoder.layer.{i}", f"blocks.{i}"
        ours |= _take_attention(weights, f"{old}.attention", f"{new}.self", D, D)
        ours |= _take_attention(weights, f"{old}.crossattention", f"{new}.cross", D, C)
        ours |= weights.take_module(f"{old}.intermediate.dense", f"{new}.mlp.up", config.hidden, D)
        ours |= weights.take_module(f"{old}.output.dense", f"{new}.mlp.down", D, config.hidden)
        ours |= weights.take_module(f"{old}.output.LayerNorm", f"{new}.mlp_norm", D)
    return ours | _take_head(weights, config)


def _take_attention(weights: NamedWeights, old: str, new: str, D: int, C: int) -> Weights:
    """Take one of BERT's attentions, to tokens of width C, and the normalisation behind it."""
    inputs = [f"{old}.self.{name}" for name in ("query", "key", "value")]
    return {
        **take_separate(weights, inputs, f"{new}_attention", D, C),
        **weights.take_module(f"{old}.output.dense", f"{new}_attention.to_out", D, D),
        **weights.take_module(f"{old}.output.LayerNorm", f"{new}_norm", D),
    }


def _take_head(weights: NamedWeights, config: TextConfig) -> Weights:
    """Take the token embeddings and what makes scores of hidden states.

    The output layer's bias has two names, and a file may hold both: the second is then unused.
    """
    D, names = config.dim, (f"{HEAD}.decoder.bias", f"{HEAD}.bias")
    ours = weights.take_module(f"{HEAD}.transform.dense", "head_transform.linear", D, D)
    ours |= weights.take_module(f"{HEAD}.transform.LayerNorm", "head_transform.norm", D)
    bias = names[0] if names[0] in weights else names[1]
    ours["head_bias"] = weights.take(bias, config.vocab_size)
    weights.drop(names[1])
    words, output = _take_words(weights, config)
    ours["embedding.weight"] = words
    return ours if output is None else ours | {"head.weight": output}


def _take_words(weights: NamedWeights, config: TextConfig) -> tuple[Tensor, Tensor | None]:
    """Take the token embeddings, and the output layer's weight where it is another one.

    A shared weight may stand under either name. Where a file holds both and they differ, they are
    not shared, whatever its config.json says: so does Hugging Face's library.
    """
    V, D = config.vocab_size, config.dim
    if config.tied and (WORDS in weights) != (OUTPUT in weights):
        return weights.take(WORDS if WORDS in weights else OUTPUT, V, D), None
    words = weights.take(WORDS, V, D)
    if config.tied and OUTPUT not in weights:
        return words, None
    output = weights.take(OUTPUT, V, D)
    return words, None if config.tied and torch.equal(words, output) else output
