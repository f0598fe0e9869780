"""The weights of open_clip's CoCa under our own names.

Letters: W is the width of the image tower, C that of its pooled tokens, D that of the text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from mmattn.interop.named_weights import NamedWeights
from mmattn.interop.projections import projections, take_joint

Weights = dict[str, Tensor]
# What only compares images with texts, and masks that older versions stored.
UNUSED = ("logit_scale", "logit_bias", "visual.proj", "text.cls_emb", "text.ln_final.")
UNUSED += ("text.text_projection", "text.attn_mask", "text_decoder.attn_mask")


def translate(
    state: Weights, architecture: Mapping[str, Any], source: str, contrastive: int
) -> Weights:
    """Return open_clip's weights under our names.

    Args:
        state: what open_clip's file holds.
        architecture: of our model, see `mmattn.architecture.describe`.
        source: what to call the file in messages.
        contrastive: how many of the pooler's queries come first and are not for the decoder.

    Raises:
        CheckpointError: for a weight that is missing or misshaped, or that nothing was made of.
    """
    # A model that was trained on several devices names its weights below "module".
    named = {name.removeprefix("module."): value for name, value in state.items()}
    weights = NamedWeights(named, source)
    weights.drop_below(*UNUSED)
    ours = _vision(weights, architecture["vision"], contrastive)
    ours |= _text(weights, architecture["text"])
    weights.refuse_rest()
    return ours


def _vision(weights: NamedWeights, vision: Mapping[str, Any], contrastive: int) -> Weights:
    """Take the image tower, its pooler included."""
    patch, W = vision["patches"]["patch_size"], vision["patches"]["dim"]
    rows, columns = (side // patch for side in vision["image_size"])
    table = weights.take("visual.positional_embedding", 1 + rows * columns, W)
    token = weights.take("visual.class_embedding", W)
    patches = weights.take("visual.conv1.weight", W, 3, patch, patch)
    ours = {
        "vision.patches.project.weight": patches,
        "vision.patches.project.bias": patches.new_zeros(W),  # open_clip has none
        "vision.prefix_tokens": (token + table[0])[None],
        "vision.position_table": table[1:],
    }
    if vision["embed_norm"] is not None:
        ours |= weights.take_module("visual.ln_pre", "vision.embed_norm", W)
    for i in range(vision["depth"]):
        theirs, own = f"visual.transformer.resblocks.{i}.", f"vision.blocks.{i}."
        ours |= _block(weights, theirs, own, "self", W, vision["block"])
    ours |= _pooler(weights, vision["pooler"], contrastive)
    return ours | weights.take_module("visual.ln_post", "vision.norm", vision["pooler"]["dim"])


def _pooler(weights: NamedWeights, pooler: Mapping[str, Any], contrastive: int) -> Weights:
    C, W, own = pooler["dim"], pooler["context_dim"], "vision.pooler.attention"
    queries = weights.take("visual.attn_pool.query", contrastive + pooler["queries"], C)
    return {
        "vision.pooler.queries": queries[contrastive:],
        **weights.take_module("visual.attn_pool.ln_q", "vision.pooler.query_norm", C),
        **weights.take_module("visual.attn_pool.ln_k", f"{own}.context_norm", W),
        **_inputs(weights, "visual.attn_pool.attn.", own, C, W),
        **weights.take_module("visual.attn_pool.attn.out_proj", f"{own}.to_out", C, C),
    }


def _text(weights: NamedWeights, text: Mapping[str, Any]) -> Weights:
    """Take the unimodal blocks, the multimodal ones, and what is around them."""
    V, D, longest = text["vocab_size"], text["dim"], text["max_length"]
    # The last position is the class token's, behind the longest text.
    table = weights.take("text.positional_embedding", longest + 1, D)
    ours = {
        "text.embedding.weight": weights.take("text.token_embedding.weight", V, D),
        "text.positions.table": table[:-1],
        "text.head.weight": weights.take("text_decoder.text_projection", D, V).T,
    }
    for i, (theirs, kind) in enumerate(text_blocks(text["layout"])):
        ours |= _block(weights, theirs, f"text.blocks.{i}.", kind, D, text["block"])
    return ours | weights.take_module("text_decoder.ln_final", "text.norm", D)


def text_blocks(layout: list[str]) -> Iterator[tuple[str, str]]:
    """Yield open_clip's name of every block of the text, and which attention it has."""
    unimodal = len(layout) - 2 * layout.count("cross")
    for i, kind in enumerate(layout):
        if i < unimodal:
            yield f"text.transformer.resblocks.{i}.", kind
        else:
            stack = "cross_attn" if kind == "cross" else "resblocks"
            yield f"text_decoder.{stack}.{(i - unimodal) // 2}.", kind


def _block(
    weights: NamedWeights, theirs: str, own: str, kind: str, D: int, options: Mapping[str, Any]
) -> Weights:
    """Take a block of width D, which attends to tokens of the same width."""
    attention, hidden = f"{own}{kind}_attention", round(D * options["mlp_ratio"])
    ours = {
        **weights.take_module(f"{theirs}ln_1", f"{own}{kind}_norm", D),
        **_inputs(weights, f"{theirs}attn.", attention, D, D),
        **weights.take_module(f"{theirs}attn.out_proj", f"{attention}.to_out", D, D),
        **weights.take_module(f"{theirs}ln_2", f"{own}mlp_norm", D),
        **weights.take_module(f"{theirs}mlp.c_fc", f"{own}mlp.up", hidden, D),
        **weights.take_module(f"{theirs}mlp.c_proj", f"{own}mlp.down", D, hidden),
    }
    if kind == "cross":
        ours |= weights.take_module(f"{theirs}ln_1_kv", f"{attention}.context_norm", D)
    if options.get("qk_norm") is not None:
        for part in "qk":
            name, width = f"{theirs}attn.ln_{part}", D // options["heads"]
            ours |= weights.take_module(name, f"{attention}.{part}_norm", width)
    if options["layer_scale"] is not None:
        ours[f"{own}{kind}_residual.scale"] = weights.take(f"{theirs}ls_1.gamma", D)
        ours[f"{own}mlp_residual.scale"] = weights.take(f"{theirs}ls_2.gamma", D)
    return ours


def _inputs(weights: NamedWeights, theirs: str, own: str, D: int, C: int) -> Weights:
    """Take what makes queries, keys and values: one weight, or three where D and C differ."""
    if D == C:
        names = {"weight": f"{theirs}in_proj_weight", "bias": f"{theirs}in_proj_bias"}
        return take_joint(weights, own, D, **names)
    shapes = {"q": (D, D), "k": (D, C), "v": (D, C)}
    apart = [weights.take(f"{theirs}{x}_proj_weight", *shape) for x, shape in shapes.items()]
    biases = weights.take(f"{theirs}in_proj_bias", 3 * D).chunk(3)
    return projections(own, "weight", *apart) | projections(own, "bias", *biases)
