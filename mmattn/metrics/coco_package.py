"""The Java programs inside pycocoevalcap: where they are, and what is missing to run them."""

import importlib.util
import shutil
from pathlib import Path

PACKAGE = "pycocoevalcap"
EXTRA = "the extra `coco`: pip install 'mmattn[coco]'"


def package_file(*parts: str) -> Path | None:
    """A file of the installed package, which is found but not imported; None where it is not."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    files = (Path(folder, *parts) for folder in folders)
    return next((file for file in files if file.is_file()), None)


def find_java() -> str | None:
    """The program `java`, None where it is not installed."""
    return shutil.which("java")
