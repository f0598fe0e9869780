"""config.json holds plain values; whatever else it is made to say is refused in one line."""

import pytest

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.errors import CheckpointError
from mmattn.model_folder.config import walk
from mmattn.model_folder.format import read_folder, write_folder
from mmattn.model_folder.manifest import write_manifest
from mmattn.vision import VisionTransformer

MISSING = ...  # see `set_at`
PREPROCESSING = {
    **{"size": [16, 16], "resize": None, "crop": None, "interpolation": "bicubic"},
    **{"mean": [0.5, 0.5, 0.5], "std": [1.0, 1.0, 1.0]},
}


def refused(folder):
    """Return the one line with which a folder is refused."""
    with pytest.raises(CheckpointError) as caught:
        read_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("architecture", MISSING, "architecture is missing; format 2 has a dict"),
        ("architecture", [], "architecture is []; format 2 has a dict"),
        ("max_length", "12", "max_length is '12'; format 2 has a int"),
        ("max_length", True, "max_length is True; format 2 has a int"),
        ("extra", 1, "format 2 has no key 'extra'"),
        ("task", "sing", "task is 'sing'; this version knows caption, classify"),
        ("architecture.text", MISSING, "model has no section 'text'"),
        ("architecture.vision", 3, "has no section 'vision'"),
        ("architecture.text.heads", 3, "text.heads: this version of mmattn has no such setting"),
        ("architecture.text.block.heads", 0, "this architecture cannot be built"),
        ("architecture.text.block.heads", 3, "heads"),
        ("architecture.text.block.heads", "two", "heads"),
        ("architecture.text.depth", -1, "layout has 2 entries and depth is -1"),
        ("architecture.text.vocab_size", 10**15, "this architecture cannot be built"),
        ("architecture.text.vocab_size", "many", "text"),
        ("architecture.text.dim", 16, "does not fit Captioner"),
        ("architecture.vision.patches.kind", "resnet", "vision.patches.kind is 'resnet'; known: "),
        ("architecture.vision.position", "../up", "architecture.vision.position is '../up'"),
        ("weights.dtype", "int8", "weights.dtype is 'int8'; known: float32"),
        ("weights.dtype", [], "weights.dtype is []; known: float32"),
        ("weights.tied", 3, "weights.tied is 3, not names of parameters"),
        ("weights.tied", {"text.norm.weight": 3}, "not names of parameters"),
        (
            "weights.tied",
            {"text.norm.weight": "text.norm.bias"},
            "'text.norm.weight' cannot be tied to 'text.norm.bias'",
        ),
        ("weights.tied", {"no.such": "text.norm.bias"}, "'no.such' cannot be tied"),
        ("preprocessing.mean", [0.5], "must be three numbers each"),
        ("preprocessing.size", 16, "preprocessing"),
        ("preprocessing", {**PREPROCESSING, "size": [0, 4]}, "preprocessing.size is (0, 4)"),
        ("preprocessing", {**PREPROCESSING, "size": [16]}, "preprocessing"),
        ("preprocessing.size", MISSING, "preprocessing cannot be built"),
        ("preprocessing.speed", 1, "preprocessing cannot be built"),
        ("tokenizer.begin", MISSING, "tokenizer.begin is None, no token's id"),
        ("tokenizer.pad", -1, "tokenizer.pad is -1, no token's id"),
        ("tokenizer.end", 10**6, "tokenizer.end is 1000000, no token's id"),
        ("tokenizer.vocab_size", MISSING, "the tokenizer has None tokens, and the model"),
        ("tokenizer.vocab_size", 10**6, "the tokenizer has 1000000 tokens, and the model"),
        ("max_length", 13, "max_length is 13, and the model has positions for 12 tokens"),
        ("max_length", 0, "max_length is 0, and"),
        ("decoding.beems", 4, "decoding: no decoding option 'beems'; did you mean beams?"),
        ("decoding.beams", 0, "decoding: "),
        ("decoding.forbidden", [3], "decoding: "),
    ],
)
def test_a_value_that_cannot_be_is_named(reconfigure, folder, place, value, said):
    reconfigure(folder, place, value)
    found = refused(folder)
    assert said in found
    assert str(folder) in found


@pytest.mark.parametrize(
    "place",
    ["_target_", "architecture.vision._target_", "preprocessing._target_", "decoding._target_"],
)
def test_a_target_is_refused_wherever_it_stands(reconfigure, folder, place):
    reconfigure(folder, place, "os.system")
    assert f"{place} would say what to run" in refused(folder)


def test_a_target_inside_a_list_is_found_too(reconfigure, folder):
    reconfigure(folder, "decoding.forbidden", [{"_target_": "os.system"}])
    assert "decoding.forbidden._target_ would say what to run" in refused(folder)


@pytest.mark.parametrize(
    "text", ["[1, 2]", "3", "null", '"text"', "", "{", "[" * 99999, '{"format": 1}}']
)
def test_what_is_no_configuration_is_named(folder, text):
    (folder / "config.json").write_text(text)
    write_manifest(folder)
    assert f"{folder}/config.json: " in refused(folder)


def test_bytes_that_are_no_text_are_named(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe{}")
    write_manifest(folder)
    assert "config.json: cannot be read as JSON" in refused(folder)


@pytest.fixture
def timm_bundle(make_bundle):
    """A captioner over a timm backbone with an option of its own."""

    def make(**options):
        patches = TimmPatches("mobilenetv2_035", 8, (32, 32), options=options)
        return make_bundle(VisionTransformer((32, 32), patches, 0, BlockOptions(heads=2)))

    return make


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("pretrained", True),
        ("pretrained", "/etc/passwd"),
        ("pretrained", "weights.pth"),
        ("pretrained", None),
        ("options.checkpoint_path", "weights.pth"),
        ("options.pretrained_cfg", {"file": "weights.pth"}),
        ("options.pretrained_cfg_overlay", {"hf_hub_id": "a"}),
        ("options.cache_dir", "somewhere"),
    ],
)
def test_weights_from_elsewhere_are_refused(reconfigure, timm_bundle, tmp_path, place, value):
    folder = write_folder(timm_bundle(), tmp_path / "model")
    reconfigure(folder, f"architecture.vision.patches.{place}", value)
    said = refused(folder)
    assert place in said
    assert "the weights of a model folder come from itself only" in said


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp/x", "/tmp/x", "a b"])
def test_a_backbone_is_named_and_never_fetched(reconfigure, timm_bundle, tmp_path, name):
    folder = write_folder(timm_bundle(), tmp_path / "model")
    reconfigure(folder, "architecture.vision.patches.name", name)
    assert f"architecture.vision.patches.name is {name!r}, which is no name" in refused(folder)


def test_where_a_backbone_came_from_is_not_kept(timm_bundle, tmp_path):
    bundle = timm_bundle(drop_rate=0.5, cache_dir=str(tmp_path))
    folder = write_folder(bundle, tmp_path / "model")
    assert str(tmp_path) not in (folder / "config.json").read_text()
    assert read_folder(folder).model.vision.patches.options == {"drop_rate": 0.5}


def test_walk_visits_every_entry_however_deep():
    values = {"a": {"b": [1, {"c": 2}]}, "d": 3}
    assert sorted((place, key) for place, key, _ in walk(values)) == [
        ("a", "a"),
        ("a.b", ""),
        ("a.b", ""),
        ("a.b", "b"),
        ("a.b.c", "c"),
        ("d", "d"),
    ]
    deep = {"_target_": "x"}
    for _ in range(20_000):
        deep = {"a": deep}
    assert any(key == "_target_" for _, key, _ in walk(deep))
