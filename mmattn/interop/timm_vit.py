"""timm's vision transformers in our own blocks, with equal outputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.backbones import create_timm_model
from mmattn.blocks import BlockOptions
from mmattn.interop.projections import projections
from mmattn.patches import LinearPatches
from mmattn.vision import VisionTransformer
from mmattn.weights import load_exactly


def timm_vision_transformer(
    name: str,
    *,
    image_size: Sequence[int] | None = None,
    pretrained: bool | str = False,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
    gradient_checkpointing: bool = False,
    options: Mapping[str, Any] | None = None,
) -> VisionTransformer:
    """Build timm's vision transformer `name` from our own blocks, with timm's weights in it.

    Its outputs equal timm's `forward_features`; distilled DeiT and register tokens included. Where
    timm normalises only after its pooling (`fc_norm`), here every token is normalised by it.

    Args:
        name: timm's name, such as "vit_small_patch16_224".
        image_size: (height, width); timm's own size if None. Positions are interpolated.
        pretrained: False for random weights, True for the weights timm downloads for this name, or
            the path of a local file that holds them.
        dropout, attention_dropout, drop_path, gradient_checkpointing: see `BlockOptions` and
            `VisionTransformer`.
        options: further arguments of `timm.create_model`.

    Raises:
        ValueError: for a model that our blocks do not express, naming what differs.
    """
    reference = create_timm_model(name, pretrained, options)
    model = convert_timm_vit(
        reference,
        image_size=image_size,
        dropout=dropout,
        attention_dropout=attention_dropout,
        drop_path=drop_path,
        gradient_checkpointing=gradient_checkpointing,
    )
    return model


def convert_timm_vit(
    reference: Any,
    *,
    image_size: Sequence[int] | None = None,
    dropout: float = 0.0,
    attention_dropout: float = 0.0,
    drop_path: float = 0.0,
    gradient_checkpointing: bool = False,
) -> VisionTransformer:
    """Return our vision transformer with the architecture and the weights of a timm one."""
    _check_expressible(reference)
    patch = reference.patch_embed
    block = reference.blocks[0]
    prefix = int(reference.num_prefix_tokens)
    model = VisionTransformer(
        image_size=tuple(patch.img_size),
        patches=LinearPatches(
            patch.patch_size[0], reference.embed_dim, channels=patch.proj.in_channels
        ),
        depth=len(reference.blocks),
        block=BlockOptions(
            heads=block.attn.num_heads,
            mlp_ratio=block.mlp.fc1.out_features / reference.embed_dim,
            activation=_activation(block.mlp.act),
            norm=_norm_kind(_final_norm(reference)) or "layer",
            qk_norm=_norm_kind(block.attn.q_norm),
            layer_scale=None if isinstance(block.ls1, nn.Identity) else 1.0,
            bias=block.attn.qkv.bias is not None,
            norm_eps=block.norm1.eps,
            dropout=dropout,
            attention_dropout=attention_dropout,
            drop_path=drop_path,
        ),
        class_token=reference.cls_token is not None,
        registers=prefix - int(reference.cls_token is not None),
        position="learned",
        embed_norm=_norm_kind(reference.norm_pre),
        gradient_checkpointing=gradient_checkpointing,
    )
    load_exactly(model, _translate(reference.state_dict(), model), type(reference).__name__)
    if image_size is not None:
        model.resize((image_size[0], image_size[1]))
    return model


def _check_expressible(reference: Any) -> None:
    """Refuse what our blocks do not express, rather than load weights that give other outputs."""
    kind = type(reference).__name__
    if kind not in ("VisionTransformer", "VisionTransformerDistilled"):
        rotary = ", with rotary positions" if getattr(reference, "rope", None) is not None else ""
        raise ValueError(
            f"{kind} is not a plain vision transformer{rotary}: "
            "use mmattn.backbones.TimmPatches, which takes any timm model by its feature map"
        )
    block = reference.blocks[0]
    parts = {
        "PatchEmbed": reference.patch_embed,
        "Block": block,
        "Attention": getattr(block, "attn", None),
        "Mlp": getattr(block, "mlp", None),
    }
    # Names, not isinstance: a subclass is there because it computes something else.
    refused = [
        f"{type(part).__name__} in the place of {plain}"
        for plain, part in parts.items()
        if part is not None and type(part).__name__ != plain
    ]
    if len(set(reference.patch_embed.patch_size)) != 1:
        refused.append("patches that are not square")
    if reference.pos_embed is None:
        refused.append("no learned positions")
    if isinstance(_final_norm(reference), nn.Identity):
        refused.append("no final normalisation")
    if refused:
        raise ValueError(f"{kind} has {', '.join(refused)}: not supported")


def _final_norm(reference: Any) -> nn.Module:
    """Return what normalises the tokens: timm's `norm`, or `fc_norm` where it pools before that."""
    return reference.fc_norm if isinstance(reference.norm, nn.Identity) else reference.norm


def _norm_kind(module: nn.Module) -> str | None:
    """Return "layer", "rms" or, for no normalisation, None."""
    kinds = {"LayerNorm": "layer", "RMSNorm": "rms", "RmsNorm": "rms", "Identity": None}
    if type(module).__name__ not in kinds:
        raise ValueError(f"normalisation {type(module).__name__} is not supported")
    return kinds[type(module).__name__]


def _activation(module: nn.Module) -> str:
    if isinstance(module, nn.GELU):
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    if type(module).__name__ == "GELUTanh":
        return "gelu_tanh"
    if type(module).__name__ == "GELU":
        return "gelu"
    raise ValueError(f"activation {type(module).__name__} is not supported: only GELU is")


def _translate(state: dict[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """Rename timm's parameters; split its joint qkv; fold the prefix positions into the tokens."""
    state = dict(state)
    weight = state.pop("patch_embed.proj.weight")
    no_bias = weight.new_zeros(len(weight))  # CLIP's patches have none
    ours = {
        "patches.project.weight": weight,
        "patches.project.bias": state.pop("patch_embed.proj.bias", no_bias),
    }
    names = [name for name in ("cls_token", "dist_token", "reg_token") if name in state]
    tokens = [state.pop(name)[0] for name in names]
    table, grid = state.pop("pos_embed")[0], model.grid
    extra = len(table) - grid[0] * grid[1]  # positions that belong to prefix tokens
    if tokens:
        prefix = torch.cat(tokens)
        ours["prefix_tokens"] = prefix + table[:extra] if extra else prefix
    ours["position_table"] = table[extra:]
    final = "norm" if "norm.weight" in state else "fc_norm"
    ours |= _rename(state, {"norm_pre": "embed_norm", final: "norm"})
    for i in range(model.depth):
        here = f"blocks.{i}."
        own = {name: state.pop(name) for name in list(state) if name.startswith(here)}
        block = _translate_block({name.removeprefix(here): own[name] for name in own})
        ours |= {here + name: value for name, value in block.items()}
    after = ("head.", "head_dist.", "fc_norm.", "attn_pool.")  # what makes class scores of tokens
    _refuse_rest(name for name in state if not name.startswith(after))
    return ours


def _translate_block(state: dict[str, Tensor]) -> dict[str, Tensor]:
    ours = _rename(
        state,
        {
            "norm1": "self_norm",
            "attn.proj": "self_attention.to_out",
            "attn.q_norm": "self_attention.q_norm",
            "attn.k_norm": "self_attention.k_norm",
            "norm2": "mlp_norm",
            "mlp.fc1": "mlp.up",
            "mlp.fc2": "mlp.down",
        },
    )
    for part in ("weight", "bias"):
        if f"attn.qkv.{part}" in state:
            ours |= projections("self_attention", part, *state.pop(f"attn.qkv.{part}").chunk(3))
    for old, new in (("ls1", "self_residual"), ("ls2", "mlp_residual")):
        if f"{old}.gamma" in state:
            ours[f"{new}.scale"] = state.pop(f"{old}.gamma")
    _refuse_rest(state)
    return ours


def _rename(state: dict[str, Tensor], modules: dict[str, str]) -> dict[str, Tensor]:
    """Take the weights and biases of `modules` out of `state`, under our names for them."""
    return {
        f"{new}.{part}": state.pop(f"{old}.{part}")
        for old, new in modules.items()
        for part in ("weight", "bias")
        if f"{old}.{part}" in state
    }


def _refuse_rest(names: Iterable[str]) -> None:
    """Refuse parameters that nothing was made of: the outputs would differ without a word."""
    if rest := sorted(names):
        raise ValueError(f"parameters without a counterpart here: {', '.join(rest)}: not supported")
