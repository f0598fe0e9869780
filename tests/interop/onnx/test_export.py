"""A captioner that is exported to ONNX writes the same captions, and looks at the same places."""

import copy
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.onnx import export as onnx_export
from mmattn.interop.onnx import write as onnx_write
from mmattn.interop.onnx.export import OnnxExport, export_onnx
from mmattn.interop.onnx.graphs import Graph
from mmattn.patches import ConvStem, LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

SIZE, LONGEST = (8, 12), 9
TOKENIZER = CaptionTokenizer.train(["a dog runs on the grass", "the dog is running"] * 2, 280)


def bert_like() -> Captioner:
    """Learned positions, a class token and registers; norms behind the branches, BERT's head."""
    vision = VisionTransformer(
        SIZE, LinearPatches(4, 16), 1, BlockOptions(heads=4), class_token=True, registers=2
    )
    block = BlockOptions(heads=4, pre_norm=False)
    return Captioner(
        vision, decoder(16, 2, block, embed_norm="layer", head_transform=True, head_bias=True)
    )


def modern() -> Captioner:
    """Rotary positions, grouped heads, RMS norms behind the branches, SwiGLU, a bridge."""
    block = BlockOptions(
        heads=4, kv_heads=2, norm="rms", pre_norm=False, activation="swiglu", qk_norm="rms"
    )
    vision = VisionTransformer(SIZE, LinearPatches(4, 16), 1, block, position="rotary")
    return Captioner(vision, decoder(32, 2, block, position="rotary", tied=False))


def coca_like() -> Captioner:
    """A pooled encoder; the decoder reads it in its last block only. Sinusoidal positions."""
    vision = VisionTransformer(
        SIZE,
        LinearPatches(4, 16),
        1,
        BlockOptions(heads=2, activation="quick_gelu"),
        class_token=True,
        embed_norm="layer",
        pooler=AttentionPooler(5, 24, 4, 16),
    )
    block = BlockOptions(heads=4, context_norm=True)
    layout = ["self", "self", "cross"]
    text = decoder(16, 3, block, context_dim=24, layout=layout, position="sinusoidal", tied=False)
    return Captioner(vision, text)


def convolutional() -> Captioner:
    """A convolutional stem with batch norms, one head for all keys, a layer scale, biases gone."""
    block = BlockOptions(
        heads=4, kv_heads=1, activation="gelu_tanh", layer_scale=0.5, bias=False, norm="rms"
    )
    stem = ConvStem([8, 8], [2, 2], 16)
    vision = VisionTransformer(SIZE, stem, 1, block, position="sinusoidal")
    return Captioner(vision, decoder(16, 1, block, position="rotary"))


def backbone() -> Captioner:
    """A timm network under no blocks at all."""
    patches = TimmPatches("test_resnet", 16, (64, 64))
    vision = VisionTransformer((64, 64), patches, 0, BlockOptions(heads=4), position="none")
    return Captioner(vision, decoder(16, 2, BlockOptions(heads=4, activation="silu")))


def decoder(dim: int, depth: int, block: BlockOptions, tied=True, **options) -> TextTransformer:
    options = {"max_length": LONGEST, "context_dim": dim, "tie_embeddings": tied, **options}
    return TextTransformer(TOKENIZER.vocab_size, dim, depth, block, **options)


# Seeds found by trying: captions differ between images, and some end early.
SEEDS = {bert_like: 15, modern: 10, coca_like: 18, convolutional: 0, backbone: 10}


def make_bundle(build: Callable[[], Captioner], size: tuple[int, int] | None = None) -> Bundle:
    """A captioner of random weights; its pictures are of `size`, or what it was built for."""
    torch.manual_seed(SEEDS[build])
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
        model.text.head_weight[TOKENIZER.end_id] *= 2  # very likely, or very unlikely
    size = size or model.vision.image_size
    preprocessing = Preprocessing(size, size, None, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    return Bundle(model.eval(), TOKENIZER, preprocessing, LONGEST, {"beams": 3}, "a test")


def make_images(bundle: Bundle, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *bundle.preprocessing.size, generator=generator)


class Written(NamedTuple):
    """What steps made of R rows: logits [R, T, V], and each layer's attention [R, H, T, P + S]."""

    logits: Tensor
    attention: dict[str, Tensor]


class OnnxCaptioner:
    """What a program without torch does with the folder: it knows only what config.json says."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        parts = self.config["encoder"], self.config["decoder_step"]
        self.encoder, self.step = (
            onnxruntime.InferenceSession(folder / part["file"]) for part in parts
        )

    def encode(self, images: np.ndarray) -> dict[str, np.ndarray]:
        names = list(self.config["encoder"]["outputs"])
        return dict(zip(names, self.encoder.run(names, {"images": images}), strict=True))

    def begin(self, encoded: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        """The memory, and a past without a token."""
        inputs = self.config["decoder_step"]["inputs"]
        memory = {name: encoded[name] for name in inputs if name in encoded}
        sizes = {"rows": rows, "past": 0}
        return memory | {
            name: np.zeros([sizes.get(size, size) for size in inputs[name]], np.float32)
            for name in self.config["decoder_step"]["carry"].values()
        }

    def greedy(self, images: np.ndarray) -> np.ndarray:
        """Captions of max_length tokens; what follows an end means nothing."""
        feed, carry = (
            self.begin(self.encode(images), len(images)),
            self.config["decoder_step"]["carry"],
        )
        tokens = np.full((len(images), 1), self.config["tokenizer"]["begin"])
        written = []
        for _ in range(self.config["max_length"]):
            logits, *present = self.step.run(["logits", *carry], {"tokens": tokens, **feed})
            feed |= dict(zip(carry.values(), present, strict=True))
            tokens = logits.argmax(-1, keepdims=True)
            written.append(tokens)
        return np.concatenate(written, 1)

    def forced(self, images: np.ndarray, tokens: np.ndarray) -> Written:
        """Step over tokens [R, T] that are given, with all outputs."""
        part = self.config["decoder_step"]
        feed, steps = self.begin(self.encode(images), len(tokens)), []
        for column in tokens.T:
            results = self.step.run(list(part["outputs"]), {"tokens": column[:, None], **feed})
            named = dict(zip(part["outputs"], results, strict=True))
            feed |= {past: named[present] for present, past in part["carry"].items()}
            steps.append({name: torch.from_numpy(array) for name, array in named.items()})
        attention = [name for name in part["outputs"] if name.startswith("attention.")]
        return Written(
            torch.stack([step["logits"] for step in steps], 1),
            {name: torch.stack([step[name] for step in steps], 2) for name in attention},
        )


@pytest.fixture(autouse=True, scope="module")
def no_type_checks() -> Iterator[None]:
    """torch.export calls the model with symbolic sizes, which are no `int` to beartype."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Case(NamedTuple):
    bundle: Bundle
    export: OnnxExport
    onnx: OnnxCaptioner


@pytest.fixture(
    scope="module",
    params=[
        bert_like,
        modern,
        coca_like,
        pytest.param(convolutional, marks=pytest.mark.slow),
        pytest.param(backbone, marks=pytest.mark.slow),
    ],
)
def case(request, no_type_checks, tmp_path_factory) -> Case:
    bundle = make_bundle(request.param)
    export = export_onnx(bundle, tmp_path_factory.mktemp("exports") / "onnx", attention=True)
    return Case(bundle, export, OnnxCaptioner(export.folder))


def until_end(rows) -> list[list[int]]:
    """Token lists up to their end token, without it."""
    return [TOKENIZER.until_end(row) for row in rows.tolist()]


@pytest.mark.parametrize("count", [1, 5])
def test_greedy_captions_are_those_of_the_library(case, count):
    images = make_images(case.bundle, count)
    model, limits = case.bundle.model, Limits(TOKENIZER.begin_id, TOKENIZER.end_id, LONGEST)
    expected = until_end(Greedy()(model, model.encode(images), limits).tokens[:, 0])
    assert until_end(case.onnx.greedy(images.numpy())) == expected
    if count > 1:
        assert len({tuple(caption) for caption in expected}) == count
        assert len({len(caption) for caption in expected}) > 1


@pytest.mark.parametrize(("count", "each"), [(1, 1), (1, 4), (3, 1), (2, 3)])
def test_rows_that_share_images_get_the_logits_and_the_attention_of_one_pass(case, count, each):
    images = make_images(case.bundle, count)
    tokens = torch.randint(TOKENIZER.vocab_size, (count, each, LONGEST))
    recorder = Recorder(["text.*.cross", "vision.pool"] if has_pooler(case) else ["text.*.cross"])
    with torch.no_grad():
        logits = case.bundle.model(images, tokens, recorder)
    written = case.onnx.forced(images.numpy(), tokens.flatten(0, 1).numpy())
    torch.testing.assert_close(written.logits, logits.flatten(0, 1), atol=1e-4, rtol=1e-4)
    layers = case.bundle.model.text.cross_layers
    assert list(written.attention) == [f"attention.{layer}" for layer in layers]
    for layer in layers:
        rows = recorder.maps[f"text.{layer}.cross"].unflatten(2, (each, LONGEST))
        found = written.attention[f"attention.{layer}"]
        torch.testing.assert_close(found, rows.transpose(1, 2).flatten(0, 1), atol=1e-5, rtol=0)
    if has_pooler(case):
        pool = torch.from_numpy(case.onnx.encode(images.numpy())["attention.pool"])
        torch.testing.assert_close(pool, recorder.maps["vision.pool"], atol=1e-5, rtol=0)


def has_pooler(case: Case) -> bool:
    return case.bundle.model.vision.pooler is not None


def test_image_tokens_are_those_of_the_encoder(case):
    images = make_images(case.bundle, 3)
    with torch.no_grad():
        expected = case.bundle.model.encode(images)
    found = torch.from_numpy(case.onnx.encode(images.numpy())["image_tokens"])
    torch.testing.assert_close(found, expected.tokens, atol=1e-4, rtol=1e-4)
    described = case.onnx.config["image_tokens"]
    assert described == {
        "grid": list(expected.grid),
        "prefix": expected.prefix,
        "pooled": has_pooler(case),
    }


def test_every_output_was_compared(case):
    config = case.onnx.config
    outputs = [*config["encoder"]["outputs"], *config["decoder_step"]["outputs"]]
    assert case.export.differences is not None
    assert list(case.export.differences) == outputs
    assert all(difference < 1e-5 for difference in case.export.differences.values())
    assert any(case.export.differences.values())


def test_config_says_what_the_files_are(case):
    config = case.onnx.config
    for part in ("encoder", "decoder_step"):
        graph = onnx.load(case.export.folder / config[part]["file"]).graph
        assert shapes(graph.input) == config[part]["inputs"]
        assert shapes(graph.output) == config[part]["outputs"]
    assert config["decoder_step"]["inputs"]["tokens"] == ["rows", 1]
    assert config["tokenizer"] == {
        "file": "tokenizer.json",
        "pad": TOKENIZER.pad_id,
        "begin": TOKENIZER.begin_id,
        "end": TOKENIZER.end_id,
    }
    assert config["max_length"] == LONGEST
    assert config["decoding"] == {"beams": 3}
    assert Preprocessing.of_settings(config["preprocessing"]) == case.bundle.preprocessing
    tokenizer = CaptionTokenizer.load(case.export.folder / config["tokenizer"]["file"])
    assert tokenizer.fingerprint == TOKENIZER.fingerprint


def shapes(values) -> dict[str, list[int | str]]:
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in values
    }


def test_files_name_nothing_of_this_machine(case):
    assert case.export.files == [
        "config.json",
        "decoder_step.onnx",
        "encoder.onnx",
        "tokenizer.json",
    ]
    for name in case.export.files:
        content = (case.export.folder / name).read_bytes()
        assert b"stack_trace" not in content
        assert b"site-packages" not in content
        assert str(Path(onnx_export.__file__).parents[2]).encode() not in content


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
def test_other_opsets_compute_the_same(tmp_path, opset):
    export = export_onnx(make_bundle(modern), tmp_path / "onnx", opset=opset)
    assert max(export.differences.values()) < 1e-5
    for name in ("encoder.onnx", "decoder_step.onnx"):
        versions = onnx.load(export.folder / name).opset_import
        assert [one.version for one in versions if not one.domain] == [opset]


@pytest.mark.slow
def test_another_size_of_pictures_external_weights_and_captions_of_one_token(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_write, "INLINE_BYTES", 0)
    bundle = make_bundle(bert_like, (12, 16))
    bundle.max_length = 1
    before = {name: weight.clone() for name, weight in bundle.model.state_dict().items()}
    (tmp_path / "empty").mkdir()
    export = export_onnx(bundle, tmp_path / "empty")
    assert {"encoder.onnx.data", "decoder_step.onnx.data"} < set(export.files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]
    images = make_images(bundle, 5)
    model, limits = bundle.model, Limits(TOKENIZER.begin_id, TOKENIZER.end_id, 1)
    expected = Greedy()(model, model.encode(images), limits).tokens[:, 0]
    assert OnnxCaptioner(export.folder).greedy(images.numpy()).tolist() == expected.tolist()
    # The position table of the model itself is still that of the size that it was built for.
    assert model.vision.image_size == SIZE
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])


def test_attention_is_left_out_where_nobody_asked(tmp_path, monkeypatch):
    """And without onnxruntime files are written, if they are not to be compared."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    export = export_onnx(make_bundle(coca_like), tmp_path / "onnx", check=False)
    assert export.differences is None
    for name in ("encoder.onnx", "decoder_step.onnx"):
        outputs = onnx.load(export.folder / name).graph.output
        assert not [value.name for value in outputs if "attention" in value.name]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ConfigError, match=rf"needs {missing}: pip install 'mmattn\[onnx\]'"
    ) as error:
        export_onnx(make_bundle(bert_like), tmp_path / "onnx")
    assert ("check=False" in str(error.value)) == (missing == "onnxruntime")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [17, 24])
def test_an_opset_that_torch_does_not_write_is_refused(tmp_path, opset):
    with pytest.raises(ConfigError, match=rf"opset={opset}: choose 18 to 23"):
        export_onnx(make_bundle(bert_like), tmp_path / "onnx", opset=opset)
    assert not list(tmp_path.iterdir())


def test_half_precision_is_refused(tmp_path):
    bundle = make_bundle(bert_like)
    bundle.model.text.to(torch.bfloat16)
    with pytest.raises(ConfigError, match=r"weights of torch\.bfloat16.*call model\.float\(\)"):
        export_onnx(bundle, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    for place in (tmp_path / "full" / "file", tmp_path / "file"):
        place.write_text("mine")
    for place in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(ConfigError, match="give an empty or a new folder"):
            export_onnx(make_bundle(bert_like), place)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.read_text() for path in files} == {"mine"}
    assert len(files) == 2


class Branching(LinearPatches):
    """Computes something else for dark pictures, which no graph can."""

    def forward(self, images):
        return super().forward(images) * (1 if images.sum() > 0 else -1)


class Pairs(LinearPatches):
    """Works for two pictures at once, and for no other number."""

    def forward(self, images):
        return super().forward(images).reshape(2, self.dim, 2, 3)


@pytest.mark.parametrize(
    ("patches", "reason"), [(Branching, "data-dependent"), (Pairs, "static shape of 2")]
)
def test_a_model_that_cannot_be_exported_leaves_nothing(tmp_path, patches, reason):
    bundle = make_bundle(bert_like)
    bundle.model.vision.patches = patches(4, 16)
    with pytest.raises(
        CheckpointError, match=f"encoder.onnx: torch cannot export.*{reason}"
    ) as error:
        export_onnx(bundle, tmp_path / "onnx")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_files_that_compute_something_else_are_not_written(case, tmp_path, monkeypatch):
    """As of an exporter with a bug: the files are those of other weights."""

    def written_wrongly(graph: Graph, path: Path, opset: int) -> None:
        shutil.copy(case.export.folder / path.name, path)

    monkeypatch.setattr(onnx_export, "write_graph", written_wrongly)
    bundle = copy.deepcopy(case.bundle)
    assert export_onnx(bundle, tmp_path / "right", attention=True).differences is not None
    with torch.no_grad():
        bundle.model.text.head_weight[7] += 0.01
    number = r"\d\.\de-0[123]"
    with pytest.raises(CheckpointError) as error:
        export_onnx(bundle, tmp_path / "wrong", attention=True)
    assert re.match(
        rf"decoder_step\.onnx: logits .* differs .* by {number} of .* allowed is 1e-04\.",
        str(error.value),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["right"]


def test_what_is_not_simplified_is_no_warning(caplog):
    log = logging.getLogger("onnxscript.optimizer")
    with onnx_write.simplified_in_silence():
        log.warning("left as it is")
        log.error("wrong")
    log.warning("heard again")
    assert [record.message for record in caplog.records] == ["wrong", "heard again"]


def test_a_failure_at_the_end_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(onnx_export, "write_graph", lambda graph, path, opset: path.touch())
    monkeypatch.setattr(onnx_export, "describe", fails)
    with pytest.raises(OSError, match="No space left"):
        export_onnx(make_bundle(bert_like), tmp_path / "deep" / "onnx")
    assert [path.name for path in tmp_path.rglob("*")] == ["deep"]


def test_a_file_that_onnxruntime_cannot_read_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "write_graph", lambda graph, path, opset: path.touch())
    with pytest.raises(CheckpointError, match=r"encoder\.onnx: onnxruntime cannot run it"):
        export_onnx(make_bundle(bert_like), tmp_path / "onnx")
    assert not list(tmp_path.iterdir())
