"""What is read is what was written, bit for bit, whatever the captioner is made of."""

import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError, ConfigError
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.manifest import write_manifest
from mmattn.patches import LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "img_size": 32}


def timm_vision(name, **options):
    patches = TimmPatches(name, 8, (32, 32), **options)
    return VisionTransformer((32, 32), patches, 1, BlockOptions(heads=2))


def rich_vision():
    block = BlockOptions(
        heads=2, kv_heads=1, norm="rms", activation="swiglu", qk_norm="rms", layer_scale=0.1
    )
    pooler = AttentionPooler(3, 6, 2, 8)
    return VisionTransformer(
        *((16, 24), LinearPatches(8, 8), 2, block),
        class_token=True,
        registers=2,
        position="rotary",
        embed_norm="layer",
        pooler=pooler,
    )


VISIONS = {
    "convolutional stem": lambda: None,
    "all options": rich_vision,
    "batch norms": lambda: timm_vision("mobilenetv2_035", level="final", frozen=True),
    # Its positions are buffers that no state dict holds.
    "computed buffers": lambda: timm_vision("swin_tiny_patch4_window7_224", options=SWIN),
}
TEXTS = {
    "tied": {},
    "head of BERT": {"tie_embeddings": False, "head_transform": True, "head_bias": True},
    "unimodal first": {"layout": ["self", "cross"], "position": "rotary", "embed_norm": "rms"},
}


def scores(bundle):
    """What the model makes of a picture and a text."""
    size = bundle.preprocessing.size
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    tokens = torch.arange(10).view(2, 1, 5)
    dtype = next(bundle.model.parameters()).dtype
    with torch.no_grad():
        return bundle.model(images.to(dtype), tokens)


def settle(model):
    """Give every tensor a value that no constructor gives, running statistics too."""
    generator = torch.Generator().manual_seed(2)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
    return model


def spoil(folder, name, content):
    """Change a file, and the manifest with it."""
    path = folder / name
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    write_manifest(folder)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("vision", VISIONS)
def test_a_captioner_comes_back_bit_for_bit(make_bundle, tmp_path, vision, text):
    bundle = make_bundle(VISIONS[vision](), **TEXTS[text])
    settle(bundle.model)
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    wanted, found = bundle.model.state_dict(), read.model.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    assert torch.equal(scores(read), scores(bundle))
    trained = {name for name, p in bundle.model.named_parameters() if p.requires_grad}
    assert {name for name, p in read.model.named_parameters() if p.requires_grad} == trained


def test_all_that_belongs_to_it_comes_back(make_bundle, tmp_path):
    bundle = make_bundle()
    bundle.decoding = {"beams": 4, "forbidden": ("dog", "cat"), "length_penalty": 0.5}
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert read.tokenizer.fingerprint == bundle.tokenizer.fingerprint
    assert read.tokenizer.special == bundle.tokenizer.special
    assert read.preprocessing == bundle.preprocessing
    for name in ("max_length", "decoding", "source"):
        assert getattr(read, name) == getattr(bundle, name)
    assert not any(module.training for module in read.model.modules())


def test_special_tokens_are_those_of_the_model_not_those_of_the_names(bundle, tmp_path):
    special = SpecialIds(pad=5, begin=7, end=9)
    bundle.tokenizer = CaptionTokenizer(bundle.tokenizer.backend, special=special)
    assert read_folder(write_folder(bundle, tmp_path / "m")).tokenizer.special == special


def test_what_was_read_can_be_written_again_to_the_same_bytes(folder, tmp_path):
    again = write_folder(read_folder(folder), tmp_path / "again")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_a_run_directory_is_read_through(folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    shutil.move(folder, run / "model")
    assert read_folder(run).source == "made by a test"


def test_text_paths_and_home_are_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert read_folder("~/model").max_length == 12


def test_a_model_that_was_read_does_not_change_with_its_file(folder):
    """The weights are not the file itself, mapped into memory."""
    read = read_folder(folder)
    before = scores(read)
    path = folder / "model.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert torch.equal(scores(read), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_are_stored_and_read_in_the_type_that_is_asked_for(bundle, tmp_path, dtype):
    settle(bundle.model)
    folder = write_folder(bundle, tmp_path / "model", dtype=dtype)
    stored = load_file(folder / "model.safetensors")
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {dtype}
    config = json.loads((folder / "config.json").read_text())
    assert config["weights"]["dtype"] == str(dtype).removeprefix("torch.")
    for asked, found in ((None, dtype), (torch.float32, torch.float32)):
        model = read_folder(folder, dtype=asked).model
        floating = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
        assert {t.dtype for t in floating} == {found}
        for name, value in bundle.model.state_dict().items():
            assert torch.equal(model.state_dict()[name].to(dtype), value.to(dtype)), name
    assert scores(read_folder(folder)).dtype == dtype
    assert {p.dtype for p in bundle.model.parameters()} == {torch.float32}


def test_buffers_that_no_file_holds_get_the_type_too(make_bundle, tmp_path):
    bundle = make_bundle(timm_vision("swin_tiny_patch4_window7_224", options=SWIN))
    folder = write_folder(bundle, tmp_path / "model", dtype=torch.bfloat16)
    model = read_folder(folder).model
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} <= {torch.bfloat16}
    assert scores(read_folder(folder)).isfinite().all()


def test_a_model_of_several_types_keeps_them(bundle, tmp_path):
    bundle.model.text.to(torch.bfloat16)
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert {p.dtype for p in read.model.text.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in read.model.vision.parameters()} == {torch.float32}
    read = read_folder(tmp_path / "model", dtype=torch.float32)
    assert {p.dtype for p in read.model.parameters()} == {torch.float32}


class Own(Captioner):
    """A user's class."""


class Wider(TextTransformer):
    """Another."""


def test_what_plain_values_do_not_describe_is_refused_and_nothing_is_left(make_bundle, tmp_path):
    whole = make_bundle()
    bundle = make_bundle()
    bundle.model = Own(whole.model.vision, whole.model.text)
    with pytest.raises(CheckpointError, match=r"the captioner is a .*Own: only Captioner itself"):
        write_folder(bundle, tmp_path / "model")
    bundle.model = whole.model
    bundle.model.text.__class__ = Wider
    with pytest.raises(CheckpointError, match="the text is a"):
        write_folder(bundle, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_parts_that_the_settings_do_not_tell_of_are_refused(bundle, tmp_path):
    bundle.model.text.blocks[1].mlp.up = torch.nn.Linear(8, 99)
    with pytest.raises(CheckpointError, match=r"the model does not fit Captioner: 2 differences"):
        write_folder(bundle, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_no_plain_values_are_refused(bundle, tmp_path):
    bundle.decoding = {"temperature": float("nan")}
    with pytest.raises(CheckpointError, match="settings are not plain values"):
        write_folder(bundle, tmp_path / "model")
    bundle.decoding = {"beams": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="settings are not plain values"):
        write_folder(bundle, tmp_path / "model")


def test_a_tokenizer_larger_than_the_model_is_refused(make_bundle, tokenizer, tmp_path):
    text = TextTransformer(40, 8, 1, BlockOptions(heads=2), max_length=12, context_dim=8)
    bundle = make_bundle(text=text)
    wrong = f"the tokenizer has {tokenizer.vocab_size} tokens, and the model 40"
    with pytest.raises(CheckpointError, match=wrong):
        write_folder(bundle, tmp_path / "model")


def test_a_vocabulary_padded_to_a_round_number_is_fine(make_bundle, tmp_path):
    text = TextTransformer(320, 8, 1, BlockOptions(heads=2), max_length=12, context_dim=8)
    bundle = make_bundle(text=text)
    read = read_folder(write_folder(bundle, tmp_path / "model"))
    assert (read.model.text.vocab_size, read.tokenizer.vocab_size) == (
        320,
        bundle.tokenizer.vocab_size,
    )


def test_another_tokenizer_is_refused(folder):
    other = CaptionTokenizer.train(["something else entirely"], 270, 1)
    spoil(folder, "tokenizer.json", other.to_json())
    wrong = rf"tokenizer\.json: has {other.vocab_size} tokens, and the model was written with"
    with pytest.raises(CheckpointError, match=wrong):
        read_folder(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"model": 3}', b"\xff\x00"])
def test_what_is_no_tokenizer_is_refused(folder, content):
    spoil(folder, "tokenizer.json", content)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer\.json"):
        read_folder(folder)


class Trap:
    """Unpickling one creates the folder `marker`."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_under_the_name_of_weights_is_refused_unread(folder, tmp_path, how):
    path, content = folder / "model.safetensors", {"trap": Trap(tmp_path / "marker")}
    path.write_bytes(pickle.dumps(content)) if how == "pickle" else torch.save(content, path)
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="cannot read these weights safely"):
        read_folder(folder)
    assert not (tmp_path / "marker").exists()
    pickle.loads(pickle.dumps(content))
    assert (tmp_path / "marker").exists()  # the trap is real


@pytest.mark.parametrize("size", [0, 7, 8, 500, -1])
def test_cut_off_weights_are_refused(folder, size):
    whole = (folder / "model.safetensors").read_bytes()
    spoil(folder, "model.safetensors", whole[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot read these weights"):
        read_folder(folder)


def test_other_weights_are_told_by_their_names(folder):
    save_file({"text.embedding.weight": torch.zeros(3, 8)}, folder / "model.safetensors")
    write_manifest(folder)
    with pytest.raises(CheckpointError, match=r"does not fit Captioner: .*missing"):
        read_folder(folder)


def test_a_file_that_the_manifest_does_not_name_is_not_read(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        files = {k: v for k, v in manifest["files"].items() if k != name}
        (folder / "manifest.json").write_text(json.dumps({"files": files}))
        with pytest.raises(CheckpointError, match=f"'{name}' is not in manifest"):
            read_folder(folder)
        with pytest.raises(CheckpointError, match=rf"its manifest\.json does not name {name}"):
            read_folder(folder, alone=False)


def test_a_type_that_is_not_stored_is_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"weights are stored as float32, .*not as torch\.int8"):
        write_folder(bundle, tmp_path / "model", dtype=torch.int8)


def test_results_are_on_the_card(bundle, tmp_path):
    write_folder(bundle, tmp_path / "model", results={"test/cider": 1.25})
    assert "| test/cider | 1.25 |" in (tmp_path / "model" / "README.md").read_text()
