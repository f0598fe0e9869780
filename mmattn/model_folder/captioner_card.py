"""What the card of a captioner says: how to use it, what it is, and what not to expect of it."""

from collections.abc import Mapping
from typing import Any

from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.model_folder.card_parts import Row, count, size_of, text_rows, vision_rows

TAGS = ("mmattn", "image-captioning", "attention-maps")
USE = """## Use

```python
import mmattn

model = mmattn.load("path/to/this/folder")  # or its id on the Hugging Face hub
for caption in model.caption(["photo.jpg"], attention=True):
    print(caption.text)
    caption.save("photo.html")  # where the model looked at every word
```

or `mmattn caption photos/ --model path/to/this/folder --out captions.jsonl`. Reading the folder
runs no code from it.
"""
LIMITATIONS = """## Limitations

- It writes what is likely after the pictures and captions that it was trained on. Of other kinds of
  pictures it writes captions of the same kind, with the same confidence, that are wrong.
- It names things that are not there and leaves out things that are. Do not rely on a caption where
  a mistake matters.
- It repeats what was habitual in its training captions, their stereotypes of people included. No
  filter stands behind it.
- A score on one test set says little about other pictures. Nothing was measured but what is listed
  on this card.
- An attention map shows exactly what the decoder read the image's tokens by. It is no proof that
  the model wrote a word for the reason that a person would.
- No licence is stated here: before you pass the model on, add `license:` to the head of this card,
  and check what the licence of the training data and of pretrained parts allows.
"""


def pipeline(model: Captioner) -> str:
    """Return what the hub calls such models."""
    return "image-to-text"


def title(model: Captioner) -> str:
    """Return what the model is, with its size."""
    return f"Image captioner, {size_of(model)}"


def summary(bundle: Bundle) -> str:
    """Return what the model does."""
    lines = [
        "A vision encoder and a text decoder that attends to it, as the library mmattn holds them:",
        f"it writes captions of up to {bundle.max_length} tokens from a vocabulary of "
        f"{bundle.model.text.vocab_size:,},",
        "each word with the exact attention by which it was written.",
    ]
    return "\n".join(lines)


def rows(bundle: Bundle, config: Mapping[str, Any]) -> list[Row]:
    """Return the parts, from the image to the words."""
    model = bundle.model
    bridge = f"width {model.vision.dim} to {model.text.context_dim}"
    return [
        *vision_rows(model.vision, config["architecture"]["vision"]["patches"]),
        ("bridge", bridge, count(model.bridge)),
        *text_rows(model.text),
    ]
