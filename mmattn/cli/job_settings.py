"""What is asked for of a job, checked before anything is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmattn.cli.places import check_file, check_folder
from mmattn.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What `mmattn caption`, `classify` and `retrieve` are all told.

    Attributes:
        images: files, folders, patterns; "-" for a list on stdin.
        model: a run directory, a model folder or an id of the hub.
        others: further models, which make an ensemble with the first.
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
    others: tuple[str, ...] = ()
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
    def source(self) -> str | tuple[str, ...]:
        """The model, or those of the ensemble."""
        return (self.model, *self.others) if self.others else self.model

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
        way_out = "it could not be gone on with; leave --out away for stdout"
        check_file(self.out, "--out", example=self.example, remedy=way_out)


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(JobSettings):
    """The settings of `mmattn caption`.

    Attributes:
        layers: of the decoder, of which attention is kept; None for all.
        decoding: the decoding options that were given.
        by: what captions of an image are chosen by.
        consensus_captions: a file of captions that tells common words from rare ones; None for
            none.
        clip_model: what compares images with captions; None for none.
        known_captions, known_images: a file of captions and the folder of its pictures, of which
            those are asked that are most similar to an image; None for none.
        known_split: of the captions, or a file that lists pictures; None for all.
        neighbours: so many are asked; None for as many as usual.

    Raises:
        ConfigError: as `JobSettings`.
    """

    example: ClassVar[str] = "captions.jsonl"
    layers: tuple[int, ...] | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)
    by: str = "probability"
    consensus_captions: Path | None = None
    clip_model: str | None = None
    known_captions: Path | None = None
    known_images: Path | None = None
    known_split: str | None = None
    neighbours: int | None = None

    def __post_init__(self):
        super().__post_init__()
        for name, value, way in (
            ("--consensus-captions", self.consensus_captions, "consensus"),
            ("--clip-model", self.clip_model, "clip"),
            ("--known-captions", self.known_captions, "neighbours"),
            ("--known-images", self.known_images, "neighbours"),
            ("--known-split", self.known_split, "neighbours"),
            ("--neighbours", self.neighbours, "neighbours"),
        ):
            if value is not None and self.by != way:
                raise ConfigError(f"{name} is of --by {way}: give that, too, or leave it out")
        if self.by == "clip" and self.clip_model is None:
            raise ConfigError(
                "--by clip compares images with captions: give --clip-model, a folder of "
                "open_clip's or a joint model"
            )
        if self.by == "neighbours" and None in (self.known_captions, self.known_images):
            raise ConfigError(
                "--by neighbours asks what people said of similar pictures: give --known-captions, "
                "a file of captions, and --known-images, the folder of their pictures"
            )
        if self.neighbours is not None and self.neighbours < 1:
            raise ConfigError(f"--neighbours {self.neighbours}: give 1 or more")
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
        passes: over each input, with dropout on; 0 for one without.
        seed: of what is dropped; None for 0.
        at_least: labels that are less probable are not told.
        labels: names of classes, for a joint model, which needs no training for them.
        labels_file: a file of such names, one a line; None for none.
        templates: texts with `{}` in place of a label; the label alone if there is none.

    Raises:
        ConfigError: as `JobSettings`, and where there is nothing to classify.
    """

    example: ClassVar[str] = "classes.jsonl"
    text: tuple[str, ...] = ()
    texts: str | None = None
    top: int = 5
    heads: tuple[str, ...] = ()
    truncate: bool = False
    passes: int = 0
    seed: int | None = None
    at_least: float = 0.0
    labels: tuple[str, ...] = ()
    labels_file: str | None = None
    templates: tuple[str, ...] = ()

    @property
    def zero_shot(self) -> bool:
        """Whether the classes are only named."""
        return bool(self.labels or self.labels_file)

    def __post_init__(self):
        super().__post_init__()
        if self.top < 1:
            raise ConfigError(f"--top {self.top}: give 1 or more")
        if self.passes and self.passes < 2:
            raise ConfigError(f"--passes {self.passes}: what passes disagree on takes 2 or more")
        if self.seed is not None and self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: give 0 or more")
        if self.seed is not None and not self.passes:
            raise ConfigError("--seed is of what --passes drop: give it, too")
        if not 0 <= self.at_least <= 1:
            raise ConfigError(f"--at-least {self.at_least}: a probability is from 0 to 1")
        if self.attention is not None and self.others:
            raise ConfigError("--attention explains one model: give --model once with it")
        if self.templates and not self.zero_shot:
            raise ConfigError("--template is of --labels or --labels-file: give one of them, too")
        if self.zero_shot:
            self.check_zero_shot()
        if not (self.images or self.text or self.texts):
            raise ConfigError(
                "there is nothing to classify: name images, or give --text or --texts"
            )
        if "-" in self.images and self.texts == "-":
            raise ConfigError("stdin cannot be both a list of images and one of texts")

    def check_zero_shot(self) -> None:
        """Raise ConfigError for what classes that are only named cannot be combined with."""
        if self.labels_file == "-":
            raise ConfigError("--labels-file is a file: stdin is for images")
        if self.text or self.texts or self.heads or self.truncate:
            raise ConfigError(
                "--text, --texts, --head and --truncate are of classifiers, which have classes of "
                "their own: leave them away, or --labels"
            )
        if self.others or self.passes or self.at_least or self.attention is not None:
            raise ConfigError(
                "several --model, --passes, --at-least and --attention are of classifiers, and a "
                "joint model compares embeddings alone: leave them away, or --labels"
            )


@dataclass(frozen=True, kw_only=True)
class RetrieveSettings(JobSettings):
    """The settings of `mmattn retrieve`.

    Attributes:
        typed: the query that was the first argument, if it was.
        query: queries that were given as texts.
        queries: a file of queries, one a line; "-" for stdin; None for none.
        like: files of images that are queries.
        texts: a file of texts that are searched in place of images; None for none.
        index: the file of the index; None for one in the user's cache.
        top: so many are found for each query.
        rerank: so many of the most similar are sorted by the fusion.
        truncate: cut texts that are longer than the model reads.
        json: lines of JSON also on a terminal.

    Raises:
        ConfigError: as `JobSettings`, and where there is nothing to look for or to search.
    """

    example: ClassVar[str] = "found.jsonl"
    typed: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    queries: str | None = None
    like: tuple[str, ...] = ()
    texts: str | None = None
    index: Path | None = None
    top: int = 5
    rerank: int = 0
    truncate: bool = False
    json: bool = False

    def __post_init__(self):
        super().__post_init__()
        for name, least in (("top", 1), ("rerank", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} {getattr(self, name)}: give {least} or more")
        if not (self.typed or self.query or self.queries or self.like):
            raise ConfigError(
                'there is nothing to look for: give a text first, as in `mmattn retrieve "a dog" '
                "photos/ --model MODEL`"
            )
        self._check_typed()
        if self.texts is not None and (self.images or self.index):
            raise ConfigError("--texts is searched in place of images: name no images or --index")
        if not (self.images or self.index or self.texts):
            raise ConfigError(
                f"there is nothing to search for {self._first!r}: name images behind the query, or "
                "give --index FILE"
            )
        if [*self.images, self.queries, self.texts].count("-") > 1:
            raise ConfigError("stdin can be only one list: of images, of queries or of texts")

    @property
    def _first(self) -> str:
        return next(iter((*self.typed, *self.query, *self.like)), str(self.queries))

    def _check_typed(self) -> None:
        """Raise ConfigError for a first argument that is meant as images."""
        for text in self.typed:
            if text == "-":
                raise ConfigError("'-' is no query: give --queries - to read queries from stdin")
            if there(text):
                like = f"--image {text} to find its like, or " * Path(text).expanduser().is_file()
                raise ConfigError(
                    f"the first argument is the query, and {text!r} is a file or folder here: give "
                    f"the query first, {like}--query {text} where that is what you look for"
                )
        for name in self.images:
            if self.typed and name != "-" and not there(name) and not set(name) & set("*?["):
                raise ConfigError(
                    f"{name!r} is no file, folder or pattern: behind the query stand the images to "
                    "search; for several queries give --query for each"
                )

    def check_places(self) -> None:
        """Raise ConfigError where results or the index cannot be written."""
        if self.index is not None and (self.images or self.index.is_dir()):
            others = {"--out": self.out}
            check_file(self.index, "--index", others=others, example="photos.index")
        super().check_places()


def there(name: str) -> bool:
    """Return whether a file or folder has this name."""
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a name, or of no user
        return False
