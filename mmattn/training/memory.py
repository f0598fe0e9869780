"""What to do where memory ran out: of a GPU, or what processes share."""

import torch

from mmattn.data.split_module import SplitDataModule
from mmattn.errors import one_line

# What torch says where /dev/shm is full: a worker that is killed while it writes, or cannot begin.
SHARED = ("killed by signal: Bus error", "shared memory", "unable to write to file </torch_")


def lack_of_memory(error: RuntimeError, data: SplitDataModule, accumulated: int) -> str | None:
    """Return in one line which memory ran out and what to change; None for any other error.

    Args:
        error: what training raised.
        data: whose batches it was trained on.
        accumulated: `trainer.accumulate_grad_batches`.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return _of_device(error, data, accumulated)
    if any(said in str(error) for said in SHARED):
        return (
            "the processes that read data ran out of shared memory (/dev/shm): set "
            "data.loader.num_workers=0, or give it more, as with docker run --shm-size=8g"
        )
    return None


def _of_device(error: RuntimeError, data: SplitDataModule, accumulated: int) -> str:
    size, (height, width) = data.loader.batch_size, data.image_size
    said = one_line(error).partition(". ")[0]
    rows = f"data.loader.batch_size={size}, images of {height}x{width} pixels"
    if size > 1:
        smaller = size // smallest_factor(size)
        steps = accumulated * (size // smaller)
        advice = (
            f"data.loader.batch_size={smaller} trainer.accumulate_grad_batches={steps} in a new "
            f"run learn from {size * accumulated} examples of a rank in each step as before"
        )
    else:
        advice = "choose smaller images or a smaller model"
    return (
        f"{said} ({rows}): {advice}; trainer.precision=bf16-mixed needs less, too. If it was in a "
        f"validation, halve data.loader.eval_batch_size={data.loader.eval_batch_size} and go on "
        "with ckpt_path=auto. The checkpoints are as they were"
    )


def smallest_factor(number: int) -> int:
    """Return the smallest factor of a number above 1: dividing by it changes the least."""
    return next((n for n in range(2, int(number**0.5) + 1) if number % n == 0), number)
