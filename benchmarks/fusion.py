"""What the five fusions cost, and co-attention beside one whose softmax is written out.

    uv run python benchmarks/fusion.py
    uv run python benchmarks/fusion.py peer --threads 1
    uv run python benchmarks/fusion.py --quick      # does it run: small, its times mean nothing

`lengths`: the fusions of `experiment=fusion_ablation`, which have the same number of weights, at
several lengths of image and text. The encoders are taken out: a fusion is handed tokens that are
encoded already, texts padded to lengths of their own. `gated` stands between the blocks of the
text encoder; those blocks do nothing here, so only its own layers count, on the same tokens.

`peer`: `CoFusion`, and the same with the same weights but `separate_attention.py` in place of every
attention. Both must give the same outputs and gradients of the tokens, or nothing is timed.
`kernels` are the two attentions of a layer across, from projected heads to merged ones;
`attentions` are these with their projections; `fusion` is all of it, with self-attention and the
feed-forward networks; and in `questions` several examples share an image, which the peer is handed
in copies.

A step is a forward and a backward pass, to the weights and to the tokens, without an optimizer's.
Memory: `saved` is the storages that autograd keeps between the two passes, each counted once;
`peak` is the most that torch's allocator was asked for while a step ran, gradients included. Both
leave out weights and inputs, and are the same on every run.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from capture import memory_use
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from separate_attention import SeparateAttention, separate_attention, separated
from timing import interleaved
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mmattn import BlockOptions
from mmattn.attention import Attention, KeyValues, attend
from mmattn.blocks import BeforeBlock
from mmattn.cli import schema
from mmattn.fusion import CoFusion, Encoder, Fusion, Stream
from mmattn.fusion.stacked import across
from mmattn.recorder import MB
from mmattn.training.allocator import keep_freed_memory

FUSIONS = ("cross", "co", "merged", "gated", "pooled")
IMAGE_LENGTHS, TEXT_LENGTHS = (49, 197, 577), (16, 64)
WIDTHS = ((384, 6), (768, 12))  # width, heads
BATCHES = (8, 32)
QUESTIONS = 4  # of an image, where it is shared
SAME_SIZE = 1.02  # most weights over fewest
WITHIN = 1e-5  # largest difference between ours and the peer


@dataclass(frozen=True)
class Side:
    """What is timed: a forward pass, and the tensors that a backward pass goes to."""

    run: Callable[[], list[Tensor]]
    leaves: list[Tensor]

    @cached_property
    def cotangents(self) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.no_grad():
            return [torch.randn(out.shape) for out in self.run()]

    @torch.no_grad()
    def forward(self) -> None:
        self.run()

    def gradients(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.run(), self.leaves, self.cotangents)

    def step(self) -> None:
        self.gradients()

    def saved(self) -> int:
        """Return the bytes that autograd keeps for the backward pass, beyond the leaves."""
        kept = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage  # held, so that no other takes its address
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = self.run()
        del outputs
        known = {leaf.untyped_storage().data_ptr() for leaf in self.leaves}
        return sum(one.nbytes() for place, one in kept.items() if place not in known)


def medians(sides: dict[str, Side], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return each side's milliseconds of a forward pass and of a step."""
    forward = interleaved({name: side.forward for name, side in sides.items()}, repeats)
    step = interleaved({name: side.step for name, side in sides.items()}, repeats)
    return milliseconds(forward), milliseconds(step)


def milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1e3 * value for name, value in seconds.items()}


def streams(
    batch: int, image: int, text: int, dim: int, images: int | None = None
) -> tuple[Stream, Stream]:
    """Return random tokens: images of one length, texts of a quarter of theirs up to all of it.

    `images` images are shared out among the examples; without it each has its own.
    """
    torch.manual_seed(0)
    seen = torch.randn(images or batch, image, dim, requires_grad=True)
    read = torch.randn(batch, text, dim, requires_grad=True)
    lengths = torch.randint(text // 4, text + 1, (batch, 1))
    lengths[0] = text
    # A classifier always says which image is whose, and none is padded.
    rows = torch.arange(batch) // (batch // len(seen))
    return Stream(seen, None, rows), Stream(read, torch.arange(text) < lengths)


def encoder(stream: Stream, depth: int) -> Encoder:
    """Return an encoder that has encoded already; its blocks do nothing between gated layers."""

    def encode(before: BeforeBlock | None) -> Stream:
        if before is None:
            return stream
        x = stream.tokens
        for i in range(depth):
            x = before(i, x)
        return stream._replace(tokens=x)

    return encode


def fused(fusion: Fusion, image: Stream, text: Stream) -> Side:
    """Return a fusion of two streams, to the vector that a classifier reads."""
    encoders = encoder(image, fusion.depth), encoder(text, fusion.depth)
    leaves = [*fusion.parameters(), image.tokens, text.tokens]
    return Side(lambda: [fusion(*encoders).summary], leaves)


def weights_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def ablation(dim: int, heads: int) -> dict[str, Fusion]:
    """Return the five fusions as `experiment=fusion_ablation` makes them, at another width.

    Stops where they do not have the same number of weights.
    """
    schema.register()
    found = {}
    sizes = [f"model.text.dim={dim}", f"model.text.block.heads={heads}"]
    with initialize_config_dir(str(schema.config_dir()), version_base="1.3"):
        for name in FUSIONS:
            overrides = ["experiment=fusion_ablation", f"model/fusion={name}", *sizes]
            config = compose("train", overrides).model.fusion
            torch.manual_seed(0)
            found[name] = instantiate(config, _convert_="all")
    weights = {name: weights_of(fusion) for name, fusion in found.items()}
    if max(weights.values()) > SAME_SIZE * min(weights.values()):
        raise SystemExit(f"the fusions have different numbers of weights: {weights}")
    return found


def lengths(quick: bool, repeats: int) -> None:
    dim, heads, batch = (32, 4, 4) if quick else (384, 6, 8)
    fusions = ablation(dim, heads)
    millions = [weights_of(fusion) / 1e6 for fusion in fusions.values()]
    print(f"five fusions, width {dim}, {min(millions):.3f} to {max(millions):.3f} M weights,")
    print(f"  batch of {batch}; times also over those of cross")
    print(
        f"{'image':>7}{'text':>6}  {'fusion':8}{'forward':>20}{'step':>20}"
        f"{'saved':>12}{'peak of step':>14}"
    )
    for image in IMAGE_LENGTHS[: 1 if quick else None]:
        for text in TEXT_LENGTHS:
            given = streams(batch, image, text, dim)
            sides = {name: fused(fusion, *given) for name, fusion in fusions.items()}
            forward, step = medians(sides, repeats)
            for name, side in sides.items():
                times = [
                    f"{t[name]:8.1f} ms {t[name] / t['cross']:5.2f} x" for t in (forward, step)
                ]
                most, _ = memory_use(side.step)
                print(
                    f"{image:7}{text:6}  {name:8}{times[0]:>20}{times[1]:>20}"
                    f"{side.saved() / MB:9.1f} MB{most / MB:11.1f} MB"
                )


def both_ways(fusion: CoFusion) -> tuple[Attention, Attention]:
    """Return the attentions across of the first layer: the image's, and the text's."""
    return across(fusion.image_blocks[0]), across(fusion.text_blocks[0])


def attentions(fusion: CoFusion, image: Stream, text: Stream) -> Side:
    """Return what a layer attends across, its projections included."""
    seeing, reading = both_ways(fusion)

    def run() -> list[Tensor]:
        x, y = image.tokens, text.tokens
        return [seeing(x, seeing.kv(y), text.mask), reading(y, reading.kv(x), image.mask)]

    leaves = [*seeing.parameters(), *reading.parameters(), image.tokens, text.tokens]
    return Side(run, leaves)


def merged_heads(attention: Attention, q: Tensor, kv: KeyValues, mask: Tensor | None) -> Tensor:
    """Return what an attention reads, heads side by side, by the kernel that it has."""
    if isinstance(attention, SeparateAttention):
        out, _ = separate_attention(q, kv.k, kv.v, mask, 0.0)
    else:
        out = attend(q, kv.k, kv.v, mask)
    return out.transpose(1, 2).flatten(2)


def kernels(fusion: CoFusion, image: Stream, text: Stream) -> Side:
    """Return what a layer attends across, from projected heads on."""
    calls, leaves = [], []
    ways = zip(both_ways(fusion), (image, text), (text, image), strict=True)
    for attention, to, of in ways:
        with torch.no_grad():
            q, kv = attention.queries(to.tokens), attention.kv(of.tokens)
        given = [tensor.requires_grad_() for tensor in (q, *kv)]
        leaves += given
        calls.append(partial(merged_heads, attention, given[0], KeyValues(*given[1:]), of.mask))
    return Side(lambda: [call() for call in calls], leaves)


def agree(ours: CoFusion, peer: CoFusion, image: Stream, text: Stream) -> float:
    """Return the largest difference of an output or of a gradient in the tokens.

    Stops where it is not small, and where the peer has other weights.
    """
    if weights_of(ours) != weights_of(peer):
        raise SystemExit(f"{weights_of(ours)} weights, and the peer has {weights_of(peer)}")
    apart = 0.0
    hidden = torch.arange(image.tokens.shape[1]) < image.tokens.shape[1] - 7
    for valid in (None, hidden.expand(len(image.tokens), -1)):
        sides = [fused(side, image._replace(valid=valid), text) for side in (ours, peer)]
        with torch.no_grad():
            pairs = [*zip(*(side.run() for side in sides), strict=True)]
        pairs += zip(*(side.gradients()[-2:] for side in sides), strict=True)
        apart = max([apart, *(float((a - b).abs().max()) for a, b in pairs)])
    if not apart <= WITHIN:
        raise SystemExit(f"ours and the peer are {apart:.1e} apart, which is over {WITHIN:.0e}")
    return apart


def contests(
    ours: CoFusion, peer: CoFusion, batch: int, image: int, text: int
) -> Iterator[tuple[str, dict[str, Side]]]:
    """Yield what is compared, and both sides of it."""
    given = streams(batch, image, text, ours.dim)
    for make in (kernels, attentions, fused):
        name = "fusion" if make is fused else make.__name__
        yield name, {"ours": make(ours, *given), "peer": make(peer, *given)}
    seen, read = streams(batch, image, text, ours.dim, batch // QUESTIONS)
    copied = Stream(seen.spread().detach().requires_grad_())
    yield (
        f"{QUESTIONS} questions",
        {"ours": fused(ours, seen, read), "peer": fused(peer, copied, read)},
    )


def against_peer(quick: bool, repeats: int) -> None:
    image, text = (13, 8) if quick else (197, 64)
    print(f"co-attention of {image} x {text} tokens, one layer; in times ours, the peer's")
    print(f"{'width':>7}{'batch':>6}  {'what':13}{'forward':>28}{'step':>28}{'saved':>32}")
    for dim, heads in ((32, 4),) if quick else WIDTHS:
        torch.manual_seed(0)
        ours = CoFusion(dim, 1, BlockOptions(heads=heads))
        peer = separated(ours)
        apart = agree(ours, peer, *streams(2, image, text, dim))
        for batch in (4,) if quick else BATCHES:
            for name, sides in contests(ours, peer, batch, image, text):
                cells = [versus(times, "ms", 28) for times in medians(sides, repeats)]
                cells.append(versus({k: s.saved() / MB for k, s in sides.items()}, "MB", 32))
                print(f"{dim:7}{batch:6}  {name:13}{''.join(cells)}")
        print(f"  width {dim}: largest difference of an output or a gradient {apart:.1e}")


def versus(value: dict[str, float], unit: str, width: int) -> str:
    """Return ours, the peer's, and how many times ours that is."""
    ratio = value["peer"] / value["ours"]
    return f"{value['ours']:.1f} {value['peer']:.1f} {unit} {ratio:5.2f} x".rjust(width)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parts = ["lengths", "peer"]
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="|".join(parts))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as a run does
    print(f"torch {torch.__version__}, {arguments.threads} threads, float32")
    repeats = 1 if arguments.quick else arguments.repeats
    wanted = arguments.parts or parts
    if "lengths" in wanted:
        lengths(arguments.quick, repeats)
    if "peer" in wanted:
        against_peer(arguments.quick, repeats)


if __name__ == "__main__":
    main()
