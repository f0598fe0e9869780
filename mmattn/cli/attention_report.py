"""`mmattn attention-report --model RUN`: do a model's maps fall on what the words name?

Measures several kinds of maps on the test sets beside controls (uniform, Gaussian, random weights,
shuffled caption), and what the model loses where its attention is uniform; writes
attention_report.json, .md and .html, and says in words whether the maps are better than the
controls.

Runs that differ in their seed: give --model for each of them. Each has its own report, and of three
or more over_runs.json and over_runs.md in --out hold every figure with an interval over runs.
"""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from mmattn.cli.places import check_folder
from mmattn.cli.plain_command import mistakes_in_one_line
from mmattn.errors import ConfigError

FEWEST_RUNS = 3  # for an interval over runs
LEAST = {"limit": "images, or 0 for all", "perturbed": "images, or 0 for none", "seed": "0 or more"}


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn attention-report",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        action="append",
        required=True,
        help="a run directory or one of its checkpoints; may be given several times",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the report, RUN/attention-report if not given; of several runs OUT/<run's "
        "name>; needed for three runs and more",
    )
    parser.add_argument(
        "--limit", type=int, default=400, help="images of each test set (400); 0 takes all"
    )
    parser.add_argument(
        "--perturbed", type=int, default=16, help="so many of them also with patches removed (16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights and intervals")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; a GPU if there is one (auto)"
    )
    parser.add_argument(
        "--allow-target", action="append", default=[], help="a package of your own in the run"
    )
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="to the data of the runs")
    return parser


def main() -> None:
    """Measure, write the reports and print what they say."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        check_numbers(arguments)
        folders = report_folders(arguments.model, arguments.out)
        for folder in folders.values():
            check_folder(folder, "--out")

        from mmattn.reports.verdict import verdict
        from mmattn.reports.writing import write_report

        reports = {}
        for model, (name, folder) in zip(arguments.model, folders.items(), strict=True):
            reports[name] = measure(model, arguments)
            print(*write_report(reports[name], folder), sep="\n")
            print("\n".join(["", *verdict(reports[name]), ""]))
        if len(reports) >= FEWEST_RUNS:
            from mmattn.reports.over_runs import over_runs, sentences, write_over_runs

            over = over_runs(reports)
            print(*write_over_runs(over, arguments.out), sep="\n")
            print("\n".join(["", *sentences(over)]))
        elif len(reports) > 1:
            print(
                f"No interval over runs: it needs at least {FEWEST_RUNS} of them, and these are "
                f"{len(reports)}; train one more with another seed."
            )


def check_numbers(arguments: Namespace) -> None:
    """Raise ConfigError for an option that is below 0."""
    for name, wanted in LEAST.items():
        value = getattr(arguments, name)
        if value < 0:
            raise ConfigError(f"--{name}={value}: give a number of {wanted}")


def report_folders(models: Sequence[str], out: Path | None) -> dict[str, Path]:
    """Return the folder of each run's report by the run's name, in the order of `models`.

    Raises:
        ConfigError: where a model is not part of a run, for two of one run, and for three runs or
            more without `out`, where what holds over runs is written.
    """
    from mmattn.cli.load_run import find_run

    given = [find_run(Path(model).expanduser())[0] for model in models]
    runs = [run.resolve() for run in given]
    twice = next((run for run in runs if runs.count(run) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given twice: give other runs, or it once")
    if out is None and len(runs) >= FEWEST_RUNS:
        raise ConfigError(
            f"--out is missing: it takes the figures over these {len(runs)} runs, and their reports"
        )
    names = run_names(runs)
    if out is None:
        return {name: run / "attention-report" for name, run in zip(names, given, strict=True)}
    return {names[0]: out} if len(runs) == 1 else {name: out / name for name in names}


def run_names(runs: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder's, with those above it where that is not enough."""
    depths = range(1, max(len(run.parts) for run in runs))
    namings = (["-".join(run.parts[1:][-depth:]) for run in runs] for depth in depths)
    return next(names for names in namings if len(set(names)) == len(runs))


def measure(model: str, arguments: Namespace):
    """Return the report on one run."""
    from mmattn.cli.device import device_of
    from mmattn.cli.load_run import captioning_run, load_run
    from mmattn.maps.gradient_methods import AttentionGradient, Chefer, LeGrad
    from mmattn.maps.methods import RawAttention, Rollout, ValueNorm
    from mmattn.reports.attention import attention_report

    device = device_of(arguments.device)
    task, data = captioning_run(load_run(model, arguments.changes, arguments.allow_target))
    methods = [
        *(RawAttention(), RawAttention(None), Rollout(), ValueNorm()),
        *(AttentionGradient(), LeGrad(), Chefer()),
    ]
    return attention_report(
        task.to(device),
        data,
        methods,
        limit=arguments.limit or None,
        perturbed=arguments.perturbed,
        seed=arguments.seed,
    )
