"""What each way to write adds to the captions of trained models: Flickr8k's test photos.

    MMATTN_DATA=/path/to/data uv run --extra coco python benchmarks/caption_decoding.py \\
        --sweep SWEEP --before epoch_007.ckpt --out FOLDER

SWEEP is the folder of a sweep over seeds of `experiment=flickr8k_frozen`, with a run directory for
each; --before names the checkpoint of its last epoch of cross-entropy. Where a line is of single
models, its figures are the mean ± standard deviation over the seeds; "together" is the mean of the
models' probabilities. Neighbours are photos of training, and their seconds include looking at all
6,000 of them. Everything goes through `mmattn import`, `average`, `caption` and `score`, one
command at a time; what FOLDER has already is not done again.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from caption_methods import spread

SHOWN = {"CIDEr-D": "CIDEr", "BLEU-4": "BLEU_4", "METEOR": "METEOR"}
BEAMS = ("--beams", "3")
DRAWN = ("--sample", "--best-of", "20", "--by", "consensus", "--consensus-captions", "CAPTIONS")
NEIGHBOURS = ("--beams", "20", "--best-of", "20", "--length-penalty", "1.5", "--by", "neighbours")
NEIGHBOURS += ("--known-captions", "CAPTIONS", "--known-images", "IMAGES")


@dataclass(frozen=True)
class Line:
    """A line of the table: which models write how.

    Attributes:
        models: of each seed, "before" and "after" rewards, or the "mean" of both's weights.
        flags: of `mmattn caption`.
        together: the models of all seeds write one caption of each photo, not each its own.
    """

    models: tuple[str, ...]
    flags: tuple[str, ...] = ()
    together: bool = False


LINES = {
    "before rewards, greedy": Line(("before",)),
    "before rewards, three beams": Line(("before",), BEAMS),
    "greedy": Line(("after",)),
    "three beams": Line(("after",), BEAMS),
    "twenty drawn, the best by consensus": Line(("after",), DRAWN),
    "mean of the weights before and after, greedy": Line(("mean",)),
    "twenty beams, chosen by neighbours": Line(("after",), NEIGHBOURS),
    "all seeds together, three beams": Line(("after",), BEAMS, True),
    "and as before rewards, three beams": Line(("after", "before"), BEAMS, True),
    "the same, twenty beams, chosen by neighbours": Line(("after", "before"), NEIGHBOURS, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("MMATTN_DATA"))
    parser.add_argument("--sweep", type=Path, required=True)
    parser.add_argument("--before", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.data is None:
        raise SystemExit("set MMATTN_DATA to the folder that holds flickr8k/")
    photos = Photos(args.data / "flickr8k")
    args.out.mkdir(parents=True, exist_ok=True)
    seeds = [models(args, run) for run in sorted(args.sweep.glob("[0-9]*"))]
    if not seeds:
        raise SystemExit(f"{args.sweep} has no runs 0, 1, …")
    print(f"| test photos | {' | '.join(SHOWN)} | seconds |\n|---|{'---:|' * (len(SHOWN) + 1)}")
    for name, line in LINES.items():
        own = [[seed[kind] for kind in line.models] for seed in seeds]
        writers = [[one for seed in own for one in seed]] if line.together else own
        results = [
            captioned(photos, args.out, f"{name}-{n}", writer, line.flags)
            for n, writer in enumerate(writers)
        ]
        cells = [spread([one[key] for one in results]) for key in SHOWN.values()]
        seconds = statistics.mean(one["seconds"] for one in results)
        print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


@dataclass(frozen=True)
class Photos:
    """The folder of Flickr8k: its test photos, and the captions of its training photos."""

    root: Path

    @property
    def references(self) -> Path:
        return self.root / "Flickr8k.token.txt"

    @property
    def split(self) -> Path:
        return self.root / "Flickr_8k.testImages.txt"

    def paths(self) -> str:
        """Return the paths of the test photos, one a line."""
        return "\n".join(
            str(self.root / "images" / name) for name in self.split.read_text().split()
        )

    def captions_of_training(self) -> str:
        """Return the captions of training alone, in the file format of all captions."""
        names = set((self.root / "Flickr_8k.trainImages.txt").read_text().split())
        lines = self.references.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if line.split("#")[0] in names)


def models(args: argparse.Namespace, run: Path) -> dict[str, Path]:
    """Return a seed's models, as folders: before and after rewards, and the mean of both."""
    found = {kind: args.out / "models" / f"{kind}_{run.name}" for kind in ("before", "mean")}
    found["after"] = run
    found["before"].parent.mkdir(exist_ok=True)
    if not found["before"].exists():
        mmattn("import", str(run / "checkpoints" / args.before), str(found["before"]))
    if not found["mean"].exists():
        mmattn("average", str(found["before"]), str(run), "--out", str(found["mean"]))
    return found


def captioned(
    photos: Photos, out: Path, name: str, writers: Sequence[Path], flags: Sequence[str]
) -> dict[str, float]:
    """Return the scores of what models write, and the seconds it took, with their loading."""
    stem = name.replace(" ", "_").replace(",", "")
    scores = out / f"{stem}.json"
    if not scores.exists():
        predictions, known = out / f"{stem}.jsonl", out / "training_captions.txt"
        known.write_text(photos.captions_of_training())
        places = {"CAPTIONS": str(known), "IMAGES": str(photos.root / "images")}
        flags = [places.get(flag, flag) for flag in flags]
        named = [word for one in writers for word in ("--model", str(one))]
        start = time.perf_counter()
        written = ("--out", str(predictions), "--batch-size", "50")
        mmattn("caption", "-", *named, *flags, *written, stdin=photos.paths())
        seconds = time.perf_counter() - start
        sets = ("--references", str(photos.references), "--split", str(photos.split))
        judged = mmattn("score", *sets, "--predictions", str(predictions), "--meteor", "--json")
        found = {key: each["score"] for key, each in json.loads(judged)["scores"].items()}
        scores.write_text(json.dumps(found | {"seconds": seconds}))
    return json.loads(scores.read_text())


def mmattn(*arguments: str, stdin: str | None = None) -> str:
    """Run a command of mmattn and return what it printed."""
    command = [sys.executable, "-m", "mmattn", *arguments]
    with TemporaryDirectory() as cache:  # nothing that was computed before
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"mmattn {' '.join(arguments)}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
