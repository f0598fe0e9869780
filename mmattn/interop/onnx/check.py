"""Whether onnxruntime computes from the written files what torch computes from the model."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.errors import CheckpointError
from mmattn.interop.onnx.graphs import Argument, Graph, flat, random_past

# The largest difference that passes, as a part of the largest value that torch has there.
TOLERANCE = 1e-4
# Images, and rows of each. None is what the graphs were traced with: a size that the exporter took
# for a constant shows.
CASES = ((1, 1), (3, 1), (2, 2))
STEPS = 3  # that follow each other: what one puts out is what the next takes in

# onnxruntime 1.23.0, for one, computes grouped heads wrongly where opset 23 fuses attention.
REMEDY = "try another opset, or a newer onnxruntime"


class Twin:
    """A graph as torch runs it and as onnxruntime runs its file.

    `differences` holds the largest that was met of each output, as a part of its largest value.

    Raises:
        CheckpointError: where onnxruntime cannot read the file.
    """

    def __init__(self, graph: Graph, file: Path):
        import onnxruntime

        self.graph, self.file = graph, file
        self.differences = dict.fromkeys(graph.outputs, 0.0)
        try:
            providers = ["CPUExecutionProvider"]
            self.session: Any = onnxruntime.InferenceSession(str(file), providers=providers)
        except Exception as error:  # onnxruntime's have no common class
            raise self.failure(error) from error

    def run(self, *arguments: Argument) -> list[Tensor]:
        """Return what onnxruntime makes of the arguments.

        Raises CheckpointError where torch makes something else, with the numbers, or where
        onnxruntime cannot run.
        """
        expected = self.graph.module(*arguments)
        feed = {
            name: tensor.numpy()
            for name, tensor in zip(self.graph.inputs, flat(arguments), strict=True)
        }
        try:
            arrays = self.session.run(list(self.graph.outputs), feed)
        except Exception as error:
            raise self.failure(error) from error
        found = [torch.from_numpy(array) for array in arrays]
        for name, one, other in zip(self.graph.outputs, expected, found, strict=True):
            self.compare(name, one, other)
        return found

    def compare(self, name: str, expected: Tensor, found: Tensor) -> None:
        """Note by how much an output differs. Raises CheckpointError where that is too much."""
        if expected.shape != found.shape:
            raise CheckpointError(
                f"{self.file.name}: {name} is {tuple(found.shape)} of onnxruntime and "
                f"{tuple(expected.shape)} of torch"
            )
        scale = expected.abs().max().clamp(min=torch.finfo(expected.dtype).tiny)
        difference = float((found - expected).abs().max() / scale)
        if not difference <= TOLERANCE:  # written so that NaN is too much
            raise CheckpointError(
                f"{self.file.name}: {name} {tuple(found.shape)} of onnxruntime differs from "
                f"torch's by {difference:.1e} of its largest value {float(scale):.3g}; allowed is "
                f"{TOLERANCE:.0e}. Nothing was written: {REMEDY}"
            )
        self.differences[name] = max(self.differences[name], difference)

    def failure(self, error: Exception) -> CheckpointError:
        """Return what to raise where onnxruntime fails."""
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return CheckpointError(
            f"{self.file.name}: onnxruntime cannot run it ({reason}). Nothing was written: {REMEDY}"
        )


@torch.no_grad()
def check_graphs(
    encoder: tuple[Graph, Path], step: tuple[Graph, Path], max_length: int
) -> dict[str, float]:
    """Compare encoder and decoding steps at several sizes, at the beginning and the end of a text.

    Returns the largest difference of each output, as a part of the largest value that torch has
    there. Raises CheckpointError where one is above `TOLERANCE`, or onnxruntime cannot run a graph.
    """
    generator = torch.Generator().manual_seed(0)
    encoders, steps = Twin(*encoder), Twin(*step)
    pixels = flat(encoder[0].arguments)[0]
    memories = sum(name.startswith("memory.") for name in step[0].inputs)
    for images, each in CASES:
        encoded = encoders.run(torch.randn(images, *pixels.shape[1:], generator=generator))
        memory = encoded[1 : 1 + memories]
        for start in sorted({0, max(0, max_length - STEPS)}):
            count = min(STEPS, max_length - start)
            _steps(steps, memory, images * each, range(start, start + count), generator)
    return encoders.differences | steps.differences


def _steps(
    twin: Twin, memory: list[Tensor], rows: int, places: range, generator: torch.Generator
) -> None:
    """Run steps of `rows` rows at the `places` of a text, after a random past.

    What onnxruntime puts out is what both get next, so that rounding does not add up.
    """
    text: Any = twin.graph.module.text
    past = random_past(text, rows, places.start, generator)
    for _ in places:
        tokens = torch.randint(text.vocab_size, (rows, 1), generator=generator)
        past = twin.run(tokens, past, memory)[1 : 1 + len(past)]
