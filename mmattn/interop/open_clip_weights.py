"""The weights of open_clip's CoCa under our own names."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError

# What only compares images with texts, and masks that older versions stored.
UNUSED = ("logit_scale", "logit_bias", "visual.proj", "text.cls_emb", "text.ln_final.")
UNUSED += ("text.text_projection", "text.attn_mask", "text_decoder.attn_mask")
MODULES = {
    "visual.ln_pre": "vision.embed_norm",
    "visual.attn_pool.ln_q": "vision.pooler.query_norm",
    "visual.attn_pool.ln_k": "vision.pooler.attention.context_norm",
    "visual.attn_pool.attn.out_proj": "vision.pooler.attention.to_out",
    "visual.ln_post": "vision.norm",
    "text_decoder.ln_final": "text.norm",
}


def translate(
    state: dict[str, Tensor], model: Captioner, source: str, contrastive: int = 1
) -> dict[str, Tensor]:
    """Return open_clip's weights under our names.

    Args:
        state: what open_clip's file holds.
        model: our model of the same architecture.
        source: what to call the file in messages.
        contrastive: how many of the pooler's queries come first and are not for the decoder.

    Raises:
        CheckpointError: for a weight that is missing, or that nothing was made of.
    """
    # A model that was trained on several devices names its weights below "module".
    weights = Weights({name.removeprefix("module."): state[name] for name in state}, source)
    ours = {**_around_the_blocks(weights, contrastive), **weights.renamed(MODULES)}
    ours |= weights.projections("visual.attn_pool.attn.", "vision.pooler.attention.")
    for theirs, own, kind in block_places(model):
        ours |= _block(weights, theirs, own, kind)
    rest = sorted(name for name in weights.left if not name.startswith(UNUSED))
    if rest:
        shown = ", ".join(rest[:4]) + (" …" if len(rest) > 4 else "")
        raise CheckpointError(f"{source}: weights without a counterpart here: {shown}")
    return ours


def block_places(model: Captioner) -> Iterator[tuple[str, str, str]]:
    """Yield of every block open_clip's name, ours, and which attention it has."""
    for i in range(model.vision.depth):
        yield f"visual.transformer.resblocks.{i}.", f"vision.blocks.{i}.", "self"
    unimodal = model.text.depth - 2 * len(model.text.cross_layers)
    for i, kind in enumerate(model.text.layout):
        stack = "text.transformer.resblocks" if i < unimodal else "text_decoder.resblocks"
        stack = "text_decoder.cross_attn" if kind == "cross" else stack
        place = i if i < unimodal else (i - unimodal) // 2
        yield f"{stack}.{place}.", f"text.blocks.{i}.", kind


class Weights:
    """Weights that are taken one after the other; what is `left` in the end was not understood."""

    def __init__(self, state: dict[str, Tensor], source: str):
        self.left, self.source = state, source

    def take(self, name: str) -> Tensor:
        """Return one weight. Raises CheckpointError where it is missing."""
        if name not in self.left:
            raise CheckpointError(f"{self.source}: has no {name}")
        return self.left.pop(name)

    def renamed(self, modules: dict[str, str]) -> dict[str, Tensor]:
        """Return the weights and biases of those of the modules that are there."""
        return {
            f"{own}.{part}": self.left.pop(f"{theirs}.{part}")
            for theirs, own in modules.items()
            for part in ("weight", "bias")
            if f"{theirs}.{part}" in self.left
        }

    def projections(self, theirs: str, own: str) -> dict[str, Tensor]:
        """Return an attention's three projections in; the queries' width may be another one."""
        if f"{theirs}in_proj_weight" in self.left:
            q, k, v = self.take(f"{theirs}in_proj_weight").chunk(3)
        else:
            q, k, v = (self.take(f"{theirs}{one}_proj_weight") for one in "qkv")
        bias_q, bias_k, bias_v = self.take(f"{theirs}in_proj_bias").chunk(3)
        return {
            f"{own}to_q.weight": q,
            f"{own}to_q.bias": bias_q,
            f"{own}to_kv.weight": torch.cat([k, v]),
            f"{own}to_kv.bias": torch.cat([bias_k, bias_v]),
        }


def _around_the_blocks(weights: Weights, contrastive: int) -> dict[str, Tensor]:
    patches = weights.take("visual.conv1.weight")
    positions = weights.take("visual.positional_embedding")
    return {
        "vision.patches.project.weight": patches,
        "vision.patches.project.bias": patches.new_zeros(len(patches)),  # open_clip has none
        "vision.prefix_tokens": (weights.take("visual.class_embedding") + positions[0])[None],
        "vision.position_table": positions[1:],
        "vision.pooler.queries": weights.take("visual.attn_pool.query")[contrastive:],
        "text.embedding.weight": weights.take("text.token_embedding.weight"),
        # The last one is the class token's, behind the longest text.
        "text.positions.table": weights.take("text.positional_embedding")[:-1],
        "text.head.weight": weights.take("text_decoder.text_projection").T,
    }


def _block(weights: Weights, theirs: str, own: str, kind: str) -> dict[str, Tensor]:
    modules = {
        "ln_1": f"{kind}_norm",
        "ln_1_kv": f"{kind}_attention.context_norm",
        "attn.ln_q": f"{kind}_attention.q_norm",
        "attn.ln_k": f"{kind}_attention.k_norm",
        "attn.out_proj": f"{kind}_attention.to_out",
        "ln_2": "mlp_norm",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
    }
    ours = weights.renamed({theirs + old: own + new for old, new in modules.items()})
    ours |= weights.projections(f"{theirs}attn.", f"{own}{kind}_attention.")
    for scale, residual in (("ls_1", f"{kind}_residual"), ("ls_2", "mlp_residual")):
        if f"{theirs}{scale}.gamma" in weights.left:
            ours[f"{own}{residual}.scale"] = weights.take(f"{theirs}{scale}.gamma")
    return ours
