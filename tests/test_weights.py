"""Weights are read without running code, and fit exactly or not at all."""

import os
import pickle
import resource
import signal
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmattn.errors import CheckpointError
from mmattn.weights import load_exactly, read_state_dict, write_state_dict

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


class Trap:
    """Unpickling one creates the file `marker`."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin", "w.pt"])
def test_tensors_are_read_from_every_kind_of_file(tmp_path, name):
    path = tmp_path / name
    save_file(STATE, path) if name.endswith("safetensors") else torch.save(STATE, path)
    for given in (path, str(path)):
        state = read_state_dict(given)
        assert state.keys() == STATE.keys()
        assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_training_checkpoint_holds_them_one_floor_down(tmp_path, key):
    torch.save({"epoch": 3, key: STATE}, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth").keys() == STATE.keys()


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(STATE, tmp_path / "w.pth")
    assert read_state_dict("~/w.pth").keys() == STATE.keys()


@pytest.mark.parametrize("name", ["trap.pth", "trap.bin", "trap.safetensors"])
@pytest.mark.parametrize("how", ["pickle", "torch", "legacy torch"])
def test_a_file_that_would_run_code_is_refused_unread(tmp_path, name, how):
    marker, path = tmp_path / "marker", tmp_path / name
    content = {**STATE, "trap": Trap(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match=rf"{name}: cannot read these weights safely"):
        read_state_dict(path)
    assert not marker.exists()


def test_the_trap_is_real(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [b"", b"\x80", b"not weights", b"PK\x03\x04", b"\x00" * 64])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_file_of_something_else_is_refused_with_its_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"{name}: cannot read these weights"):
        read_state_dict(tmp_path / name)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_truncated_file_is_refused(tmp_path, name):
    whole, cut = tmp_path / f"whole-{name}", tmp_path / name
    save_file(STATE, whole) if name.endswith("safetensors") else torch.save(STATE, whole)
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="cannot read these weights safely"):
        read_state_dict(cut)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="cannot read these weights safely"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {"epoch": 3}, {"model": 7}, 5])
def test_what_is_not_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"w\.pth: holds no state dict"):
        read_state_dict(tmp_path / "w.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(CheckpointError, match="no such file of weights"):
            read_state_dict(path)


def test_weights_that_fit_are_loaded():
    layer = nn.Linear(3, 2)
    load_exactly(layer, STATE, "here")
    assert torch.equal(layer.weight, STATE["weight"])
    assert torch.equal(layer.bias, STATE["bias"])


def test_tensors_may_be_taken_as_they_are_with_their_types():
    layer = nn.Linear(3, 2).requires_grad_(False)
    state = {name: value.to(torch.bfloat16) for name, value in STATE.items()}
    load_exactly(layer, state, "here", assign=True)
    assert layer.weight.data_ptr() == state["weight"].data_ptr()
    assert layer.bias.dtype == torch.bfloat16
    assert not layer.weight.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "1 differences: missing bias"),
        ({"scale": torch.ones(2)}, "1 differences: unexpected scale"),
        ({"weight": torch.ones(2, 4)}, r"weight is \(2, 4\), the model has \(2, 3\)"),
        ({f"x{i}": torch.ones(1) for i in range(6)}, "6 differences: .*unexpected x3 …"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(change, message):
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    state = {name: value for name, value in {**STATE, **change}.items() if value is not None}
    with pytest.raises(CheckpointError, match=f"here does not fit Linear: .*{message}"):
        load_exactly(layer, state, "here")
    assert torch.equal(layer.weight, before)


def test_a_disk_that_refuses_is_an_error_of_the_system(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_state_dict({"a": torch.zeros(10_000)}, tmp_path / "w.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(tmp_path / "w.safetensors")
