"""A captioner as ONNX files: encoder, decoding step, tokenizer, and all that a consumer must know.

The folder needs no torch: a loop of a dozen lines writes captions with onnxruntime alone. Sizes of
images are fixed, those of batches, rows and pasts are free.
"""

import copy
import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.errors import ConfigError
from mmattn.files import folder_written_whole
from mmattn.interop.onnx.check import check_graphs
from mmattn.interop.onnx.graphs import Axes, Graph, encoder_graph, flat, step_graph
from mmattn.interop.onnx.write import OPSETS, write_graph

ENCODER, STEP = "encoder.onnx", "decoder_step.onnx"
TOKENIZER, CONFIG = "tokenizer.json", "config.json"
FORMAT, FORMAT_VERSION = "mmattn-onnx", 1


class OnnxExport(NamedTuple):
    """What `export_onnx` wrote.

    folder: where. files: their names. differences: how far onnxruntime's outputs are from torch's
    at most, by the output's name and as a part of its largest value; None if that was not checked.
    """

    folder: Path
    files: list[str]
    differences: dict[str, float] | None


def export_onnx(
    bundle: Bundle,
    folder: str | Path,
    *,
    opset: int = 20,
    attention: bool = False,
    check: bool = True,
) -> OnnxExport:
    """Write a captioner as ONNX files, for programs that have onnxruntime and no torch.

    `encoder.onnx` makes of images [batch, 3, height, width] their tokens and the keys and values
    of every cross-attention. `decoder_step.onnx` makes of one token [rows, 1], the keys and values
    of the text so far and those of the image the scores [rows, V] of the next token, and the keys
    and values that the next step needs. The rows of an image stand together, and every image has as
    many. `config.json` names all inputs and outputs with their shapes.

    Args:
        bundle: the captioner; it is not changed.
        folder: must not exist, or be empty. It is written whole or not at all.
        opset: version of ONNX's operators, from 18 to 23.
        attention: the step also returns its cross-attention [rows, H, P + S] of every layer, and
            the encoder that of its pooler, where it has one.
        check: run the files with onnxruntime and compare them with torch, to 1e-4 of an output's
            largest value.

    Raises:
        ConfigError: where a package is missing, for another opset, a folder that is in use, or
            weights that are not float32.
        CheckpointError: where torch cannot export the model, or the files do not compute the same.
    """
    require_packages(check)
    if opset not in OPSETS:
        raise ConfigError(f"opset={opset}: choose {OPSETS[0]} to {OPSETS[-1]}")
    with folder_written_whole(folder) as unfinished:
        differences = write_files(bundle, unfinished, opset, attention, check)
        files = sorted(path.name for path in unfinished.iterdir())
    return OnnxExport(Path(folder).expanduser(), files, differences)


def write_files(
    bundle: Bundle, folder: Path, opset: int, attention: bool, check: bool
) -> dict[str, float] | None:
    """Write all files of an export. Returns what the comparison found, None without one."""
    model, longest = frozen_copy(bundle), bundle.max_length
    encoder = encoder_graph(model, bundle.preprocessing.size, attention=attention)
    step = step_graph(model.text, encoder.example(), longest, attention=attention)
    write_graph(encoder, folder / ENCODER, opset)
    write_graph(step, folder / STEP, opset)
    (folder / TOKENIZER).write_text(bundle.tokenizer.to_json(), "utf-8")
    config = describe(bundle, model, encoder, step, opset)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, "utf-8")
    if not check:
        return None
    return check_graphs((encoder, folder / ENCODER), (step, folder / STEP), longest)


def require_packages(check: bool) -> None:
    """Raise ConfigError where a package is not installed that the export needs."""
    needed = ["onnx", "onnxscript", *(["onnxruntime"] if check else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        other = " (or pass check=False: then nothing is compared)"
        raise ConfigError(
            f"export to ONNX needs {' and '.join(missing)}: pip install 'mmattn[onnx]'"
            + (other if missing == ["onnxruntime"] else "")
        )


def frozen_copy(bundle: Bundle) -> Captioner:
    """Return the captioner as it is exported: on the CPU, for pictures of one size.

    A copy, because learned positions are interpolated once for good.
    """
    types = {str(parameter.dtype) for parameter in bundle.model.parameters()} - {"torch.float32"}
    if types:
        raise ConfigError(
            f"the model has weights of {', '.join(sorted(types))}; ONNX files are written in "
            "float32: call model.float() first"
        )
    model = copy.deepcopy(bundle.model).cpu().eval().requires_grad_(False)
    model.vision.resize(bundle.preprocessing.size)
    return model


def describe(
    bundle: Bundle, model: Captioner, encoder: Graph, step: Graph, opset: int
) -> dict[str, Any]:
    """Return what `config.json` says: all that a decoding loop must know, as plain values."""
    vision = model.vision
    presents = [name for name in step.outputs if name.startswith("present.")]
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "source": bundle.source,
        "opset": opset,
        "encoder": {"file": ENCODER, **interface(encoder)},
        "decoder_step": {
            "file": STEP,
            **interface(step),
            "carry": {name: name.replace("present", "past", 1) for name in presents},
        },
        "tokenizer": {"file": TOKENIZER, **bundle.tokenizer.special._asdict()},
        "vocab_size": model.text.vocab_size,
        "max_length": bundle.max_length,
        "decoding": bundle.decoding,
        "preprocessing": bundle.preprocessing.settings(),
        "image_tokens": {
            "grid": list(vision.grid),
            "prefix": vision.prefix,
            "pooled": vision.pooler is not None,
        },
    }


def interface(graph: Graph) -> dict[str, Any]:
    """Return the shapes of a graph's inputs and outputs by name; a size that varies is its name."""

    def shapes(named: dict[str, Axes], tensors: Iterable[Tensor]) -> dict[str, list[int | str]]:
        return {
            name: [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]
            for (name, axes), tensor in zip(named.items(), tensors, strict=True)
        }

    return {
        "inputs": shapes(graph.inputs, flat(graph.arguments)),
        "outputs": shapes(graph.outputs, graph.example().values()),
    }
