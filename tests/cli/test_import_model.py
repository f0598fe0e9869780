"""`mmattn import` as typed: other libraries' folders, runs and model folders; junk is one line."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from mmattn.cli import model_of_run
from mmattn.model_folder.format import read_folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imported(call):
    return lambda *typed: call("import_model", *typed)


def names():
    return sorted(str(path) for path in Path().rglob("*"))


def test_a_folder_of_hugging_face_becomes_a_model_folder(imported, call, model, gpt2_like):
    assert call("export_model", gpt2_like, "theirs", "--to", "huggingface")[0] == 0
    code, out, err = imported("theirs", "ours")
    assert (code, err) == (0, "")
    assert out.startswith("ours: Hugging Face")
    assert out.endswith(" M parameters\n")
    before, after = read_folder(gpt2_like), read_folder("ours")
    pixels = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(8).view(2, 1, 4)
    with torch.no_grad():
        found, wanted = after.model(pixels, tokens), before.model(pixels, tokens)
    torch.testing.assert_close(found[..., : wanted.shape[-1]], wanted, atol=1e-4, rtol=0)


def test_a_run_becomes_a_model_folder_with_its_figures(imported, make_captioner, monkeypatch):
    run = Path("run")
    run.mkdir()
    (run / "config.yaml").write_text("data: {}\nmodel: {}\noptimizer: {}\n")
    asked = []

    def bundle_of_run(source, allowed):
        asked.append((source, allowed))
        return make_captioner()

    monkeypatch.setattr(model_of_run, "bundle_of_run", bundle_of_run)
    monkeypatch.setattr(model_of_run, "results_of_run", lambda source: {"test/fonts/cider": 9.5})
    assert imported("run", "ours", "--allow-target", "mine")[0] == 0
    assert asked == [(run, ["mine"])]
    assert "| test/fonts/cider | 9.5 |" in Path("ours/README.md").read_text()
    assert imported("run/config.yaml", "ours")[0] == 0  # as a checkpoint is one; the old one goes


def test_a_model_folder_is_stored_in_another_type(imported, model):
    code, out, _ = imported(model, "half", "--dtype", "bfloat16")
    assert (code, out.startswith("half: ")) == (0, True)
    kinds = {parameter.dtype for parameter in read_folder("half").model.parameters()}
    assert kinds == {torch.bfloat16}


def test_a_classifiers_folder_is_stored_in_another_type_too(imported, classifier):
    assert imported(classifier, "half", "--dtype", "bfloat16")[0] == 0
    before, after = read_folder(classifier), read_folder("half")
    assert after.classes == before.classes
    assert {parameter.dtype for parameter in after.model.parameters()} == {torch.bfloat16}


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("evil"),)


@pytest.fixture
def junk(place):
    Path("empty").mkdir()
    Path("file").write_text("what is this?")
    Path("model.safetensors").write_bytes(b"\0" * 100)
    for name, kind in [("git", "git"), ("llava", "llava")]:
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps({"model_type": kind}))
    Path("broken").mkdir()
    Path("broken/config.json").write_text("{")
    Path("spoilt").mkdir()
    Path("spoilt/manifest.json").write_text("{}")
    Path("run").mkdir()
    Path("run/config.yaml").write_text("data: {}\nmodel: {}\noptimizer: {}\n")
    (Path("run") / "checkpoints").mkdir()
    Path("run/checkpoints/last.ckpt").write_bytes(pickle.dumps(Evil()))
    return place


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "nowhere: no such folder; what can be read are Hugging Face's"),
        ("empty", "empty: has neither config.json nor open_clip_config.json"),
        ("file", "file: no config.yaml in the folders above: not part of a run"),
        ("model.safetensors", "model.safetensors: no config.yaml in the folders above"),
        ("git", "GIT has no cross-attention"),
        ("llava", "'model_type' is 'llava'; what can be read are"),
        ("broken", "broken/config.json"),
        ("spoilt", "spoilt/manifest.json: not the manifest of a model folder"),
        ("run", ""),
        ("run/checkpoints/last.ckpt", ""),
    ],
)
def test_junk_is_one_line_and_nothing_is_written_or_run(imported, junk, source, said):
    before = names()
    code, out, err = imported(source, "ours")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert names() == before


def test_what_is_in_the_way_stays(imported, model, place):
    Path("mine").mkdir()
    Path("mine/diary.txt").write_text("dear diary")
    Path("file").touch()
    for dest, said in [
        ("mine", "holds other files ('diary.txt')"),
        ("file", "file is a file: give an empty or a new folder"),
        ("file/deep", "file is no folder"),
    ]:
        code, out, err = imported(model, dest)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err
    assert names() == ["file", "mine", "mine/diary.txt"]


@pytest.mark.parametrize("typed", [[], ["a"], ["a", "b", "--dtype", "int8"]])
def test_what_is_missing_or_unknown_is_said(imported, typed):
    code, out, err = imported(*typed)
    assert (code, out) == (2, "")
    assert "error: " in err


def test_help_says_what_can_be_read(imported):
    code, out, _ = imported("--help")
    assert code == 0
    for kind in (
        "VisionEncoderDecoderModel",
        "BlipForConditionalGeneration",
        "CoCa",
        "run directory",
    ):
        assert kind in out
