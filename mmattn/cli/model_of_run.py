"""From a run directory to a model with all that it needs to be used, without the run's data."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tokenizers import Tokenizer

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.classifier import Classifier
from mmattn.cli.arguments import check_arguments
from mmattn.cli.build import build
from mmattn.cli.load_run import find_run, read_config
from mmattn.cli.targets import check_targets
from mmattn.data.backend import backend_errors
from mmattn.data.labelled.classes import Classes
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError, ConfigError, UserError
from mmattn.tasks.task import own_entry
from mmattn.training.checkpoints.finding import read_checkpoint
from mmattn.training.temperatures import temperature_figure
from mmattn.weights import load_exactly


def bundle_of_run(model: str | Path, allowed: Sequence[str] = ()) -> Bundle | ClassifierBundle:
    """Return the captioner or classifier of a run directory, or of one of the checkpoints in it.

    Neither the data set nor pretrained weights need be at hand: the checkpoint holds the tokenizer,
    the names of the classes and every weight. Only the model that an image encoder was taken from
    (model/vision=from_model) must be: it alone says how that is built.

    Args:
        model: a run directory, of which the best checkpoint is taken, or a checkpoint below it.
        allowed: packages of the user's own that its configuration may name.

    Raises:
        UserError: where that is no run, names something that may not be built, does not fit its
            checkpoint, or preprocesses images as a model folder cannot.
    """
    path = Path(model).expanduser()
    folder, checkpoint = find_run(path)
    config = read_config(folder / "config.yaml", [])
    parts = {"model": without_origins(plain(config, "model")), "data": eval_part(config)}
    check_targets(parts, allowed)
    check_arguments(parts)
    content = read_checkpoint(checkpoint)
    built = model_of(parts["model"]).eval()
    load_exactly(built, weights_of(content), str(checkpoint))
    tokenizer = tokenizer_of(content, checkpoint)
    about = {
        "max_length": parts["data"]["max_length"],
        "source": trained_on(parts["data"]["source"].rpartition(".")[2]),
    }
    if isinstance(built, Classifier):
        classes = classes_of(content, checkpoint)
        return ClassifierBundle(
            model=built,
            tokenizer=None if built.text is None else tokenizer,
            preprocessing=None if built.vision is None else preprocessing_of(parts["data"]),
            classes=classes,
            # They are those of the best weights, and another checkpoint has others.
            temperature=temperatures_of(path, list(classes)) if path.is_dir() else {},
            **about,
        )
    if tokenizer is None:
        raise CheckpointError(f"{checkpoint}: has no tokenizer, which a captioner needs")
    return Bundle(
        model=built, tokenizer=tokenizer, preprocessing=preprocessing_of(parts["data"]), **about
    )


def model_of(section: dict[str, Any]) -> Any:
    """Return the model that a run's configuration describes.

    Raises:
        ConfigError: where it cannot be built; it names the model that its image encoder came from.
    """
    vision = section.get("vision")
    origin = vision.get("source") if isinstance(vision, dict) else None
    try:
        return build(DictConfig(section), "model")
    except UserError as error:
        if origin is None:
            raise
        raise ConfigError(
            f"this run's image encoder came from {origin}, which must be at hand: {error}"
        ) from error


def preprocessing_of(data: Mapping[str, Any]) -> Preprocessing:
    """Return what an evaluation did to pictures. Raises ConfigError where values cannot say it."""
    transform = build(DictConfig(data["eval_transform"]), "data.eval_transform")
    return Preprocessing.of_transform(transform, data["image_size"])


def temperatures_of(run: Path, heads: Sequence[str]) -> dict[str, float]:
    """Return the temperatures of a run's best weights by their heads, as its results tell them."""
    figures = results_of_run(run)
    names = {head: temperature_figure(head, heads) for head in heads}
    return {head: figures[name] for head, name in names.items() if name in figures}


def results_of_run(model: str | Path) -> dict[str, float]:
    """Return the figures of a run directory's results.json; none where there is no such file.

    Raises:
        ConfigError: where there is no run, or the file holds anything else than figures by name.
    """
    path = find_run(Path(model).expanduser())[0] / "results.json"
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in results.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not the results of a run ({error})") from error


def trained_on(data: str) -> str:
    """Return where a run's model comes from, in a few words."""
    return f"trained by mmattn on {data}"


def plain(config: DictConfig, key: str) -> dict[str, Any]:
    """Return a section as plain values. Raises ConfigError where it is none."""
    section = config[key]
    if not isinstance(section, DictConfig):
        raise ConfigError(f"config.yaml: {key} is no section of keys and values")
    values: Any = OmegaConf.to_container(section, resolve=True)
    return values


def eval_part(config: DictConfig) -> dict[str, Any]:
    """Return what a run's configuration says about pictures, lengths and the name of its data."""
    data = plain(config, "data")
    wanted = ("image_size", "eval_transform", "max_length")
    missing = [key for key in wanted if key not in data]
    if missing:
        raise ConfigError(f"config.yaml: data.{missing[0]} is missing: a model folder needs it")
    source = data.get("source")
    target = source.get("_target_", "") if isinstance(source, dict) else ""
    return {**{key: data[key] for key in wanted}, "source": str(target)}


def without_origins(model: Any) -> Any:
    """Return a model's configuration with every `pretrained` of this library's parts off."""
    if isinstance(model, list):
        return [without_origins(item) for item in model]
    if not isinstance(model, dict):
        return model
    ours = str(model.get("_target_", "")).startswith("mmattn.")
    inner = {key: without_origins(value) for key, value in model.items()}
    return {**inner, "pretrained": False} if ours and "pretrained" in inner else inner


def weights_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the model's entries of a checkpoint's state dict."""
    prefix = "model."
    state = content["state_dict"].items()
    return {name.removeprefix(prefix): v for name, v in state if name.startswith(prefix)}


def tokenizer_of(content: dict[str, Any], checkpoint: Path) -> CaptionTokenizer | None:
    """Return the tokenizer that a checkpoint carries, None of a model that reads no text.

    Raises:
        CheckpointError: where it says nothing of one, or what it says cannot be read.
    """
    text = own_values(content, checkpoint)["tokenizer"]
    if text is None:
        return None
    with backend_errors(f"{checkpoint}: its tokenizer cannot be read", CheckpointError):
        return CaptionTokenizer(Tokenizer.from_str(text), f"the tokenizer of {checkpoint}")


def classes_of(content: dict[str, Any], checkpoint: Path) -> dict[str, Classes]:
    """Return the classes that a checkpoint carries. Raises CheckpointError where it has none."""
    found = own_values(content, checkpoint).get("classes")
    try:
        return {
            head: Classes(values["kind"], tuple(values["names"]), values["open"])
            for head, values in found.items()  # type: ignore[union-attr]
        }
    except (AttributeError, KeyError, TypeError):
        raise CheckpointError(
            f"{checkpoint}: says nothing of classes, which a classifier needs"
        ) from None


def own_values(content: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return what a task keeps in a checkpoint. Raises CheckpointError for another's."""
    try:
        return own_entry(content)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error
