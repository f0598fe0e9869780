"""Is a resumed run the same to the last bit? Cuts x workers x ranks x precision, on the CPU.

uv run python benchmarks/resume.py

Each line is a run that was killed with SIGKILL and went on in a new process, against one that was
never cut: a small captioner with dropout, averaged weights (EMA) and a learning-rate schedule,
seven steps in epochs of five batches. Cuts are in the middle of an epoch, at its end and at the
last step.
"""

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from mmattn.cli.resume_trial import table, try_resuming

STEPS, BATCHES, CUTS = 7, 5, (2, 5, 7)
SMALL = [
    "data.source.fonts=[DejaVuSans,DejaVuSerif]",
    "data.source.held_out_fonts=[DejaVuSans-Bold]",
    "data.source.categories=[Lu]",
    "data.loader.batch_size=8",
    "model.vision.patches.dim=16",
    "model.vision.patches.channels_out=[4,4]",
    "model.text.dim=16",
    "model.text.depth=1",
    "model.text.context_dim=16",
    "++model.text.block.dropout=0.1",
    "trainer.accelerator=cpu",
    "callbacks=[checkpoint,step_seed,throughput,curve,ema]",
]


def main() -> None:
    trials = []
    for precision, ranks, workers in product(("32-true", "bf16-mixed"), (1, 2), (0, 2)):
        several = ["trainer=ddp", f"trainer.devices={ranks}"] if ranks > 1 else []
        chosen = [f"trainer.precision={precision}", f"++data.loader.num_workers={workers}"]
        print(f"{precision}, {ranks} ranks, {workers} workers", file=sys.stderr, flush=True)
        with TemporaryDirectory() as folder:
            trials.append(
                try_resuming([*SMALL, *several, *chosen], Path(folder), STEPS, BATCHES, CUTS)
            )
        print(table(trials[-1:]), file=sys.stderr, flush=True)
    print(table(trials))
    raise SystemExit(0 if all(trial.exact for trial in trials) else 1)


if __name__ == "__main__":
    main()
