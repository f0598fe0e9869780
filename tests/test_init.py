"""The public names: each is where the package says it is, and none loads before it is used."""

import subprocess
import sys
from importlib import import_module

import pytest

import mmattn


def test_every_public_name_has_a_home_and_the_other_way_round():
    assert sorted(mmattn.__all__) == sorted(mmattn._HOME)
    assert set(mmattn.__all__) <= set(dir(mmattn))


@pytest.mark.parametrize("name", mmattn.__all__)
def test_a_public_name_is_what_its_home_defines(name):
    home = f"mmattn.{mmattn._HOME[name]}"
    found = getattr(mmattn, name)
    assert found is getattr(import_module(home), name)
    assert found.__module__ == home


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Atention'"):
        _ = mmattn.Atention


def test_importing_the_package_loads_neither_torch_nor_numpy():
    program = "import sys, mmattn; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
