"""timm's vision transformers in our own blocks, with equal outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.backbones import create_timm_model
from mmattn.blocks import BlockOptions
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

    Its outputs equal timm's `forward_features`; distilled DeiT and register tokens included.

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
            qk_norm=None if isinstance(block.attn.q_norm, nn.Identity) else "layer",
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
        embed_norm=None if isinstance(reference.norm_pre, nn.Identity) else "layer",
        gradient_checkpointing=gradient_checkpointing,
    )
    load_exactly(model, _translate(reference.state_dict(), model), type(reference).__name__)
    if image_size is not None:
        model.resize((image_size[0], image_size[1]))
    return model


def _check_expressible(reference: Any) -> None:
    """Refuse what our blocks do not express, rather than load weights that give other outputs."""
    block = reference.blocks[0] if hasattr(reference, "blocks") else None
    linear_patches = hasattr(getattr(reference, "patch_embed", None), "proj")
    if block is None or not hasattr(block, "attn") or not linear_patches:
        raise ValueError(
            f"{type(reference).__name__} is not a plain vision transformer: "
            "use mmattn.backbones.TimmPatches, which takes any timm model by its feature map"
        )
    refused = [
        what
        for what, present in {
            "a gated feed-forward network": not hasattr(block.mlp, "fc1"),
            "rotary or relative positions": reference.pos_embed is None,
            "normalised attention output": not isinstance(
                getattr(block.attn, "norm", nn.Identity()), nn.Identity
            ),
            "parallel blocks": not hasattr(block, "norm2"),
            "patches that are not square": len(set(reference.patch_embed.patch_size)) != 1,
            "no final normalisation": isinstance(reference.norm, nn.Identity)
            and isinstance(getattr(reference, "fc_norm", nn.Identity()), nn.Identity),
        }.items()
        if present
    ]
    if refused:
        raise ValueError(f"{type(reference).__name__} has {', '.join(refused)}: not supported")


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
    weight = state["patch_embed.proj.weight"]
    no_bias = weight.new_zeros(len(weight))  # CLIP's patches have none
    ours = {
        "patches.project.weight": weight,
        "patches.project.bias": state.get("patch_embed.proj.bias", no_bias),
    }
    tokens = [state[name][0] for name in ("cls_token", "dist_token", "reg_token") if name in state]
    table, grid = state["pos_embed"][0], model.grid
    extra = len(table) - grid[0] * grid[1]  # positions that belong to prefix tokens
    if tokens:
        prefix = torch.cat(tokens)
        ours["prefix_tokens"] = prefix + table[:extra] if extra else prefix
    ours["position_table"] = table[extra:]
    if "norm_pre.weight" in state:
        ours |= {f"embed_norm.{part}": state[f"norm_pre.{part}"] for part in ("weight", "bias")}
    final = "norm" if "norm.weight" in state else "fc_norm"
    ours |= {f"norm.{part}": state[f"{final}.{part}"] for part in ("weight", "bias")}
    for i in range(model.depth):
        prefix_of_block = f"blocks.{i}."
        own = {
            name.removeprefix(prefix_of_block): value
            for name, value in state.items()
            if name.startswith(prefix_of_block)
        }
        ours |= {prefix_of_block + name: value for name, value in _translate_block(own).items()}
    return ours


def _translate_block(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "norm1": "self_norm",
        "attn.proj": "self_attention.to_out",
        "attn.q_norm": "self_attention.q_norm",
        "attn.k_norm": "self_attention.k_norm",
        "norm2": "mlp_norm",
        "mlp.fc1": "mlp.up",
        "mlp.fc2": "mlp.down",
    }
    ours = {
        f"{new}.{part}": state[f"{old}.{part}"]
        for old, new in names.items()
        for part in ("weight", "bias")
        if f"{old}.{part}" in state
    }
    for part in ("weight", "bias"):
        if f"attn.qkv.{part}" in state:
            q, k, v = state[f"attn.qkv.{part}"].chunk(3)
            ours[f"self_attention.to_q.{part}"] = q
            ours[f"self_attention.to_kv.{part}"] = torch.cat([k, v])
    for old, new in (("ls1", "self_residual"), ("ls2", "mlp_residual")):
        if f"{old}.gamma" in state:
            ours[f"{new}.scale"] = state[f"{old}.gamma"]
    return ours
