"""Two processes against one, one thread each, and what they say to each other in a step.

    uv run python benchmarks/scale.py                     # the small model, 16 images a process
    uv run python benchmarks/scale.py --model base --images 2 --rounds 3

Both sides are the training step of `benchmarks/train_step.py` (5 captions an image, AdamW) in
float32. Each process has one thread; two share their gradients by DDP over gloo. Rank 0 times the
sides in turn: in a round the first process works alone while the second one sleeps, then both. What
is compared is captions per second in all; the goal is 1.8 x. The bytes are those of the buckets
that DDP's reducer hands to its all-reduce, counted by a communication hook.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from captioning_step import CAPTIONS, SIZES, Sizes, batch, loss_of, optimiser, our_model
from torch import Tensor, distributed
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from mmattn import Captioner

GOAL = 1.8


class Loss(torch.nn.Module):
    """The captioner with its loss as `forward`, which is what DDP wraps."""

    def __init__(self, model: Captioner):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, tokens: Tensor, labels: Tensor) -> Tensor:
        return loss_of(self.model, (images, tokens, labels))


class Counted:
    """The bytes that DDP's buckets gave to the all-reduce."""

    bytes = 0


def count_and_reduce(counted: Counted, bucket: GradBucket) -> Future[Tensor]:
    counted.bytes += bucket.buffer().nbytes
    world = distributed.group.WORLD
    assert world is not None
    return allreduce_hook(world, bucket)


def step_of(loss: torch.nn.Module, data: tuple[Tensor, Tensor, Tensor]) -> Callable[[], None]:
    optimizer = optimiser(loss)

    def step() -> None:
        loss(*data).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds_each(step: Callable[[], None], steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def work(rank: int, folder: str, sizes: Sizes, images: int, steps: int, rounds: int) -> None:
    """Be one of the two processes; rank 0 prints what it found."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    data = batch(images, sizes, "cpu")
    alone = step_of(Loss(our_model(sizes)), data)
    counted, together = Counted(), DistributedDataParallel(Loss(our_model(sizes)))
    together.register_comm_hook(counted, count_and_reduce)
    both = step_of(together, data)
    if rank == 0:
        seconds_each(alone, 1)
    seconds_each(both, 2)  # the second one has its buckets in the order of the gradients
    counted.bytes = 0
    times: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(rounds):
        distributed.barrier()
        if rank == 0:  # the other one waits in the next barrier, and takes no processor
            times["one"].append(seconds_each(alone, steps))
        distributed.barrier()
        times["two"].append(seconds_each(both, steps))
    if rank == 0:
        report(sizes, images, times, counted.bytes / (rounds * steps), weight_bytes(together))
    distributed.barrier()
    distributed.destroy_process_group()


def weight_bytes(model: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)


def report(
    sizes: Sizes, images: int, times: dict[str, list[float]], moved: float, weights: int
) -> None:
    one, two = (statistics.median(times[name]) for name in ("one", "two"))
    ratios = sorted(2 * a / b for a, b in zip(times["one"], times["two"], strict=True))
    ratio = statistics.median(ratios)
    print(f"{sizes}, float32, {images} images x {CAPTIONS} captions a process, one thread each")
    print(f"one process    {images * CAPTIONS / one:8.1f} captions/s")
    print(f"two processes  {2 * images * CAPTIONS / two:8.1f} captions/s")
    print(
        f"two are {ratio:.2f} x one ({ratios[0]:.2f} to {ratios[-1]:.2f}); goal {GOAL} x: "
        f"{'reached' if ratio >= GOAL else 'missed'}"
    )
    print(
        f"DDP all-reduces {moved / 1e6:.2f} MB a step, {moved / weights:.3f} x the "
        f"{weights / 1e6:.2f} MB of the parameters"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--images", type=int, default=16, help="of each process")
    parser.add_argument("--steps", type=int, default=4, help="timed together")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    run(SIZES[arguments.model], arguments.images, arguments.steps, arguments.rounds)


def run(sizes: Sizes, images: int, steps: int, rounds: int) -> None:
    """Start both processes and wait for them."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, sizes, images, steps, rounds)
        start_processes(work, arguments, nprocs=2, start_method="fork")


if __name__ == "__main__":
    main()
