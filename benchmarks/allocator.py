"""What it saves on a CPU to keep freed memory: a frozen MobileNetV2 over photos, and a step.

    uv run python benchmarks/allocator.py

Each side runs in a process of its own, for the setting cannot be taken back.
"""

import argparse
import subprocess
import sys

import torch
from timing import interleaved

from mmattn.backbones import TimmPatches
from mmattn.training.allocator import keep_freed_memory


def images_per_second(threads: int, batch: int) -> float:
    torch.set_num_threads(threads)
    patches = TimmPatches("mobilenetv2_100", 256, (224, 224), level="final", frozen=True)
    patches.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return batch / interleaved({"encode": lambda: patches.features(images)}, 7)["encode"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=["default", "kept"])
    arguments = parser.parse_args()
    if arguments.side:
        if arguments.side == "kept" and not keep_freed_memory():
            raise SystemExit("this C library has no mallopt: there is nothing to compare")
        print(images_per_second(arguments.threads, arguments.batch))
        return
    command = [sys.executable, __file__, "--threads", str(arguments.threads)]
    command += ["--batch", str(arguments.batch), "--side"]
    rates = {}
    for side in ("default", "kept"):
        run = subprocess.run([*command, side], capture_output=True, text=True, check=True)
        rates[side] = float(run.stdout)
        print(f"{side:8} {rates[side]:6.1f} images/s")
    print(f"keeping freed memory is {rates['kept'] / rates['default']:.2f} x as fast")


if __name__ == "__main__":
    main()
