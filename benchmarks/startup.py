"""How long a user waits: `import mmattn` against `import torch`, help, and a typo's answer.

uv run python benchmarks/startup.py
"""

import subprocess
import sys

from timing import interleaved

COMMAND = "from mmattn.cli.main import main; main()"


def run(*arguments: str, code: int = 0) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr}")


def main() -> None:
    seconds = interleaved(
        {
            "import torch": lambda: run("-c", "import torch"),
            "import mmattn": lambda: run("-c", "import mmattn"),
            "import mmattn.captioner": lambda: run("-c", "from mmattn import Captioner"),
            "mmattn --help": lambda: run("-c", COMMAND, "--help"),
            "a config typo": lambda: run("-c", COMMAND, "train", "optimizer.lrr=1", code=2),
        },
        repeats=7,
        warmup=1,
    )
    for name, value in seconds.items():
        print(f"{name:24} {value:6.2f} s   {value / seconds['import torch']:.2f} x import torch")


if __name__ == "__main__":
    main()
