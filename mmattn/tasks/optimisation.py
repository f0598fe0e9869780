"""Which parameters decay, how fast each layer learns, and the learning rate over a run."""

import math
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# Tokens and position tables by their names, here and in timm's backbones.
NO_DECAY = ("prefix_tokens", "position_table", ".table", "_token", "pos_embed", "bias_table")


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict]:
    """Return AdamW's parameter groups.

    Norms, biases, tokens and position tables (all with fewer than two dimensions, or named so) do
    not decay. With `layer_decay` < 1 layer i of n of each of the model's `encoders` learns at
    lr·layer_decay^(n-i) (Clark et al. 2020; BEiT, Bao et al. 2022): the earliest layers, which
    pretraining has set well, move least.
    """
    groups: dict[tuple[float, float], dict] = {}
    scales = dict(layer_scales(model, layer_decay)) if layer_decay != 1.0 else {}
    for name, parameter in model.named_parameters():
        decay = 0.0 if is_exempt(name, parameter) else weight_decay
        scale = scales.get(name, 1.0)
        group = groups.setdefault(
            (decay, scale), {"params": [], "weight_decay": decay, "lr": lr * scale}
        )
        group["params"].append(parameter)
    return list(groups.values())


def is_exempt(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is free of weight decay."""
    return parameter.dim() < 2 or name.endswith(NO_DECAY)


def layer_scales(model: nn.Module, layer_decay: float) -> Iterator[tuple[str, float]]:
    """Yield (name, factor) for each parameter of the encoders that the model names."""
    for encoder in getattr(model, "encoders"):  # noqa: B009
        stages = encoder_stages(model.get_submodule(encoder))
        for depth, names in enumerate(stages):
            for name in names:
                yield f"{encoder}.{name}", layer_decay ** (len(stages) - depth)


def encoder_stages(vision: nn.Module) -> list[list[str]]:
    """Return the encoder's parameter names, stage by stage from pixels to output.

    A timm backbone's stages are its children in order, a child list counting by its items; then
    come the embedding, each block, and the final norm.
    """
    stages: dict[str, list[str]] = {}
    for name, _ in vision.named_parameters():
        stages.setdefault(_stage(name), []).append(name)
    backbone = [names for stage, names in stages.items() if stage.startswith("patches.backbone")]
    blocks = [names for stage, names in stages.items() if stage.startswith("blocks.")]
    return [*backbone, stages.get("embedding", []), *blocks, stages.get("norm", [])]


def _stage(name: str) -> str:
    parts = name.split(".")
    if parts[:2] == ["patches", "backbone"]:
        indexed = len(parts) > 3 and parts[3].isdigit()
        return ".".join(parts[: 4 if indexed else 3])
    if parts[0] == "blocks":
        return ".".join(parts[:2])
    return "norm" if parts[0] == "norm" else "embedding"


class WarmupCosine(LambdaLR):
    """Linear warm-up, then half a cosine down to `final` of the peak (Loshchilov and Hutter 2017).

    Args:
        optimizer: whose learning rates are multiplied.
        total_steps: optimiser steps of the run.
        warmup: steps of the warm-up, or their share of the run if below 1.
        final: the last learning rate over the peak.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, *, warmup: int | float, final: float = 0.01
    ):
        steps = round(warmup * total_steps) if warmup < 1 else int(warmup)

        def factor(step: int) -> float:
            if step < steps:
                return (step + 1) / (steps + 1)
            done = min((step - steps) / max(total_steps - steps, 1), 1.0)
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))

        super().__init__(optimizer, factor)


class Constant(LambdaLR):
    """A constant learning rate after a linear warm-up of `warmup` steps (or their share)."""

    def __init__(self, optimizer: Optimizer, total_steps: int, *, warmup: int | float = 0):
        steps = round(warmup * total_steps) if warmup < 1 else int(warmup)
        super().__init__(optimizer, lambda step: min((step + 1) / (steps + 1), 1.0))
