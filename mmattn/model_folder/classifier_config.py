"""What config.json says of a classifier and of no other model: the classes of its heads."""

from collections.abc import Mapping
from sys import float_info
from typing import Any, get_args

from mmattn.architecture import construct_classifier
from mmattn.bundle import ClassifierBundle
from mmattn.classifier import Classifier
from mmattn.data.labelled.classes import Classes
from mmattn.data.labelled.example import Kind
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError
from mmattn.model_folder.text_fits import check_text_fits, shown

KINDS: dict[str, tuple[type, ...]] = {
    "preprocessing": (dict, type(None)),
    "tokenizer": (dict, type(None)),
    "heads": (dict,),
}
HEAD = {"kind", "classes", "open", "temperature"}
build = construct_classifier


def values_of(bundle: ClassifierBundle) -> dict[str, Any]:
    """Return the entries of config.json that only a classifier has."""
    heads = {
        head: {
            "kind": classes.kind,
            "classes": list(classes.names),
            "open": classes.open,
            "temperature": float(bundle.temperature.get(head, 1.0)),
        }
        for head, classes in bundle.classes.items()
    }
    return {"heads": heads}


def check(config: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for a head of which classes or temperature are not said as they are."""
    for head, values in config["heads"].items():
        where = f"{source}: heads.{head}"
        if not isinstance(values, dict) or values.keys() != HEAD:
            raise CheckpointError(
                f"{where} is {shown(values)}: give {', '.join(sorted(HEAD))}, and nothing else"
            )
        check_classes(values["classes"], where)
        kind, temperature = values["kind"], values["temperature"]
        if kind not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise CheckpointError(f"{where}.kind is {shown(kind)}; known: {known}")
        if type(values["open"]) is not bool:
            raise CheckpointError(f"{where}.open is {shown(values['open'])}: give true or false")
        if type(temperature) not in (int, float) or not 0 < temperature <= float_info.max:
            raise CheckpointError(
                f"{where}.temperature is {shown(temperature)}: give a number above 0"
            )


def check_classes(names: Any, where: str) -> None:
    """Raise CheckpointError for what are no names of classes, or name one twice."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{where}.classes is {shown(names)}, not names of classes")
    if len(set(names)) < len(names):
        raise CheckpointError(f"{where}.classes is {shown(names)}, which names a class twice")


def check_fits(config: Mapping[str, Any], model: Classifier, source: str) -> None:
    """Raise CheckpointError for classes, pictures or texts that a model cannot have."""
    sizes = model.settings()["heads"]
    for head in sizes.keys() | config["heads"].keys():
        values = config["heads"].get(head)
        found = None if values is None else len(values["classes"])
        if found != sizes.get(head):
            raise CheckpointError(
                f"{source}: {found or 'no'} names of classes for the head {head!r}, and the model "
                f"has {sizes.get(head, 'no')} scores of it"
            )
        if values and (values["kind"] == "words") != (head in model.word_heads):
            raise CheckpointError(
                f"{source}: heads.{head}.kind is {values['kind']!r}, and the model's word_heads "
                f"are {shown(list(model.word_heads))}"
            )
    for part, encoder in (("preprocessing", model.vision), ("tokenizer", model.text)):
        if config[part] is not None and encoder is None:
            raise CheckpointError(f"{source}: a {part}, and the model has nothing to use it")
    if model.vision is not None and config["preprocessing"] is None:
        raise CheckpointError(f"{source}: preprocessing is None, and the model sees pictures")
    if model.text is not None and config["tokenizer"] is not None:
        check_text_fits(config, model.text, source)


def bundle_of(
    config: Mapping[str, Any],
    model: Classifier,
    tokenizer: CaptionTokenizer | None,
    preprocessing: Preprocessing | None,
) -> ClassifierBundle:
    """Return the classifier with all that it needs; `check` and `check_fits` come first."""
    heads = config["heads"]
    return ClassifierBundle(
        model=model,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        max_length=config["max_length"],
        classes={
            head: Classes(heads[head]["kind"], tuple(heads[head]["classes"]), heads[head]["open"])
            for head in model.settings()["heads"]
        },
        temperature={head: float(values["temperature"]) for head, values in heads.items()},
        source=config["source"],
    )
