"""`mmattn attention-report --model RUN`: do a model's maps fall on what the words name?

Measures several kinds of maps on the test sets beside controls (uniform, Gaussian, random weights,
another image's caption), writes report.json, report.md and report.html, and says in words whether
the maps are better than the controls.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from mmattn.cli.plain_command import mistakes_in_one_line


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    parser = ArgumentParser(
        prog="mmattn attention-report",
        description=__doc__,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="a run directory or one of its checkpoints")
    parser.add_argument("--out", type=Path, help="folder of the report; RUN/attention-report")
    parser.add_argument(
        "--limit", type=int, default=400, help="images of each test set (400); 0 takes all"
    )
    parser.add_argument(
        "--perturbed", type=int, default=16, help="so many of them also with patches removed (16)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights and intervals")
    parser.add_argument(
        "--allow-target", action="append", default=[], help="a package of your own in the run"
    )
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="to the run's data")
    return parser


def main() -> None:
    """Measure, write the report and print what it says."""
    arguments = parser().parse_args()
    with mistakes_in_one_line():
        from mmattn.cli.load_run import load_run
        from mmattn.maps.gradient_methods import AttentionGradient, Chefer, LeGrad
        from mmattn.maps.methods import RawAttention, Rollout, ValueNorm
        from mmattn.reports.attention import attention_report
        from mmattn.reports.verdict import verdict
        from mmattn.reports.writing import write_report

        run = load_run(arguments.model, arguments.changes, arguments.allow_target)
        methods = [
            *(RawAttention(), RawAttention(None), Rollout(), ValueNorm()),
            *(AttentionGradient(), LeGrad(), Chefer()),
        ]
        report = attention_report(
            run.task,
            run.data,
            methods,
            limit=arguments.limit or None,
            perturbed=arguments.perturbed,
            seed=arguments.seed,
        )
        for path in write_report(report, arguments.out or run.folder / "attention-report"):
            print(path)
        print("\n".join(["", *verdict(report)]))
