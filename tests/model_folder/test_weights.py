"""Tied weights stand in the file once, and no number in it is anything but finite."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmattn.errors import CheckpointError
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.weights import dtype_name, tensors_to_store


def test_a_tied_output_layer_is_stored_once(make_bundle, tmp_path):
    bundle = make_bundle(tie_embeddings=True)
    folder = write_folder(bundle, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    rows = [name for name, value in state.items() if bundle.tokenizer.vocab_size in value.shape]
    assert rows == ["text.embedding.weight"]


def test_parameters_tied_by_hand_are_stored_once_and_tied_again(make_bundle, tmp_path):
    bundle = make_bundle(tie_embeddings=False)
    text = bundle.model.text
    text.head.weight = text.embedding.weight
    text.blocks[1].mlp = text.blocks[0].mlp
    folder = write_folder(bundle, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    assert len(state) == len({id(p) for p in bundle.model.parameters()}) + len(
        list(bundle.model.buffers())
    )
    read = read_folder(folder).model.text
    assert read.head.weight is read.embedding.weight
    assert read.blocks[1].mlp.up.weight is read.blocks[0].mlp.up.weight
    assert torch.equal(read.head.weight, text.head.weight)
    again = write_folder(read_folder(folder), tmp_path / "again")
    names = ("config.json", "model.safetensors")
    assert all((again / n).read_bytes() == (folder / n).read_bytes() for n in names)


def test_tensors_that_share_memory_are_stored_apart():
    model = nn.Module()
    whole = torch.arange(6.0)
    model.first, model.second = nn.Parameter(whole[:3]), nn.Parameter(whole[3:])
    model.turned = nn.Parameter(whole.view(2, 3).t())
    stored = tensors_to_store(model, None)
    assert len({value.untyped_storage().data_ptr() for value in stored.values()}) == 3
    assert stored["second"].tolist() == [3, 4, 5]
    assert stored["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bundle, tmp_path, value):
    with torch.no_grad():
        bundle.model.text.blocks[0].mlp.up.weight[0, :3] = value
    wrong = r"text\.blocks\.0\.mlp\.up\.weight: 3 of 256 weights are not finite; take an earlier"
    with pytest.raises(CheckpointError, match=wrong):
        write_folder(bundle, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_buffers_must_be_finite_too(bundle, tmp_path):
    bundle.model.vision.patches.layers[1].running_var[0] = float("nan")
    with pytest.raises(CheckpointError, match=r"running_var: 1 of 4 weights are not finite"):
        write_folder(bundle, tmp_path / "model")


def test_what_a_smaller_type_cannot_hold_is_said(bundle, tmp_path):
    with torch.no_grad():
        bundle.model.text.norm.weight[0] = -1e5
    wrong = r"text\.norm\.weight reaches 1e\+05, more than float16 holds: write bfloat16"
    with pytest.raises(CheckpointError, match=wrong):
        write_folder(bundle, tmp_path / "model", dtype=torch.float16)
    write_folder(bundle, tmp_path / "model", dtype=torch.bfloat16)


def test_the_file_is_as_readable_as_any_other(folder):
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize(
    ("dtypes", "name"),
    [
        ([torch.float32, torch.int64], "float32"),
        ([torch.bfloat16], "bfloat16"),
        ([torch.float32, torch.bfloat16], "mixed"),
    ],
)
def test_the_type_of_a_model_is_that_of_its_floating_numbers(dtypes, name):
    assert dtype_name({str(d): torch.zeros(2, dtype=d) for d in dtypes}) == name
