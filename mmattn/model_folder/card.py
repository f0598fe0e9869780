"""The model card: what a model is, how to use it, what it reached and what to expect of it."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.data.preprocessing import Preprocessing
from mmattn.model_folder import captioner_card, classifier_card, joint_card
from mmattn.model_folder.card_parts import table
from mmattn.model_folder.layout import CARD, CONFIG, FORMAT, MANIFEST, TOKENIZER, WEIGHTS

# Of a run's figures, those of the weights that it ends with.
TESTED = ("test/", "attention/")
# What a model is for, as config.json names it -> the module that knows what its card says.
CARDS = {"caption": captioner_card, "classify": classifier_card, "joint": joint_card}


def model_card(
    bundle: Bundle | ClassifierBundle, config: Mapping[str, Any], results: Mapping[str, float]
) -> str:
    """Return the README.md of a model folder, with the front matter that the hub reads.

    Args:
        bundle: the model that the card is of.
        config: the content of its config.json.
        results: measured figures by name; none leaves their section out.
    """
    of: Any = CARDS[config["task"]]
    prepared = bundle.preprocessing
    head = front_matter(of.pipeline(bundle.model), of.TAGS)
    summary = f"{of.summary(bundle)}\n{origin(bundle.source)}"
    parts = [
        f"{head}\n# {of.title(bundle.model)}\n\n{summary}",
        of.USE,
        table(of.rows(bundle, config), config["weights"]["dtype"]),
        "" if prepared is None else preprocessing(prepared),
        figures(results),
        of.LIMITATIONS,
        files(config),
    ]
    return "\n".join(part for part in parts if part)


def front_matter(pipeline: str, tags: tuple[str, ...]) -> str:
    """Return what the hub reads, as its documentation of model cards has it.

    The licence is the owner's to state.
    """
    named = "".join(f"- {tag}\n" for tag in tags)
    return f"---\nlibrary_name: mmattn\npipeline_tag: {pipeline}\ntags:\n{named}---\n"


def origin(source: str) -> str:
    """Return where the model comes from, in one line."""
    return f"\nSource: {' '.join(source.split())}.\n" if source.strip() else ""


def preprocessing(values: Preprocessing) -> str:
    """Return what happens to a picture before the model sees it."""
    steps = []
    if isinstance(values.resize, int):
        steps.append(f"shorter side resized to {values.resize} pixels ({values.interpolation})")
    elif values.resize is not None:
        steps.append(f"resized to {size(values.resize)} pixels ({values.interpolation})")
    if values.crop is not None:
        steps.append(f"the middle {size(values.crop)} pixels cut out")
    mean, std = (", ".join(f"{number:.6g}" for number in of) for of in (values.mean, values.std))
    steps.append(f"in [0, 1], minus the mean ({mean}), over the standard deviation ({std})")
    return f"## Preprocessing\n\nRGB, {', '.join(steps)}.\n"


def size(pair: tuple[int, int]) -> str:
    """Return (height, width) as a person writes it."""
    return f"{pair[0]} x {pair[1]}"


def figures(results: Mapping[str, float]) -> str:
    """Return the table of what a test measured of these weights; nothing where it did not."""
    shown = {k: v for k, v in sorted(results.items()) if k.startswith(TESTED) and isfinite(v)}
    if not shown:
        return ""
    lines = [f"| {name} | {value:.4g} |" for name, value in shown.items()]
    head = (
        "## Measured\n\nBy the test of the run that trained it.\n\n| figure | value |\n|---|---:|"
    )
    return "\n".join([head, *lines]) + "\n"


def files(config: Mapping[str, Any]) -> str:
    """Return what lies in the folder."""
    tokenizer = "" if config["tokenizer"] is None else f"| `{TOKENIZER}` | the tokenizer |\n"
    return f"""## Files

| | |
|---|---|
| `{WEIGHTS}` | the weights; tied ones once |
| `{CONFIG}` | all else, as plain values: format {FORMAT}, of mmattn {config["mmattn"]} |
{tokenizer}| `{MANIFEST}` | size and SHA-256 of those above, which are compared on reading |
| `{CARD}` | this card, which may be edited |
"""
