"""What the card of a joint model says: how to use it, what it is, and what not to expect of it."""

from collections.abc import Mapping
from typing import Any

from mmattn.bundle import Bundle
from mmattn.joint import JointModel
from mmattn.model_folder import captioner_card
from mmattn.model_folder.card_parts import Row, count, fusion_row, size_of, text_rows

TAGS = (
    *("mmattn", "image-captioning", "image-text-retrieval"),
    *("zero-shot-image-classification", "attention-maps"),
)
USE = """## Use

```python
import mmattn

model = mmattn.load("path/to/this/folder")  # or its id on the Hugging Face hub
for caption in model.caption(["photo.jpg"], attention=True):
    print(caption.text)
images, texts = model.embed(["photo.jpg"], ["a dog on a beach"])
print(images @ texts.T)  # how similar each image is to each text, from -1 to 1
print(model.classify("photo.jpg", labels=["cat", "dog"]))
```

or `mmattn retrieve "a dog on a beach" photos/ --model path/to/this/folder`, and `mmattn caption`
and `mmattn classify` with `--labels`. Reading the folder runs no code from it.
"""
LIMITATIONS = """## Limitations

- It writes what is likely after the pictures and captions that it was trained on, and finds what is
  said as these say it. Of other kinds of pictures it says the same things, and they are wrong.
- Retrieval always returns something, and classification always one of the labels that were given,
  also where nothing fits. Similarities are for comparing: none of them means "this is it".
- Embeddings notice what a picture is about rather than how many things there are, where they are,
  or what is said not to be there. Do not rely on them where a mistake matters.
- It repeats what was habitual in its training captions, their stereotypes of people included. No
  filter stands behind it. Do not use it to tell who a person is, or what kind of person.
- A score on one test set says little about other pictures. Nothing was measured but what is listed
  on this card.
- An attention map shows exactly what the decoder read the image's tokens by. It is no proof that
  the model wrote a word for the reason that a person would.
- No licence is stated here: before you pass the model on, add `license:` to the head of this card,
  and check what the licence of the training data and of pretrained parts allows.
"""
pipeline = captioner_card.pipeline


def title(model: JointModel) -> str:
    """Return what the model is, with its size."""
    return f"Image captioner and retriever, {size_of(model)}"


def summary(bundle: Bundle) -> str:
    """Return what the model does."""
    model: Any = bundle.model
    lines = [
        captioner_card.summary(bundle),
        "",
        f"It also embeds images and texts as {model.embed_dim} numbers each, of length 1: those of",
        "an image and of a text that describes it are close to each other.",
    ]
    if model.fusion is not None:
        lines.append(
            "Its fusion, which sees the tokens of both, tells whether they belong together."
        )
    return "\n".join(lines)


def rows(bundle: Bundle, config: Mapping[str, Any]) -> list[Row]:
    """Return the parts: the captioner's, then what embeds, then what matches."""
    model: Any = bundle.model
    found = captioner_card.rows(bundle, config)
    found += [
        (f"text encoder: {part}", what, size) for part, what, size in text_rows(model.text_encoder)
    ]
    width = f"widths {model.vision.dim} and {model.text_encoder.dim} to {model.embed_dim}"
    numbers = 1 + (model.logit_bias is not None)  # the temperature, and what may be added
    projections = count(model.image_projection) + count(model.text_projection)
    found.append(("embeddings", f"{width}, and their temperature", projections + numbers))
    if model.fusion is not None:
        bridges = count(model.image_bridge) + count(model.text_bridge)
        found.append(("bridges to the fusion", f"width {model.fusion.dim}", bridges))
        found.append(fusion_row(model.fusion))
        found.append(
            ("matching head", f"width {model.fusion.dim} to no and yes", count(model.match_head))
        )
    return found
