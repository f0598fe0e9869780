"""What is asked for of `mmattn score`, checked before anything is read."""

from dataclasses import dataclass
from pathlib import Path

from mmattn.cli.places import check_file
from mmattn.errors import ConfigError

MISSING = ("error", "skip")
MOST = 1_000_000  # samples or shuffles: more say nothing new


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What `mmattn score` is told.

    Attributes:
        references: the file of references.
        predictions: the file of predictions.
        against: that of another model, to compare with; None for none.
        split: the name of a split of the references, or a file that lists images; None for all.
        missing: "error" where images lack references or a prediction, "skip" to leave them out.
        meteor: measure METEOR.
        spice: measure SPICE.
        training: a file of training captions; None for none.
        training_split: of that, as `split`; None for all but what it says is of validation or test.
        objects: a file of objects, for CHAIR; None for none.
        clip: the model of CLIPScore; None for none.
        device: where that computes, or "auto".
        bootstrap: samples for intervals; 0 for none.
        shuffles: for p-values.
        seed: of both.
        json: print JSON.
        per_image: the file of single scores; None for none.
        html: the page; None for none.
        images: the folder of photos, for CLIPScore and the page; None for none.
        attention: the folder that `mmattn caption --attention` wrote, for the page; None for none.

    Raises:
        ConfigError: for settings that cannot be, or that mean nothing without another.
    """

    references: Path
    predictions: Path
    against: Path | None = None
    split: str | None = None
    missing: str = "error"
    meteor: bool = False
    spice: bool = False
    training: Path | None = None
    training_split: str | None = None
    objects: Path | None = None
    clip: str | None = None
    device: str = "auto"
    bootstrap: int = 1000
    shuffles: int = 10_000
    seed: int = 0
    json: bool = False
    per_image: Path | None = None
    html: Path | None = None
    images: Path | None = None
    attention: Path | None = None

    def __post_init__(self):
        for name in ("bootstrap", "shuffles"):
            value = getattr(self, name)
            if value == 1 or not 0 <= value <= MOST:
                raise ConfigError(f"--{name} {value}: give 2 to {MOST:,}, or 0 for none")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: give 0 or more")
        if self.training_split is not None and self.training is None:
            raise ConfigError("--training-split is of --training FILE: give it, too")
        if self.clip is not None and self.images is None:
            raise ConfigError(
                "--clip compares captions with photos: give their folder, --images FOLDER"
            )
        if self.images is not None and self.html is None and self.clip is None:
            raise ConfigError("--images is for --clip MODEL or --html FILE: give one of them, too")
        if self.attention is not None and self.html is None:
            raise ConfigError("--attention is shown on the page of --html FILE: give it, too")
        for option, folder in {"--images": self.images, "--attention": self.attention}.items():
            if folder is not None and not folder.is_dir():
                raise ConfigError(f"{option} {folder} is no folder: check the path")

    def check_places(self) -> None:
        """Raise ConfigError where results cannot be written."""
        inputs = {
            "--references": self.references,
            "--predictions": self.predictions,
            "--against": self.against,
            "--split": None if self.split is None else Path(self.split),
            "--training": self.training,
            "--training-split": None if self.training_split is None else Path(self.training_split),
            "--objects": self.objects,
        }
        if self.per_image is not None:
            check_file(self.per_image, "--per-image", others=inputs, example="scores.jsonl")
        if self.html is not None:
            others = {**inputs, "--per-image": self.per_image}
            check_file(self.html, "--html", others=others, example="page.html")
