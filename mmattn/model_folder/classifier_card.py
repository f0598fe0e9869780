"""What the card of a classifier says: how to use it, what it is, and what not to expect of it."""

from collections.abc import Mapping
from typing import Any

from mmattn.bundle import ClassifierBundle
from mmattn.classifier import Classifier
from mmattn.model_folder.card_parts import (
    Row,
    count,
    fusion_row,
    several,
    size_of,
    text_rows,
    vision_rows,
)

TAGS = ("mmattn", "classification", "attention-maps")
SHOWN = 12  # classes of a head that a card lists
USE = """## Use

```python
import mmattn

model = mmattn.load("path/to/this/folder")  # or its id on the Hugging Face hub
for found in model.classify(images=["photo.jpg"], texts="is it a dog?"):
    print(found.label, found.probability)
```

Leave `images` or `texts` away where the model reads no such thing; `mmattn classify --help` tells
how the command line does the same. Reading the folder runs no code from it.
"""
LIMITATIONS = """## Limitations

- It always answers with one of its classes, also where none of them is right: it knows no others.
- A probability says how often such an answer was right on data like the validation set. Of other
  data it can be far too sure. Do not rely on an answer where a mistake matters.
- It learned what was habitual in its training data, stereotypes of people included. No filter
  stands behind it.
- A score on one test set says little about other data. Nothing was measured but what is listed on
  this card.
- An attention map shows exactly what was read. It is no proof that the model answered for the
  reason that a person would.
- No licence is stated here: before you pass the model on, add `license:` to the head of this card,
  and check what the licence of the training data and of pretrained parts allows.
"""


def pipeline(model: Classifier) -> str:
    """Return what the hub calls such models."""
    if model.text is None:
        return "image-classification"
    if model.vision is not None:
        return "visual-question-answering"
    return "token-classification" if model.word_heads else "text-classification"


def title(model: Classifier) -> str:
    """Return what the model is, with its size."""
    return f"Classifier of {reads(model)}, {size_of(model)}"


def reads(model: Classifier) -> str:
    """Return what a classifier looks at, in a few words."""
    seen = "images" if model.images == 1 else f"up to {model.images} images"
    if model.text is None:
        return seen
    return "texts" if model.vision is None else f"{seen} and a text"


def summary(bundle: ClassifierBundle) -> str:
    """Return what the model tells, and of which classes."""
    lines = [
        f"It reads {reads(bundle.model)}, as the library mmattn holds such models, and tells:",
        "",
        "| head | what it tells | classes |",
        "|---|---|---|",
    ]
    told = {
        "single": "one class",
        "multi": "any number of classes",
        "soft": "one of some answers",
        "words": "one class for every word",
    }
    for head, classes in bundle.classes.items():
        names = [cell(name) for name in classes.names[:SHOWN]]
        more = [f"… ({len(classes.names)} in all)"] * (len(classes.names) > SHOWN)
        lines.append(f"| {cell(head)} | {told[classes.kind]} | {', '.join([*names, *more])} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return a text of somebody's data as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def rows(bundle: ClassifierBundle, config: Mapping[str, Any]) -> list[Row]:
    """Return the parts, from what is read to the heads."""
    model, found = bundle.model, []
    if model.vision is not None:
        found += vision_rows(model.vision, config["architecture"]["vision"]["patches"])
        width = f"width {model.vision.dim} to {model.dim}"
        found.append(("image bridge", width, count(model.image_bridge)))
        places = 0 if model.image_places is None else model.image_places.numel()
        found.append(("image places", f"tell {several(model.images, 'image')} apart", places))
    if model.text is not None:
        found += text_rows(model.text)
        width = f"width {model.text.dim} to {model.dim}"
        found.append(("text bridge", width, count(model.text_bridge)))
    if model.fusion is not None:
        found.append(fusion_row(model.fusion))
    classes = ", ".join(str(number) for number in model.settings()["heads"].values())
    found.append(("heads", f"width {model.dim} to {classes} classes", count(model.heads)))
    return found
