"""Every parameter is optimised once, at its own rate; schedules start, peak and end where told."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches, PatchEmbedding
from mmattn.tasks.optimisation import (
    Constant,
    WarmupCosine,
    encoder_stages,
    is_exempt,
    layer_scales,
    parameter_groups,
)
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SMALL_SWIN = {"img_size": 32, "window_size": 2, "depths": (1, 2, 1, 1), "embed_dim": 12}
SMALL_VIT = {"img_size": 32, "depth": 2, "embed_dim": 24, "reg_tokens": 2}


def make_captioner(patches: PatchEmbedding | None = None, **options) -> Captioner:
    block = BlockOptions(heads=2, qk_norm="rms", layer_scale=0.1)
    patches = patches or LinearPatches(8, 16)
    vision = VisionTransformer((32, 32), patches, 3, block, class_token=True, **options)
    text = TextTransformer(11, 16, 2, block, max_length=8, context_dim=12, tie_embeddings=False)
    return Captioner(vision, text)


def timm_captioner(name: str, **options) -> Captioner:
    return make_captioner(TimmPatches(name, 16, (32, 32), options=options))


def names_of(model: nn.Module, groups: list[dict]) -> list[list[str]]:
    """The parameters of each group, by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [[names[parameter] for parameter in group["params"]] for group in groups]


def test_matrices_decay_and_nothing_else():
    model = make_captioner()
    exempt = {name for name, p in model.named_parameters() if is_exempt(name, p)}
    matrices = ("to_q", "to_kv", "to_out", "up", "down", "embedding", "head", "bridge", "project")
    decaying = {
        name
        for name, _ in model.named_parameters()
        if name.endswith(tuple(f"{matrix}.weight" for matrix in matrices))
    }
    assert exempt == dict(model.named_parameters()).keys() - decaying
    assert {
        "vision.prefix_tokens",
        "vision.position_table",
        "text.positions.table",
        "vision.norm.weight",
        "text.blocks.0.cross_attention.k_norm.weight",
        "text.blocks.1.mlp_residual.scale",
        "bridge.bias",
    } <= exempt


@pytest.mark.parametrize(
    ("name", "options", "exempt"),
    [
        ("vit_tiny_patch16_224", SMALL_VIT, ["cls_token", "reg_token", "pos_embed"]),
        (
            "swin_tiny_patch4_window7_224",
            SMALL_SWIN,
            ["layers.1.blocks.1.attn.relative_position_bias_table"],
        ),
        ("convnext_atto", {"depths": (1, 1, 1, 1)}, ["stages.2.blocks.0.gamma"]),
    ],
)
def test_tokens_and_tables_of_a_timm_backbone_do_not_decay(name, options, exempt):
    backbone = TimmPatches(name, 16, (32, 32), options=options).backbone
    own = dict(backbone.named_parameters())
    free = {name for name, parameter in own.items() if is_exempt(name, parameter)}
    assert set(exempt) <= free
    if hasattr(backbone, "no_weight_decay"):
        assert backbone.no_weight_decay() & own.keys() <= free
    matrices = {name for name, p in own.items() if name.endswith("weight") and p.dim() > 1}
    assert len(matrices) > 5
    assert not matrices & free


@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
@pytest.mark.parametrize("tied", [True, False])
def test_groups_hold_every_parameter_once(layer_decay, tied):
    model = make_captioner()
    if tied:
        model.text.head = None
    groups = parameter_groups(model, 1e-3, 0.1, layer_decay)
    grouped = [name for names in names_of(model, groups) for name in names]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert len(grouped) == len(set(grouped))
    optimizer = AdamW(groups, lr=9.0, weight_decay=9.0)  # the groups' own values win
    for group, names in zip(optimizer.param_groups, names_of(model, groups), strict=True):
        parameters = dict(model.named_parameters())
        decays = {0.0 if is_exempt(name, parameters[name]) else 0.1 for name in names}
        assert decays == {group["weight_decay"]}


def test_without_layer_decay_there_are_two_groups_at_one_rate():
    groups = parameter_groups(make_captioner(), 1e-3, 0.1)
    assert sorted((g["weight_decay"], g["lr"]) for g in groups) == [(0.0, 1e-3), (0.1, 1e-3)]


def rates(model: Captioner, layer_decay: float) -> dict[str, float]:
    """The learning rate of every parameter, over that of the text side."""
    groups = parameter_groups(model, 1.0, 0.1, layer_decay)
    named = zip(groups, names_of(model, groups), strict=True)
    return {name: group["lr"] for group, names in named for name in names}


def test_each_layer_of_our_encoder_learns_slower_than_the_next():
    by_name = rates(make_captioner(), 0.5)
    expected = {
        "vision.patches.project.weight": 5,
        "vision.position_table": 5,
        "vision.prefix_tokens": 5,
        "vision.blocks.0.self_attention.to_q.weight": 4,
        "vision.blocks.1.mlp_norm.bias": 3,
        "vision.blocks.2.mlp_residual.scale": 2,
        "vision.norm.weight": 1,
        "bridge.weight": 0,
        "text.embedding.weight": 0,
        "text.blocks.0.cross_attention.to_kv.weight": 0,
    }
    for name, power in expected.items():
        assert by_name[name] == pytest.approx(0.5**power), name
    assert {r for name, r in by_name.items() if not name.startswith("vision.")} == {1.0}
    assert {math.log2(1 / r) for n, r in by_name.items() if n.startswith("vision.")} == set(
        range(1, 6)
    )


# The backbones' stages in the order in which an image passes them.
ORDER = {
    "test_resnet": ({}, ["conv1.0", "layer1.0", "layer2.0", "layer3.0", "layer4.0"]),
    "convnext_atto": (
        {"depths": (1, 1, 1, 1)},
        ["stem.0", "stem.1", "stages.0", "stages.1", "stages.2", "stages.3"],
    ),
    "swin_tiny_patch4_window7_224": (
        SMALL_SWIN,
        ["patch_embed", "layers.0", "layers.1", "layers.2", "layers.3", "norm"],
    ),
    "vit_tiny_patch16_224": (SMALL_VIT, ["cls_token", "patch_embed", "blocks.0", "blocks.1"]),
}


@pytest.mark.parametrize("name", ORDER)
def test_each_stage_of_a_timm_backbone_learns_slower_than_the_next(name):
    options, backbone_stages = ORDER[name]
    model = timm_captioner(name, **options)
    scales = dict(layer_scales(model, 0.9))
    assert sorted(scales) == sorted(
        name for name, _ in model.named_parameters() if name.startswith("vision.")
    )
    stages = [f"patches.backbone.{stage}." for stage in backbone_stages]
    stages += ["patches.project.", "blocks.0.", "blocks.1.", "blocks.2.", "norm."]
    found = [
        {scale for own, scale in scales.items() if f"{own}.".startswith(f"vision.{stage}")}
        for stage in stages
    ]
    assert all(len(values) == 1 for values in found)  # a stage learns at one rate
    ordered = [values.pop() for values in found]
    assert all(a < b for a, b in pairwise(ordered))
    assert ordered[-1] == pytest.approx(0.9)
    assert scales["vision.position_table"] == scales["vision.patches.project.weight"]


def test_stages_hold_every_parameter_of_the_encoder_once():
    vision = timm_captioner("test_resnet").vision
    names = [name for stage in encoder_stages(vision) for name in stage]
    assert sorted(names) == sorted(name for name, _ in vision.named_parameters())


def factors(make, steps: int) -> list[float]:
    """The learning rate of each step over the peak's, from step 0 on."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, found = make(optimizer), []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"] / 2.0)
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("warmup", [4, 0.2])
def test_warmup_rises_in_even_steps_to_the_peak_and_a_cosine_falls_to_the_end(warmup):
    found = factors(lambda o: WarmupCosine(o, 20, warmup=warmup, final=0.1), 24)
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for step in range(4, 21):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 4) / 16))
        assert found[step] == pytest.approx(0.1 + 0.9 * cosine)
    assert found[12] == pytest.approx(0.55)  # half of the way down at half of the time
    assert found[20:] == pytest.approx([0.1] * 5)  # and no rise after the end


def test_without_warmup_the_first_step_is_the_peak():
    found = factors(lambda o: WarmupCosine(o, 10, warmup=0), 10)
    assert found[0] == 1.0
    assert found[10] == pytest.approx(0.01)
    assert found == sorted(found, reverse=True)


def test_a_schedule_longer_than_the_run_only_warms_up():
    found = factors(lambda o: WarmupCosine(o, 3, warmup=9), 3)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(("warmup", "steps"), [(3, 3), (0.3, 3), (0, 0)])
def test_a_constant_rate_follows_its_warmup(warmup, steps):
    found = factors(lambda o: Constant(o, 10, warmup=warmup), 12)
    assert found[:steps] == pytest.approx([(i + 1) / (steps + 1) for i in range(steps)])
    assert found[steps:] == pytest.approx([1.0] * (13 - steps))


def test_a_schedule_multiplies_each_groups_own_rate():
    model = make_captioner()
    optimizer = AdamW(parameter_groups(model, 1e-3, 0.1, 0.5))
    own = [group["lr"] for group in optimizer.param_groups]
    schedule = WarmupCosine(optimizer, 10, warmup=1)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([lr / 2 for lr in own])
    optimizer.step()
    schedule.step()
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(own)
