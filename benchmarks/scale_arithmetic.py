"""What many GPUs would need and reach: arithmetic, not a measurement.

    uv run python benchmarks/scale_arithmetic.py
    uv run python benchmarks/scale_arithmetic.py --step-ms 60 --nic 25 --images 64

Counted here: the parameters, and the bytes that the forward pass of one more image keeps for the
backward pass (on a CPU, under bfloat16 autocast, whose fused attention keeps what the GPU's does).
Given, with defaults: the time of a step without communication, measured on one GPU; and the speed
of the links. With W bytes of weights in float32, N ranks in M machines of 8:

- memory, DDP: 5·W, for weights, gradients, their copy in DDP's buckets, and two moments of AdamW;
  FSDP: 4·W / N, a block with its gradients while it is gathered, and what is in no block, gathered
  for the whole step. Activations besides.
- bytes that a rank sends, DDP: a ring all-reduce, 2·(N-1)/N·W. FSDP: weights are gathered twice and
  gradients scattered once, 3·(N-1)/N·W.
- time: inside a machine all bytes pass at the speed of its links; between machines each of its 8
  ranks carries an eighth of W, at the speed of its network card. Plus a latency for each hop of a
  tree over all ranks, for each message.
- efficiency: step / (step + what communication adds). All of it may hide behind the backward pass,
  two thirds of the step (FSDP: behind the whole step), but for the last message.
"""

import argparse
from dataclasses import dataclass
from math import log2

import torch
from captioning_step import SIZES, Data, Sizes, batch, loss_of, our_model
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mmattn import Captioner
from mmattn.blocks import Block

GB = 1e9
IN_MACHINE = 8
BUCKET = 25 * 2**20  # of DDP's all-reduce
RANKS = (8, 64, 512)


@dataclass(frozen=True)
class Model:
    """Bytes: of all weights in float32, of the largest block's, of one image's activations."""

    weights: float
    largest: float
    rest: float  # outside of the blocks
    pieces: int
    activations: float


@dataclass(frozen=True)
class Machine:
    """Seconds of a step alone; bytes/s of links in a machine and of a card; seconds of a hop."""

    step: float
    link: float
    nic: float
    hop: float


def counted(sizes: Sizes) -> Model:
    """Count a model's weights, and what an image of it with its captions keeps."""
    model = our_model(sizes)
    blocks = [bytes_of(module) for module in model.modules() if isinstance(module, Block)]
    four = batch(4, sizes, "cpu")  # so that their captions are padded alike
    two = four[0][:2], four[1][:2], four[2][:2]
    kept = [kept_bytes(model, data) for data in (two, four)]
    weights = bytes_of(model)
    return Model(
        weights, max(blocks), weights - sum(blocks), len(blocks) + 1, (kept[1] - kept[0]) / 2
    )


def bytes_of(module: nn.Module) -> float:
    return sum(parameter.numel() * 4.0 for parameter in module.parameters())


def kept_bytes(model: Captioner, data: Data) -> int:
    """Return the size of all storages that a forward pass keeps for its backward pass."""
    storages: dict[int, int] = {}
    alive: list[Tensor] = []  # or another tensor would take the place of one that is gone

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        loss_of(model, data)
    return sum(storages.values())


def memory(model: Model, images: int, ranks: int, sharded: bool) -> float:
    activations = images * model.activations
    if sharded:  # weights, gradients, two moments; the rest is gathered for the whole step
        return 4 * model.weights / ranks + 2 * model.largest + 2 * model.rest + activations
    return 5 * model.weights + activations


def sent(model: Model, ranks: int, sharded: bool) -> float:
    return (3 if sharded else 2) * (ranks - 1) / ranks * model.weights


def seconds(size: float, passes: int, messages: int, ranks: int, machine: Machine) -> float:
    """Return how long `passes` over `size` bytes take, cut into messages."""
    machines = max(ranks // IN_MACHINE, 1)
    inside = (IN_MACHINE - 1) / IN_MACHINE * size / machine.link
    between = (machines - 1) / machines * size / IN_MACHINE / machine.nic
    return passes * (inside + between + messages * log2(ranks) * machine.hop)


def efficiency(model: Model, ranks: int, machine: Machine, sharded: bool) -> float:
    passes = 3 if sharded else 2
    messages = model.pieces if sharded else max(round(model.weights / BUCKET), 1)
    whole = seconds(model.weights, passes, messages, ranks, machine)
    last = whole / messages
    hidden = machine.step * (1.0 if sharded else 2 / 3)
    return machine.step / (machine.step + max(whole - last - hidden, 0.0) + last)


def table(model: Model, images: int, captions: float, machine: Machine) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| GPUs | | memory per GPU | sent per GPU and step | efficiency | captions/s |",
        "|---|---|---|---|---|---|",
    ]
    for ranks in RANKS:
        for name, sharded in (("DDP", False), ("FSDP", True)):
            share = efficiency(model, ranks, machine, sharded)
            lines.append(
                f"| {ranks} | {name} | {memory(model, images, ranks, sharded) / GB:.1f} GB | "
                f"{sent(model, ranks, sharded) / GB:.2f} GB | {share:.1%} | "
                f"{share * ranks * captions:,.0f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="base")
    parser.add_argument("--images", type=int, default=128, help="of each GPU")
    parser.add_argument("--step-ms", type=float, default=129.0, help="measured on one GPU")
    parser.add_argument("--link", type=float, default=360.0, help="GB/s inside a machine")
    parser.add_argument("--nic", type=float, default=40.0, help="GB/s of a GPU between machines")
    parser.add_argument("--hop-us", type=float, default=10.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = counted(SIZES[given.model])
    machine = Machine(given.step_ms / 1e3, given.link * GB, given.nic * GB, given.hop_us / 1e6)
    print(
        f"{given.model}: {model.weights / 4e6:.0f} M parameters, {model.weights / GB:.2f} GB in "
        f"float32; {model.activations / 1e6:.0f} MB of activations an image with 5 captions; "
        f"{given.images} images and {given.step_ms:.0f} ms a step"
    )
    captions = given.images * 5 / machine.step
    print("\n".join(table(model, given.images, captions, machine)))


if __name__ == "__main__":
    main()
