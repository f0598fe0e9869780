"""What each way to learn adds to captions of Flickr8k: three seeds of each, and their spread.

    MMATTN_DATA=/path/to/data uv run --extra coco python benchmarks/caption_methods.py --out FOLDER

All runs are short ones of `experiment=flickr8k_frozen`: four epochs in which two captions of each
photo are learned from, so that they can be compared, not so that they are good. "plain" has none of
the methods. Every line differs from it by what it names alone, and is compared with it seed by
seed; the last three have two epochs more, of either kind. Figures are of greedy captions of the
1,000 test photos, by the checkpoint that is best on the validation photos. Two runs at a time, of
one thread each; what FOLDER has already is not run again, so a stopped benchmark goes on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHORT = (
    "feature_views=0",  # each photo as it is tested, both ways round
    "data.loader.captions_per_image=2",
    "trainer.max_epochs=4",
    "trainer.check_val_every_n_epoch=2",
)
LONGER = ("trainer.max_epochs=6",)
REWARDS = (
    *LONGER,
    "task.self_critical.start_epoch=4",
    "task.self_critical.lr=1e-4",
    "task.self_critical.dropout=true",  # one view of each photo is soon learned by heart
)
AVERAGED = "callbacks.ema.decay=0.99"
QUIET = ("logger=none", "print_config=false", "callbacks.attention=null", "callbacks.heads=null")
SHOWN = {"CIDEr-D": "test/cider", "BLEU-4": "test/bleu_4", "METEOR": "test/meteor"}
PLAIN = "plain"


@dataclass(frozen=True)
class Line:
    """A line of the table: the methods of its runs, and what else they are told."""

    methods: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return what its runs are told, and those of others are not."""
        off = () if "self_critical" in self.methods else ("task.self_critical=null",)
        off += () if "ema" in self.methods else ("callbacks.ema=null",)
        method = f"method=[{','.join(self.methods)}]"
        return ["experiment=flickr8k_frozen", method, *off, *SHORT, *self.overrides]


LINES = {
    PLAIN: Line(),
    "label smoothing 0.1": Line(("label_smoothing",)),
    "averaged weights": Line(("ema",), (AVERAGED,)),
    "word dropout 0.1": Line(("word_dropout",)),
    "R-Drop": Line(("r_drop",)),
    "scheduled sampling": Line(("scheduled_sampling",)),
    "drop-worst 0.2": Line(("drop_worst",)),
    "parallel prediction 0.75": Line(("parallel_prediction",)),
    "distillation from another seed": Line(("distillation",)),
    "two epochs more": Line((), LONGER),
    "two epochs more, self-critical": Line(("self_critical",), REWARDS),
    "two epochs more, self-critical, averaged weights": Line(
        ("self_critical", "ema"), (*REWARDS, AVERAGED)
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMATTN_DATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2)
    args = parser.parse_args()
    if args.data is None:
        raise SystemExit("set MMATTN_DATA to the folder that holds flickr8k/ and weights/")
    print(f"| greedy, test photos | {' | '.join(SHOWN)} |\n|---|{'---:|' * len(SHOWN)}")
    runs = [(name, seed) for name in LINES for seed in range(args.seeds)]
    with ThreadPoolExecutor(args.at_once) as pool:  # in this order, so that a teacher comes first
        done = pool.map(lambda each: run(args, *each), runs)
        for (name, seed), _ in zip(runs, done, strict=True):
            if seed == args.seeds - 1:
                print(row(args, name), flush=True)


def folder_of(args: argparse.Namespace, name: str, seed: int) -> Path:
    return args.out.absolute() / f"{name.replace(' ', '_').replace(',', '')}-{seed}"


def run(args: argparse.Namespace, name: str, seed: int) -> None:
    """Train and test one model, if that was not done before."""
    folder = folder_of(args, name, seed)
    if (folder / "results.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    common = [
        *(f"paths.data_dir={args.data}", f"paths.log_dir={args.out.absolute()}"),
        *(f"hydra.run.dir={folder}", "ckpt_path=auto", f"seed={seed}", *QUIET),
    ]
    if "distillation" in LINES[name].methods:
        teacher = folder_of(args, PLAIN, (seed + 1) % args.seeds)
        common.append(f"task.cross_entropy.distillation.teacher={teacher}")
    with (folder / "output.txt").open("w") as output:
        done = subprocess.run(
            [sys.executable, "train.py", *LINES[name].arguments(), *common],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
        )
    if done.returncode:
        raise SystemExit(f"{name}, seed {seed}: exit code {done.returncode}, see {output.name}")


def row(args: argparse.Namespace, name: str) -> str:
    """Return a line of the table: mean ± standard deviation over seeds, and of the difference."""
    own, plain = results(args, name), results(args, PLAIN)
    cells = []
    for key in SHOWN.values():
        cell = spread([each[key] for each in own])
        if name != PLAIN:
            pairs = zip(own, plain, strict=True)
            cell += f" ({spread([one[key] - other[key] for one, other in pairs], '+')})"
        cells.append(cell)
    return f"| {name} | {' | '.join(cells)} |"


def results(args: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """Return what every seed's run reached."""
    files = [folder_of(args, name, seed) / "results.json" for seed in range(args.seeds)]
    return [json.loads(file.read_text()) for file in files]


def spread(values: list[float], sign: str = "") -> str:
    """Return mean ± standard deviation, or the one value."""
    mean = f"{statistics.mean(values):{sign}.3f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
