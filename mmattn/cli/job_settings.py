"""What is asked for of a captioning job, checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmattn.cli.plain_command import check_folder
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class JobSettings:
    """The settings of `mmattn caption`.

    Attributes:
        images: files, folders, patterns; "-" for a list on stdin.
        model: a run directory, a model folder or an id of the hub.
        out: the JSONL file; None for stdout.
        retry: try those again that `out` has with an error.
        attention: the folder of the pages; None for none.
        formats: what is written there of each image.
        layers: of the decoder, of which attention is kept; None for all.
        batch_size: images computed at once; None for the fastest.
        threads: how many read images.
        device: where the model computes, "auto" for an accelerator if there is one.
        dtype: what it computes in; None for what was stored.
        max_pixels: of an image file.
        revision: of the hub.
        decoding: the decoding options that were given.

    Raises:
        ConfigError: for settings that cannot be, or that mean nothing without another.
    """

    images: tuple[str, ...]
    model: str
    out: Path | None = None
    retry: bool = False
    attention: Path | None = None
    formats: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    batch_size: int | None = 8
    threads: int = 2
    device: str = "auto"
    dtype: str | None = None
    max_pixels: int = 50_000_000
    revision: str | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        for name in ("batch_size", "threads", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: give 1 or more")
        if self.attention is None and (self.formats or self.layers):
            raise ConfigError(
                "--attention-format and --layers are of --attention FOLDER: give it, too"
            )
        if self.retry and self.out is None:
            raise ConfigError("--retry is of the lines that --out has: give it, too")

    def check_places(self) -> None:
        """Raise ConfigError where results cannot be written."""
        if self.attention is not None:
            check_folder(self.attention, "--attention")
        if self.out is None:
            return
        if self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a folder: give a file, such as captions.jsonl")
        if self.out.exists() and not self.out.is_file():
            raise ConfigError(
                f"--out {self.out} is no regular file, which could be gone on with: leave --out "
                "away for stdout"
            )
        check_folder(self.out.parent, "--out")
