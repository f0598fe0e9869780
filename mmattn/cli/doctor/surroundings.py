"""What is around a run: W&B's login, optional programs, fonts, and the language of the terminal."""

import locale
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mmattn.cli.doctor.finding import Finding
from mmattn.cli.schema import wandb_offline

# Packages of optional parts, and what they are for.
EXTRAS = {
    "tensorboard": ("tensorboard", "logger=tensorboard"),
    "trackio": ("trackio", "logger=trackio"),
    "hub": ("huggingface_hub", "models on the Hugging Face hub"),
    "onnx": ("onnxruntime", "mmattn export --to onnx"),
    "sweep": ("hydra_plugins.hydra_joblib_launcher", "hydra/launcher=joblib"),
    "slurm": ("hydra_plugins.hydra_submitit_launcher", "hydra/launcher=slurm"),
    "coco": ("pycocoevalcap", "the reference METEOR and SPICE, Java programs"),
}


def wandb() -> Iterator[Finding]:
    """Find whether W&B would be online, without asking its server and without showing a key."""
    if find_spec("wandb") is None:
        yield Finding("problem", "W&B", "wandb is not installed", "pip install wandb")
        return
    mode, key = os.environ.get("WANDB_MODE"), os.environ.get("WANDB_API_KEY")
    if key is not None and key != key.strip():
        yield Finding("problem", "W&B", "WANDB_API_KEY has blanks around it", "set it again")
    elif mode == "disabled":
        yield Finding("note", "W&B", "switched off by WANDB_MODE=disabled", "unset it to log")
    elif mode:
        yield Finding("ok", "W&B", f"WANDB_MODE={mode} decides")
    elif wandb_offline():
        yield Finding(
            "ok", "W&B", "no key: logger=wandb records offline; `wandb login` makes it go online"
        )
    else:
        where = "WANDB_API_KEY" if key else "the netrc file"
        yield Finding("ok", "W&B", f"a key is in {where}: logger=wandb is online")


def optional_parts() -> Iterator[Finding]:
    """Find the programs and packages that some parts need; without them these parts say so."""
    have = [name for name, (module, _) in EXTRAS.items() if is_there(module)]
    lacking = [f"{name} ({use})" for name, (_, use) in EXTRAS.items() if name not in have]
    text = f"extras: {', '.join(have) or 'none'}"
    text += f"; not there: {', '.join(lacking)}" if lacking else ""
    yield Finding("ok", "optional", text)
    needed = {"Java": shutil.which("java"), "the extra `coco`": "coco" in have}
    without = " and ".join(name for name, there in needed.items() if not there)
    meteor = f"METEOR is left out without {without}" if without else "METEOR can be measured"
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = "Chromium is there" if any(map(shutil.which, names)) else "no Chromium: only the "
    browser += "" if browser.endswith("there") else "tests of pages need it"
    yield Finding("ok", "optional", f"{meteor}; {browser}")


def fonts() -> Iterator[Finding]:
    """Find the fonts of the built-in data."""
    from mmattn.data.glyphs.fonts import TEXT_FONTS, font_path

    missing = [name for name in TEXT_FONTS if not font_path(name).is_file()]
    if missing:
        yield Finding(
            "problem",
            "fonts",
            f"matplotlib lacks {', '.join(missing)}: data=glyphs cannot be rendered",
            "pip install --force-reinstall matplotlib",
        )
    else:
        yield Finding("ok", "fonts", f"all {len(TEXT_FONTS)} of the built-in data")


def language() -> Iterator[Finding]:
    """Find encodings that cannot write what captions and paths may hold."""
    used = {
        "files": locale.getencoding(),
        "file names": sys.getfilesystemencoding(),
        "the terminal": getattr(sys.stdout, "encoding", None) or "ascii",
    }
    other = {what: name for what, name in used.items() if name.lower().replace("-", "") != "utf8"}
    if other:
        listed = ", ".join(f"{what}: {name}" for what, name in other.items())
        yield Finding(
            "note", "encoding", f"not UTF-8 for {listed}", "set PYTHONUTF8=1 or LC_ALL=C.UTF-8"
        )
    else:
        yield Finding("ok", "encoding", "UTF-8 throughout")


def home() -> Iterator[Finding]:
    """Find whether there is a home folder, in which caches of libraries and of indices lie."""
    try:
        place = Path.home()
    except RuntimeError:
        yield Finding("problem", "home", "there is no home folder", "set HOME to a folder")
        return
    writable = os.access(place, os.W_OK)
    yield Finding(
        "ok" if writable else "note",
        "home",
        f"{place}" if writable else f"{place} cannot be written to",
        "" if writable else "set HOME, or XDG_CACHE_HOME and MPLCONFIGDIR, for caches",
    )


def is_there(module: str) -> bool:
    """Whether a module could be imported; a parent that is missing is no error."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
