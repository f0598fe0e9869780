"""Which reader a folder is given to, and what is said of folders that none can read."""

import ast
import json
from pathlib import Path

import pytest

import mmattn
from mmattn.errors import CheckpointError
from mmattn.interop.foreign_captioner import read_captioner

KINDS = [
    ({"model_type": "blip"}, "config.json", "mmattn.interop.huggingface.blip", "read_blip"),
    ({}, "open_clip_config.json", "mmattn.interop.open_clip.coca", "read_coca"),
    (
        {"model_type": "vision-encoder-decoder"},
        "config.json",
        "mmattn.interop.huggingface.encoder_decoder",
        "read_encoder_decoder",
    ),
]


class AskedError(Exception):
    """Raised in the place of an answer."""


@pytest.mark.parametrize(("config", "name", "module", "reader"), KINDS)
def test_each_kind_goes_to_its_own_reader(tmp_path, monkeypatch, config, name, module, reader):
    def ask(folder):
        raise AskedError(reader, folder)

    (tmp_path / name).write_text(json.dumps(config))
    monkeypatch.setattr(f"{module}.{reader}", ask)
    with pytest.raises(AskedError) as caught:
        read_captioner(tmp_path)
    assert caught.value.args == (reader, tmp_path)


REFUSED = [
    (
        {"model_type": "git"},
        "'model_type' is 'git'; .*BlipFor.* GIT has no cross-attention: the im",
    ),
    (
        {"model_type": "llava"},
        r"'model_type' is 'llava'; what can be read are .* open_clip's CoCa$",
    ),
    ({"model_type": ["blip"]}, r"'model_type' is \['blip'\]; what can be read"),
    ({}, "'model_type' is None; what can be read"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_another_kind_is_told_which_can_be_read(tmp_path, config, message):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_captioner(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_without_a_model_and_no_folder_are_named(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"has neither config\.json nor open_clip_config\.json"
    ):
        read_captioner(tmp_path)
    with pytest.raises(CheckpointError, match="absent: no such folder"):
        read_captioner(tmp_path / "absent")


def test_captioners_are_read_without_transformers_and_open_clip():
    """CLIPScore alone asks open_clip for a model; its extra is for that."""
    library = Path(mmattn.__file__).parent
    files = set(library.rglob("*.py")) - {library / "interop" / "open_clip" / "clip.py"}
    imported = {name for file in files for name in imports(ast.parse(file.read_text("utf-8")))}
    assert {"torch", "tokenizers", "safetensors"} <= imported
    assert not imported & {"transformers", "open_clip"}


def imports(tree):
    """The packages that a file imports, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]
