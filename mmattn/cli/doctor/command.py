"""`mmattn doctor`: what this machine has for a run, what it lacks, and what to do about it."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mmattn.cli.doctor.finding import Check, Finding, found_by
from mmattn.cli.plain_command import mistakes_in_one_line


def main() -> None:
    """Print what is found; exit with 1 where some of it is a problem."""
    parser = ArgumentParser(prog="mmattn doctor", description=__doc__)
    parser.add_argument("--log-dir", type=Path, default=Path("logs"), help="where runs are written")
    parser.add_argument(
        "--workers", type=int, default=0, help="data.loader.num_workers that is wanted"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of lines")
    arguments = parser.parse_args()
    with mistakes_in_one_line():
        findings = examine(arguments.log_dir, arguments.workers)
        problems = sum(finding.level == "problem" for finding in findings)
        if arguments.json:
            listed = [asdict(finding) for finding in findings]
            print(json.dumps({"problems": problems, "findings": listed}, indent=2))
        else:
            print("\n".join(lines(findings)))
    sys.exit(1 if problems else 0)


def examine(log_dir: Path, workers: int) -> list[Finding]:
    """Return what all checks find; none of them needs a network or builds a model."""
    return [
        finding for name, check in checks(log_dir, workers) for finding in found_by(name, check)
    ]


def checks(log_dir: Path, workers: int) -> Iterator[tuple[str, Check]]:
    """Yield (name, check); each imports what it looks at only when it is its turn."""
    from mmattn.cli.doctor import disks, surroundings
    from mmattn.cli.doctor.packages import packages

    yield "packages", packages
    yield "device", compute
    yield "log folder", partial(disks.log_folder, log_dir)
    yield "temporary files", partial(disks.temporary, log_dir)
    yield "shared memory", partial(disks.shared_memory, workers)
    yield "W&B", surroundings.wandb
    yield "optional", surroundings.optional_parts
    yield "fonts", surroundings.fonts
    yield "encoding", surroundings.language
    yield "home", surroundings.home


def compute() -> Iterator[Finding]:
    """Find devices and cores, if torch can be imported at all."""
    from mmattn.cli.doctor import devices

    yield from devices.devices()
    yield from devices.cores()


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each, what to do behind an arrow, and the sum at the end."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        yield f"{finding.level:<8} {finding.name:<{width}}  {finding.text}{remedy}"
    counts = [sum(f.level == level for f in findings) for level in ("problem", "note")]
    parts = [
        f"{n} {word}{'s' * (n != 1)}" for n, word in zip(counts, ("problem", "note"), strict=True)
    ]
    yield ", ".join(parts)
