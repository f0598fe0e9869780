"""The flags that `mmattn caption`, `classify` and `retrieve` share, and how they end."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from mmattn.cli.job_settings import JobSettings

MODEL = "a run directory, a model folder, or name/name on the hub"
UNREADABLE = 3  # the exit code where some image could not be read


def add_model_flag(parser: ArgumentParser) -> None:
    """Add the flag that names the one model of a job."""
    parser.add_argument("--model", required=True, help=MODEL)


def add_attention_flags(parser: ArgumentParser, what: str) -> None:
    """Add the flags of the pages that a job writes; `what` says what they are for."""
    parser.add_argument("--attention", type=Path, metavar="FOLDER", help=what)
    parser.add_argument(
        "--attention-format",
        action="append",
        default=[],
        choices=["html", "png", "npz"],
        help="what is written there (html); may be given several times",
    )


def attention_flags(arguments: Namespace) -> dict[str, Any]:
    """Return what was asked for with these flags, by the names of `JobSettings`."""
    formats = tuple(dict.fromkeys(arguments.attention_format))
    return {"attention": arguments.attention, "formats": formats}


def add_job_flags(parser: ArgumentParser, *, retry: bool = True) -> None:
    """Add the flags of a job but for its model; with `retry` that of going on with its --out."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSONL; stdout if not given")
    if retry:
        parser.add_argument(
            "--retry", action="store_true", help="try those again that --out has with an error"
        )
    parser.add_argument(
        "--batch-size",
        type=batch_size,
        default=8,
        metavar="INT",
        help="inputs computed at once (8); auto finds the fastest",
    )
    parser.add_argument("--threads", type=int, default=2, metavar="INT", help="that read (2)")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps; a GPU if there is one (auto)"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="as it was stored"
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=50_000_000,
        metavar="INT",
        help="of an image file (50,000,000)",
    )
    parser.add_argument("--revision", help="a branch, tag or commit of the hub")


def batch_size(text: str) -> int | None:
    """Return the number, None for "auto"."""
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number; give one, or auto") from None


def job_flags(arguments: Namespace) -> dict[str, Any]:
    """Return what was asked for with these flags, and the images, by the names of `JobSettings`."""
    names = ("out", "batch_size", "threads", "device", "dtype", "max_pixels", "revision")
    return {
        "images": tuple(arguments.images),
        "retry": getattr(arguments, "retry", False),
        **{name: getattr(arguments, name) for name in names},
    }


def job_may_write(job: JobSettings) -> None:
    """Raise ConfigError where results cannot be written; of torchrun's processes one looks."""
    if os.environ.get("RANK", "0") == "0":
        job.check_places()
