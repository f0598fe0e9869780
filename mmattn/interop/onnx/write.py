"""One graph to one ONNX file, by torch's exporter."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from mmattn.errors import CheckpointError
from mmattn.interop.onnx.graphs import Graph

OPSETS = range(18, 24)  # what torch's exporter has translations for
# An ONNX file cannot be larger than 2 GB. Weights of more than this lie beside it, in FILE.data.
INLINE_BYTES = 1 << 30


def write_graph(graph: Graph, path: Path, opset: int) -> None:
    """Write a graph to a file. Raises CheckpointError where torch's exporter fails."""
    try:
        with simplified_in_silence():
            program: Any = torch.onnx.export(
                graph.module,
                graph.arguments,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=free_axes(graph),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = shorten(str(error.__cause__ or error), 240, placeholder=" …")
        raise CheckpointError(
            f"{path.name}: torch cannot export this model ({reason}). Nothing was written"
        ) from error
    name_axes(program, graph)
    forget_origin(program)
    weights = program.model.graph.initializers.values()
    size = sum(weight.const_value.nbytes for weight in weights)
    program.save(path, external_data=size > INLINE_BYTES)


@contextmanager
def simplified_in_silence() -> Iterator[None]:
    """Keep onnxscript from warning of each operation that it leaves as it is."""
    log = logging.getLogger("onnxscript")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def free_axes(graph: Graph) -> tuple[Any, ...]:
    """Return which axes of a graph's arguments vary, in the form that torch.export reads."""
    inputs = iter(graph.inputs.values())

    def free() -> dict[int, Any]:
        return dict.fromkeys(next(inputs), torch.export.Dim.DYNAMIC)

    return tuple(
        [free() for _ in argument] if isinstance(argument, list) else free()
        for argument in graph.arguments
    )


def name_axes(program: Any, graph: Graph) -> None:
    """Call the sizes that vary by their names, wherever the program has them."""
    inputs = zip(program.model.graph.inputs, graph.inputs.values(), strict=True)
    program.rename_axes(
        {value.shape[axis]: name for value, axes in inputs for axis, name in axes.items()}
    )
    # torch derives these as expressions: batch * (rows // batch), which is just the rows.
    for value, axes in zip(program.model.graph.outputs, graph.outputs.values(), strict=True):
        for axis, name in axes.items():
            value.shape[axis] = name


def forget_origin(program: Any) -> None:
    """Drop the exporter's notes: they name files of this machine, and are longer than the graph."""
    graph = program.model.graph
    nodes = list(graph.all_nodes())
    values = [*graph.inputs, *graph.outputs, *graph.initializers.values()]
    values += [output for node in nodes for output in node.outputs]
    for part in (program.model, graph, *nodes, *values):
        part.metadata_props.clear()
