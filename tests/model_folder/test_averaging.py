"""The mean of checkpoints is the mean of their numbers, and of equal ones these themselves."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError
from mmattn.model_folder.averaging import averaged
from mmattn.model_folder.format import read_folder, write_folder


def named(bundles):
    return [(f"m{i}", copy.deepcopy(bundle)) for i, bundle in enumerate(bundles)]


def gone_on(bundles):
    """Move the weights of each a little, as more training does."""
    for i, bundle in enumerate(bundles):
        torch.manual_seed(i)
        for parameter in bundle.model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return bundles


def weights(bundle):
    return {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_of_equal_ones_is_these_to_the_bit(make_captioner, dtype, tmp_path):
    bundle = make_captioner()
    bundle.model.to(dtype)
    found = averaged(named([bundle] * 3))
    wanted = weights(bundle)
    assert weights(found).keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(found).items())
    assert found.source.startswith("the mean of 3 checkpoints; the last: ")
    write_folder(found, tmp_path / "model")
    again = weights(read_folder(tmp_path / "model"))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.items())


def test_every_weight_is_the_mean(make_captioner):
    bundles = gone_on([make_captioner() for _ in range(3)])
    found = weights(averaged(named(bundles)))
    for name, tensor in found.items():
        each = torch.stack([bundle.model.state_dict()[name].double() for bundle in bundles])
        assert torch.equal(tensor, each.mean(0).to(tensor.dtype))


def test_whole_numbers_are_the_last_ones_and_ties_stay(make_captioner):
    bundles = gone_on([make_captioner() for _ in range(2)])
    for i, bundle in enumerate(bundles):
        norm = nn.BatchNorm2d(3)
        norm.num_batches_tracked += 5 * i
        norm.running_mean += i
        bundle.model.vision.patches.norm = norm
        bundle.model.text.extra = bundle.model.text.embedding  # a second name of one weight
    found = averaged([(str(i), bundle) for i, bundle in enumerate(bundles)])
    norm = found.model.vision.patches.norm
    assert int(norm.num_batches_tracked) == 5
    assert norm.running_mean.tolist() == [0.5] * 3
    assert found.model.text.extra.weight is found.model.text.embedding.weight


def test_temperatures_are_of_other_weights(make_classifier):
    bundles = gone_on([make_classifier(temperature={"answer": 1.5}) for _ in range(2)])
    found = averaged(named(bundles))
    assert found.temperature == {}
    assert found.classes == bundles[0].classes


def deeper(bundle):
    bundle.model.text.blocks.append(copy.deepcopy(bundle.model.text.blocks[0]))
    return bundle


def wider(bundle):
    bundle.model.text.head_bias = nn.Parameter(torch.zeros(3))
    return bundle


def fewer(bundle):
    bundle.model.text.head_bias = None
    return bundle


def other_heads(bundle):
    options = replace(bundle.model.text.block_options, heads=4)
    bundle.model.text.block_options = options
    return bundle


def other_tokenizer(bundle):
    texts = ["a cow runs over the grass", "some cats sleep on the mats", "an odd red balloon"]
    size = bundle.tokenizer.vocab_size
    tokenizer = CaptionTokenizer.train(texts * 9, size, 2)
    assert tokenizer.vocab_size <= size
    return replace(bundle, tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (deeper, r"m1 has text\.blocks\.2\..*, which m0 has not"),
        (wider, r"text\.head_bias is \(3,\) in m1 and \(\d+,\) in m0: only checkpoints of one"),
        (fewer, r"m1 has no text\.head_bias, which m0 has"),
        (other_heads, r"architecture\.text\.block\.heads is 4 in m1 and 2 in m0"),
        (other_tokenizer, "m1 has another tokenizer than m0|tokenizer.vocab_size is"),
        (lambda bundle: replace(bundle, max_length=7), "max_length is 7 in m1 and 12 in m0"),
    ],
)
def test_what_first_differs_is_named(make_captioner, change, said):
    bundles = [("m0", make_captioner()), ("m1", change(make_captioner(seed=1)))]
    with pytest.raises(ConfigError, match=said) as raised:
        averaged(bundles)
    assert "\n" not in str(raised.value)


def test_one_is_no_mean(make_captioner):
    with pytest.raises(ConfigError, match="of 2 checkpoints or more, and this is of 1"):
        averaged([("m0", make_captioner())])


def test_weights_that_began_differently_have_no_mean(make_captioner):
    bundles = [("m0", make_captioner()), ("m1", make_captioner(seed=1))]
    said = r"m1 and m0 began differently: 2\d of 27 matrices .* as several --model"
    with pytest.raises(ConfigError, match=said):
        averaged(bundles)


def test_matrices_of_zeros_tell_nothing(make_captioner):
    """As of gates that are shut, in both or until training opened them."""
    bundles = gone_on([make_captioner() for _ in range(2)])
    for name, parameter in bundles[0].model.named_parameters():
        if parameter.ndim > 1 and "embedding" not in name:
            parameter.data.zero_()
    averaged(named(bundles))


def test_a_part_that_is_the_same_does_not_hide_it(make_captioner):
    """Two captioners on one encoder: the decoders' mean is of no use."""
    one, other = make_captioner(), make_captioner(seed=1)
    other.model.vision.load_state_dict(one.model.vision.state_dict())
    with pytest.raises(ConfigError, match="m1 and m0 began differently"):
        averaged([("m0", one), ("m1", other)])
