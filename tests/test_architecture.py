"""The house stands: a file imports only from lower floors, and only `cli` knows Hydra."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "mmattn"

# A unit is a module or a sub-package directly under mmattn; inside one, imports are free.
FLOORS = {
    "errors": -1,
    "batch": 0,
    "files": 0,
    "json_file": 1,
    "initialisation": 1,
    "positions": 1,
    "taps": 1,
    "recorder": 2,
    "gradient_recorder": 3,
    "statistics": 3,
    "metrics": 1,
    "figures": 2,
    "weights": 1,
    "attention": 2,
    "blocks": 3,
    "patches": 3,
    "backbones": 4,
    "pooling": 4,
    "vision": 5,
    "text": 5,
    "fusion": 5,
    "captioner": 6,
    "classifier": 6,
    "joint": 7,
    "decoding": 7,
    "maps": 7,
    "zero_shot": 8,
    "architecture": 8,
    "data": 7,
    "assembly": 9,
    "bundle": 9,
    "placement": 9,
    "tasks": 9,
    "interop": 10,
    "model_folder": 10,
    "pipeline": 11,
    "training": 11,
    "reports": 12,
    "__init__": 12,
    "cli": 13,
    "__main__": 14,
}
# The data side stands beside the model side, so floors 1 to 6 are not its to import.
SEES_BELOW = FLOORS | {"data": 1}


def unit_of(path: Path) -> str:
    """`mmattn/data/flickr.py` -> `data`; `mmattn/blocks.py` -> `blocks`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The dotted module that `node` names, with leading dots resolved against the file."""
    if not node.level:
        return node.module or ""
    folder = path.relative_to(PACKAGE.parent).parts[: -node.level]
    return ".".join([*folder, *([node.module] if node.module else [])])


def imported(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Every (line, dotted name) that the file imports, at any depth and under any condition."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(path, node)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def target_unit(name: str) -> str:
    """`mmattn.batch.ImageTokens` -> `batch`; a name of the package itself -> `__init__`."""
    parts = name.split(".")
    is_unit = len(parts) > 1 and (parts[1] in FLOORS or is_module(parts[1]))
    return parts[1] if is_unit else "__init__"


def is_module(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def complaint(unit: str, name: str) -> str | None:
    """What is wrong with `unit` importing `name`, if anything is."""
    package = name.split(".")[0]
    if package == "hydra" and unit != "cli":
        return "only mmattn/cli may import hydra"
    if package != "mmattn":
        return None
    target = target_unit(name)
    if target not in FLOORS:
        return f"mmattn/{target} has no floor: give it one in FLOORS"
    if target == unit or FLOORS[target] < SEES_BELOW[unit]:
        return None
    return f"{target} is on floor {FLOORS[target]}, {unit} may import below {SEES_BELOW[unit]} only"


def violations(path: Path, source: str) -> list[str]:
    """One line for each import of `source`, standing at `path`, that the house forbids."""
    unit, place = unit_of(path), path.relative_to(PACKAGE.parent)
    if unit not in FLOORS:
        return [f"{place}: mmattn/{unit} has no floor: give it one in FLOORS"]
    found = ((line, name, complaint(unit, name)) for line, name in imported(path, source))
    return [f"{place}:{line} imports {name}: {why}" for line, name, why in found if why]


def test_files_import_only_from_lower_floors():
    files = sorted(PACKAGE.rglob("*.py"))
    assert files, f"no Python file under {PACKAGE}"
    found = [line for path in files for line in violations(path, path.read_text("utf-8"))]
    assert not found, "the house does not stand:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("place", "source", "complaint"),
    [
        ("blocks.py", "from mmattn.vision import VisionTransformer", "vision is on floor 5"),
        ("vision.py", "import mmattn.text", "text is on floor 5"),
        ("data/flickr.py", "from mmattn.attention import attend", "attention is on floor 2"),
        ("captioner.py", "from mmattn import data", "data is on floor 7"),
        ("decoding/beam.py", "from ..data.tokenizer import Tokenizer", "data is on floor 7"),
        ("data/flickr.py", "def f():\n    from mmattn.tasks import x", "flickr.py:2 imports"),
        ("tasks/captioning.py", "from hydra.utils import instantiate", "only mmattn/cli"),
        ("recorder.py", "from . import __version__", "__init__ is on floor 12"),
        ("extras/new.py", "import torch", "mmattn/extras has no floor"),
    ],
)
def test_a_forbidden_import_is_named(place, source, complaint):
    (message,) = violations(PACKAGE / place, source)
    assert complaint in message


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("attention.py", "import torch\nfrom mmattn.taps import Tap"),
        ("recorder.py", "from mmattn.errors import ConfigError"),
        ("data/flickr.py", "from mmattn.batch import CaptionBatch\nfrom .dataset import Splits"),
        ("tasks/captioning.py", "from mmattn.data.module import DataModule"),
        ("cli/train.py", "import hydra\nfrom mmattn import __version__"),
    ],
)
def test_an_allowed_import_passes(place, source):
    assert violations(PACKAGE / place, source) == []
