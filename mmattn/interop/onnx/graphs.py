"""The two graphs of a captioner: the encoder, and one decoding step that carries its cache.

A decoding loop runs the first once and the second for every token. Both are plain functions of
tensors: what a step needs of the image (`memory`) and of the text so far (`past`) goes in, and the
longer past (`present`) comes out, so that the loop can live outside torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.attention import KeyValues
from mmattn.captioner import Captioner
from mmattn.recorder import attention_weights
from mmattn.taps import AttentionCall, Listener
from mmattn.text import TextTransformer

Axes = dict[int, str]  # the axes of a tensor whose sizes vary, and what the sizes are called
Argument = Tensor | list[Tensor]

# What the graphs are traced with: sizes that differ from each other, and are neither 0 nor 1, so
# that no axis is taken for another one or for a constant.
EXAMPLE_IMAGES, EXAMPLE_ROWS, EXAMPLE_PAST = 2, 6, 5


class Graph(NamedTuple):
    """A module to write down as one ONNX file.

    module: in evaluation mode; takes `arguments` and returns a tuple of tensors. arguments: an
    example of them. inputs, outputs: the names of all tensors that go in and come out, in order,
    with those of their axes that vary.
    """

    module: nn.Module
    arguments: tuple[Argument, ...]
    inputs: dict[str, Axes]
    outputs: dict[str, Axes]

    @torch.no_grad()
    def example(self) -> dict[str, Tensor]:
        """Return what the module makes of the example arguments, by the outputs' names."""
        return dict(zip(self.outputs, self.module(*self.arguments), strict=True))


class Weights(Listener):
    """Keeps the attention weights [B, H, T, S] of the sites it hears, by site."""

    def __init__(self, sites: Iterable[str]):
        super().__init__(sites)
        self.weights: dict[str, Tensor] = {}

    def take(self, site: str, call: AttentionCall) -> None:
        """Compute all rows: a step has one query for each row, a pooler a few hundred."""
        self.weights[site] = attention_weights(call.q, call.k, call.mask, call.scale)


class Encoder(nn.Module):
    """Pixels -> image tokens, the memory of every layer, and the pooler's attention if asked."""

    def __init__(self, model: Captioner, attention: bool):
        super().__init__()
        self.model = model
        self.attention = attention and model.vision.pooler is not None

    def forward(self, images: Float[Tensor, "B C height width"]) -> tuple[Tensor, ...]:
        """Return [B, P + S, C], keys and values [B, G, P + S, K], and attention [B, H, Q, P + S].

        The keys and values are those of each cross-attention in turn.
        """
        listener = Weights(["vision.pool"]) if self.attention else None
        image = self.model.encode(images, listener)
        weights = [] if listener is None else listener.weights.values()
        return (image.tokens, *flat_cache(self.model.memory(image)), *weights)

    def outputs(self) -> dict[str, Axes]:
        """Return what comes out, by name."""
        names = ["image_tokens", *key_values("memory", self.model.text.cross_layers)]
        names += ["attention.pool"] if self.attention else []
        return {name: {0: "batch"} for name in names}


class Step(nn.Module):
    """One token further for R rows; the rows of each of B images stand together and share it."""

    def __init__(self, text: TextTransformer, attention: bool):
        super().__init__()
        self.text, self.attention = text, attention and bool(text.cross_layers)
        self.self_layers = [i for i, kind in enumerate(text.layout) if kind != "cross"]

    def forward(
        self, tokens: Int[Tensor, "R 1"], past: list[Tensor], memory: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Return logits [R, V], keys and values [R, G, t + 1, K], and attention [R, H, P + S].

        `past` holds the keys and values [R, G, t, K] of each self-attention in turn, and `memory`
        those [B, G, P + S, K] of each cross-attention. The tokens stand at position t.
        """
        listener = Weights(["text.*.cross"]) if self.attention else None
        cache = self._by_layer(past, self.self_layers)
        context = self._by_layer(memory, self.text.cross_layers)
        hidden, newer = self.text.extend(tokens, cache, context, recorder=listener)
        calls = [] if listener is None else listener.weights.values()
        rows = (weights.transpose(1, 2).flatten(0, 1) for weights in calls)
        return (self.text.logits(hidden[:, 0]), *flat_cache(newer), *rows)

    def inputs(self) -> dict[str, Axes]:
        """Return what goes in, by name."""
        past, memory = self.self_layers, self.text.cross_layers
        return {
            "tokens": {0: "rows"},
            **{name: {0: "rows", 2: "past"} for name in key_values("past", past)},
            **{name: {0: "batch"} for name in key_values("memory", memory)},
        }

    def outputs(self) -> dict[str, Axes]:
        """Return what comes out, by name."""
        layers = self.text.cross_layers if self.attention else []
        return {
            "logits": {0: "rows"},
            **{
                name: {0: "rows", 2: "past + 1"} for name in key_values("present", self.self_layers)
            },
            **{f"attention.{layer}": {0: "rows"} for layer in layers},
        }

    def _by_layer(self, tensors: list[Tensor], layers: list[int]) -> list[KeyValues | None]:
        found = dict(zip(layers, zip(tensors[::2], tensors[1::2], strict=True), strict=True))
        return [KeyValues(*found[i]) if i in found else None for i in range(self.text.depth)]


def encoder_graph(model: Captioner, size: tuple[int, int], *, attention: bool) -> Graph:
    """Return the graph that encodes images of (height, width)."""
    encoder = Encoder(model, attention).eval()
    pixels = torch.zeros(EXAMPLE_IMAGES, 3, *size)
    return Graph(encoder, (pixels,), {"images": {0: "batch"}}, encoder.outputs())


def step_graph(
    text: TextTransformer, encoded: dict[str, Tensor], max_length: int, *, attention: bool
) -> Graph:
    """Return the graph of a decoding step of texts of at most `max_length` tokens.

    `encoded` is the encoder's example, of which the memory is taken.
    """
    step = Step(text, attention).eval()
    tokens = torch.zeros(EXAMPLE_ROWS, 1, dtype=torch.long)
    past = random_past(text, EXAMPLE_ROWS, min(EXAMPLE_PAST, max_length - 1))
    memory = [encoded[name].contiguous() for name in key_values("memory", text.cross_layers)]
    return Graph(step, (tokens, past, memory), step.inputs(), step.outputs())


def random_past(
    text: TextTransformer, rows: int, length: int, generator: torch.Generator | None = None
) -> list[Tensor]:
    """Return random keys and values of `length` tokens, for every self-attention in turn."""
    options = text.block_options
    shape = (rows, options.kv_heads or options.heads, length, text.head_dim)
    layers = [kind for kind in text.layout if kind != "cross"]
    return [torch.randn(shape, generator=generator) for _ in layers for _ in "kv"]


def key_values(what: str, layers: Sequence[int]) -> list[str]:
    """Return the names of the keys and the values of each layer in turn."""
    return [f"{what}.{layer}.{part}" for layer in layers for part in "kv"]


def flat_cache(cache: Sequence[KeyValues | None]) -> Iterator[Tensor]:
    """Yield the keys and the values of each layer that has them."""
    return chain.from_iterable(kv for kv in cache if kv is not None)


def flat(arguments: Sequence[Argument]) -> list[Tensor]:
    """Return all tensors of a graph's arguments, in the order of its inputs."""
    return [t for one in arguments for t in (one if isinstance(one, list) else [one])]
