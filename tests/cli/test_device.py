"""Names of devices: those of this machine, and a line for all others."""

import pytest
import torch

from mmattn.cli.device import device_of
from mmattn.errors import ConfigError


def test_cpu_is_everywhere():
    assert device_of("cpu") == torch.device("cpu")


def test_auto_is_an_accelerator_where_there_is_one():
    wanted = torch.accelerator.current_accelerator(check_available=True)
    assert device_of("auto") == (wanted or torch.device("cpu"))


def test_auto_is_the_cpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert device_of("auto") == torch.device("cpu")


# "cuda:99" is a GPU that no machine has; with no GPU at all, another message says so.
@pytest.mark.parametrize("name", ["cuda:99", "xpu:99", "mps:99", "hpu", "no such", "", "CPU"])
def test_what_this_machine_lacks_is_one_short_line(name):
    with pytest.raises(ConfigError) as raised:
        device_of(name)
    line = str(raised.value)
    assert line.startswith(f"--device {name}: ")
    assert line.endswith("; give cpu, cuda, cuda:1 or mps")
    assert "\n" not in line
    assert len(line) < 400


def test_meta_holds_no_numbers_and_is_refused():
    with pytest.raises(ConfigError, match="--device meta: nothing is computed there; give cpu"):
        device_of("meta")
