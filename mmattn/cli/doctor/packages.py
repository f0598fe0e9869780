"""The packages that are installed, beside the bounds that ours were tested within."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from mmattn.cli.doctor.finding import Finding

# Releases that stole credentials (GHSA-w37p-236h-pfx3); they were withdrawn within the hour.
MALICIOUS = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
NAMED = ("mmattn", "torch", "torchvision", "timm", "lightning", "hydra-core", "wandb", "numpy")


def packages() -> Iterator[Finding]:
    """Find versions, packages missing or out of bounds, and releases known as malicious."""
    shown = [f"{name} {installed(name) or 'missing'}" for name in NAMED]
    yield Finding("ok", "versions", f"Python {platform.python_version()}, {', '.join(shown)}")
    yield from malicious()
    try:
        wanted = [Requirement(line) for line in requires("mmattn") or ()]
    except PackageNotFoundError:
        yield Finding(
            "note",
            "packages",
            "mmattn is not installed, so there are no bounds to compare with",
            "pip install -e .",
        )
        return
    troubles = list(filter(None, map(conflict, wanted)))
    yield from troubles
    if not troubles:
        yield Finding("ok", "packages", "all within the bounds of mmattn's own metadata")


def malicious() -> Iterator[Finding]:
    """Find releases that must not be on any machine."""
    for name, versions in MALICIOUS.items():
        if installed(name) in versions:
            yield Finding(
                "problem",
                name,
                f"{installed(name)} was a malicious release that stole credentials",
                f"pip install -U {name}, then replace every key and token of this machine",
            )


def conflict(wanted: Requirement) -> Finding | None:
    """Return what is wrong with a requirement; one of an extra only where it is installed."""
    have = installed(wanted.name)
    needed = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
    if have is None:
        if not needed:
            return None
        return Finding("problem", wanted.name, "is not installed", remedy(wanted))
    if wanted.specifier.contains(have, prereleases=True):
        return None
    text = f"{have} is installed, and mmattn wants {wanted.specifier}"
    if needed:
        return Finding("problem", wanted.name, text, remedy(wanted))
    return Finding("note", wanted.name, f"{text} for an optional part", remedy(wanted))


def remedy(wanted: Requirement) -> str:
    """Return the command that installs what is wanted."""
    return f"pip install '{wanted.name}{wanted.specifier}'"


def installed(name: str) -> str | None:
    """Return a package's version, None without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
