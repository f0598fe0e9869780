"""What is asked for of a job, checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmattn.cli.plain_command import check_folder
from mmattn.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What `mmattn caption` and `mmattn classify` are both told.

    Attributes:
        images: files, folders, patterns; "-" for a list on stdin.
        model: a run directory, a model folder or an id of the hub.
        out: the JSONL file; None for stdout.
        retry: try those again that `out` has with an error.
        batch_size: inputs computed at once; None for the fastest.
        threads: how many read images.
        device: where the model computes, "auto" for an accelerator if there is one.
        dtype: what it computes in; None for what was stored.
        max_pixels: of an image file.
        revision: of the hub.
        attention: the folder of the pages; None for none.
        formats: what is written there of each input.

    Raises:
        ConfigError: for settings that cannot be, or that mean nothing without another.
    """

    example: ClassVar[str] = "results.jsonl"  # of a file for --out
    images: tuple[str, ...] = ()
    model: str
    out: Path | None = None
    retry: bool = False
    batch_size: int | None = 8
    threads: int = 2
    device: str = "auto"
    dtype: str | None = None
    max_pixels: int = 50_000_000
    revision: str | None = None
    attention: Path | None = None
    formats: tuple[str, ...] = ()

    def __post_init__(self):
        for name in ("batch_size", "threads", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: give 1 or more")
        if self.retry and self.out is None:
            raise ConfigError("--retry is of the lines that --out has: give it, too")
        if self.attention is None and self.formats:
            raise ConfigError("--attention-format: pages are of --attention FOLDER: give it, too")

    @property
    def pictures(self) -> Path | None:
        """Where the job writes pictures of its own, which are no input of it."""
        return self.attention if "png" in self.formats else None

    def pages(self, name: Path) -> list[Path]:
        """Return the files of an input that is called so; none where none are asked for."""
        if self.attention is None:
            return []
        page = self.attention / name
        return [page.with_name(f"{page.name}.{kind}") for kind in self.formats or ("html",)]

    def check_places(self) -> None:
        """Raise ConfigError where results cannot be written."""
        if self.attention is not None:
            check_folder(self.attention, "--attention")
        if self.out is None:
            return
        if self.out.is_dir():
            raise ConfigError(f"--out {self.out} is a folder: give a file, such as {self.example}")
        if self.out.exists() and not self.out.is_file():
            raise ConfigError(
                f"--out {self.out} is no regular file, which could be gone on with: leave --out "
                "away for stdout"
            )
        check_folder(self.out.parent, "--out")


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(JobSettings):
    """The settings of `mmattn caption`.

    Attributes:
        layers: of the decoder, of which attention is kept; None for all.
        decoding: the decoding options that were given.

    Raises:
        ConfigError: as `JobSettings`.
    """

    example: ClassVar[str] = "captions.jsonl"
    layers: tuple[int, ...] | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        if self.attention is None and self.layers:
            raise ConfigError("--layers: pages are of --attention FOLDER: give it, too")


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(JobSettings):
    """The settings of `mmattn classify`.

    Attributes:
        text: texts that were typed.
        texts: a file of texts, one a line, or JSONL; "-" for stdin; None for none.
        top: so many classes of each head.
        heads: those that are told; all if there is none.
        truncate: cut texts that are longer than the model reads.
        others: further models, which make an ensemble with the first.
        passes: over each input, with dropout on; 0 for one without.
        seed: of what is dropped.
        at_least: labels that are less probable are not told.

    Raises:
        ConfigError: as `JobSettings`, and where there is nothing to classify.
    """

    example: ClassVar[str] = "classes.jsonl"
    text: tuple[str, ...] = ()
    texts: str | None = None
    top: int = 5
    heads: tuple[str, ...] = ()
    truncate: bool = False
    others: tuple[str, ...] = ()
    passes: int = 0
    seed: int = 0
    at_least: float = 0.0

    @property
    def source(self) -> str | tuple[str, ...]:
        """The model, or those of the ensemble."""
        return (self.model, *self.others) if self.others else self.model

    def __post_init__(self):
        super().__post_init__()
        if self.top < 1:
            raise ConfigError(f"--top {self.top}: give 1 or more")
        if self.passes and self.passes < 2:
            raise ConfigError(f"--passes {self.passes}: what passes disagree on takes 2 or more")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: give 0 or more")
        if not 0 <= self.at_least <= 1:
            raise ConfigError(f"--at-least {self.at_least}: a probability is from 0 to 1")
        if self.attention is not None and self.others:
            raise ConfigError("--attention explains one model: give --model once with it")
        if not (self.images or self.text or self.texts):
            raise ConfigError(
                "there is nothing to classify: name images, or give --text or --texts"
            )
        if "-" in self.images and self.texts == "-":
            raise ConfigError("stdin cannot be both a list of images and one of texts")
