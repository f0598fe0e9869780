import numpy as np
import pytest
import torch
from torch import nn

from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.fusion import CrossFusion
from mmattn.maps.methods import RawAttention
from mmattn.maps.quality.randomisation import cascade, parts_from_output, randomised
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

ALL_PARTS = [
    "text output",
    "text block 1",
    "text block 0",
    "text embedding",
    "bridge",
    "image output",
    "image block 0",
    "patch embedding",
]


def test_every_trained_weight_is_new_and_the_model_is_untouched(captioner):
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    copy = randomised(captioner, 0)
    for name, value in captioner.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert not torch.equal(value, copy.state_dict()[name]), name


def test_the_weights_start_as_those_of_a_new_model(captioner):
    copy = randomised(captioner, 0)
    for name, module in copy.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all(), name
        if isinstance(module, nn.Linear | nn.LayerNorm) and name != "bridge":
            assert (module.bias == 0).all(), name
    to_q = copy.text.blocks[0].cross_attention.to_q.weight
    limit = (6 / (12 + 12)) ** 0.5  # Xavier-uniform
    assert 0.9 * limit < to_q.abs().max() <= limit


def test_what_has_no_start_of_its_own_is_shuffled(captioner):
    name = "text.blocks.0.mlp_residual.scale"
    trained, random = (m.state_dict()[name] for m in (captioner, randomised(captioner, 0)))
    assert not torch.equal(trained, random)
    assert torch.equal(trained.sort().values, random.sort().values)


def test_the_seed_decides_and_the_global_generator_stays(captioner):
    state = torch.get_rng_state()
    one, same, other = (randomised(captioner, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    name = "vision.patches.project.weight"
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one[name], other[name])


def test_parts_go_down_from_the_output_and_leave_nothing_out(captioner):
    parts = dict(parts_from_output(captioner))
    assert list(parts) == ALL_PARTS
    names = [name for part in parts.values() for name in part]
    assert sorted(names) == sorted(captioner.state_dict())
    assert all(name.startswith("text.blocks.1.") for name in parts["text block 1"])


def test_the_cascade_ends_at_the_randomised_model(captioner, batch):
    method = RawAttention([0])
    curve = cascade(captioner, batch, method, seed=0)
    assert [part for part, _ in curve] == ALL_PARTS
    # The first layer's maps do not hear of the output and of the second block.
    assert [alike for _, alike in curve[:2]] == [1, 1]
    assert max(alike for _, alike in curve[2:]) < 0.9


def test_maps_become_less_alike_on_average_the_more_is_random(captioner, batch):
    curves = [cascade(captioner, batch, RawAttention([1]), seed) for seed in range(16)]
    alike = np.array([[value for _, value in curve] for curve in curves]).mean(0)
    assert alike[0] == 1  # the maps do not hear of the output
    assert (np.diff(alike) < 0.05).all()  # as near to monotone as 16 draws get
    assert abs(alike[-1]) < 0.25


def test_a_method_that_ignores_the_model_stays_alike(captioner, batch):
    class Prior(RawAttention):
        def __call__(self, model, batch):
            maps = super().__call__(model, batch)
            return torch.arange(maps[0, 0, 0].numel()).view(maps.shape[-2:]) + 0 * maps

    alike = [value for _, value in cascade(captioner, batch, Prior(), seed=0)]
    assert alike == pytest.approx([1] * len(ALL_PARTS))


def test_a_classifiers_fusion_starts_anew_too():
    block = BlockOptions(heads=2)
    torch.manual_seed(0)
    model = Classifier(
        {"answer": 3},
        vision=VisionTransformer((8, 8), LinearPatches(4, 8), 1, block),
        text=TextTransformer(7, 8, 1, block, max_length=4, causal=False),
        fusion=CrossFusion(8, 1, block),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.inference_mode():
        drawn = randomised(model, 5)
    again = randomised(model, 5)
    assert not any(value.is_inference() for value in drawn.parameters())
    for name, value in drawn.named_parameters():
        assert torch.equal(model.get_parameter(name), before[name])
        assert torch.equal(value, again.get_parameter(name))
        if value.ndim > 1:
            assert not torch.equal(value, before[name]), name
            assert float(value.detach().mean()) < 0.5, name
