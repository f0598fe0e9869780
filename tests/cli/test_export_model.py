"""`mmattn export` as typed: what other libraries read, or one line that says why not."""

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def exported(call):
    return lambda *typed: call("export_model", *typed)


def test_a_captioner_becomes_a_folder_of_hugging_face(exported, gpt2_like):
    assert exported(gpt2_like, "theirs", "--to", "huggingface") == (0, "theirs\n", "")
    assert json.loads(Path("theirs/config.json").read_text())["model_type"] == (
        "vision-encoder-decoder"
    )
    assert Path("theirs/model.safetensors").is_file()


def test_what_their_model_cannot_be_is_one_line(exported, model):
    """A head with a bias: GPT-2 has none."""
    code, out, err = exported(model, "theirs", "--to", "huggingface")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert not Path("theirs").exists()


@pytest.mark.parametrize("attention", [True, False])
def test_onnx_is_asked_for_with_or_without_attention(exported, model, monkeypatch, attention):
    asked = []
    monkeypatch.setattr(
        "mmattn.interop.onnx.export.export_onnx",
        lambda *given, **named: asked.append((given, named)),
    )
    flag = ["--attention"] * attention
    assert exported(model, "graphs", "--to", "onnx", *flag) == (0, "graphs\n", "")
    (((bundle, folder), named),) = asked
    assert (bundle.max_length, folder, named) == (12, Path("graphs"), {"attention": attention})


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nowhere", "theirs", "--to", "onnx"], "nowhere does not exist"),
        (["file", "theirs", "--to", "onnx"], "file is a file"),
        (["file", "file/theirs", "--to", "onnx"], "file is no folder: give another"),
        (["file", "theirs", "--to", "huggingface", "--attention"], "--attention is of --to onnx"),
        (["file", "theirs", "--to", "tensorflow"], "invalid choice: 'tensorflow'"),
        (["file", "theirs"], "required: --to"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(exported, typed, said):
    Path("file").touch()
    code, out, err = exported(*typed)
    assert (code, out) == (2, "")
    assert said in err
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("to", ["huggingface", "onnx"])
def test_a_classifier_is_named_and_not_exported(exported, classifier, to):
    code, out, err = exported(classifier, "theirs", "--to", to)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is a classifier (answer), which has .classify()" in err
    assert "mmattn export is for captioners" in err
