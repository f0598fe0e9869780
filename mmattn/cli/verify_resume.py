"""`mmattn verify-resume OVERRIDES…`: is a resumed run of this configuration the same, bit for bit?

Trains a few steps of your own configuration without a break; trains it again and kills it with
SIGKILL; then goes on, in new processes, from a checkpoint after each of several steps. Weights, the
optimiser's state and the losses of every step must be equal to the last bit, and metrics.csv must
be the same curve. Epochs are made short, so that some cuts are at their ends. Everything happens in
a temporary folder, which is removed.

exit codes: 0 all are equal, 1 something differs (the first of it is named) or nothing was learned
at the last step, so that being equal means nothing, 2 a mistake in the input. What can make a run
inexact: trainer.deterministic=false on a GPU, where some operations add in any order (set
trainer.deterministic=true); callbacks without callbacks.step_seed; augmentation or a model that
draws random numbers from elsewhere than torch.
"""

import signal
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError


def main() -> None:
    """Train, cut, resume, compare and print a table."""
    parser = ArgumentParser(
        prog="mmattn verify-resume",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=8, help="optimiser steps to train (8)")
    parser.add_argument(
        "--batches", type=int, default=5, help="training batches of an epoch, at most (5)"
    )
    parser.add_argument(
        "--cuts", type=steps, default=None, help="steps to go on from, such as 1,4,5"
    )
    arguments, overrides = parser.parse_known_args()
    # Else a temporary folder and a training would stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with mistakes_in_one_line():
        cuts = arguments.cuts or default_cuts(arguments.steps, arguments.batches)
        check(arguments.steps, arguments.batches, cuts, overrides)
        from mmattn.cli.resume_trial import table, try_resuming

        with TemporaryDirectory(prefix="mmattn-") as folder:
            trial = try_resuming(
                overrides, Path(folder), arguments.steps, arguments.batches, cuts, progress=print
            )
        print(table([trial]))
        raise SystemExit(0 if trial.exact else 1)


def steps(text: str) -> list[int]:
    """Return the numbers of a list such as 1,4,5."""
    return sorted({int(part) for part in text.split(",")})


def default_cuts(steps: int, batches: int) -> list[int]:
    """Return the first step, one in the middle, the end of an epoch, one after it, and the last."""
    wanted = {1, max(1, batches - 2), batches, batches + 1, steps}
    return sorted(cut for cut in wanted if cut <= steps)


def check(steps: int, batches: int, cuts: Sequence[int], overrides: Sequence[str]) -> None:
    """Raise ConfigError for steps that cannot be compared, and for a sweep."""
    if steps < 2 or batches < 1:
        raise ConfigError(f"--steps {steps} --batches {batches}: at least 2 steps and 1 batch")
    if not all(1 <= cut <= steps for cut in cuts):
        raise ConfigError(
            f"--cuts {','.join(map(str, cuts))}: each is one of the steps 1 to {steps}"
        )
    if {"-m", "--multirun"} & set(overrides):
        raise ConfigError("verify-resume takes the configuration of one run, not of a sweep")
