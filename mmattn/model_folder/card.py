"""The model card: what a captioner is, how to use it, what it reached and what to expect of it."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from torch import nn

from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.model_folder.layout import CARD, CONFIG, FORMAT, MANIFEST, TOKENIZER, WEIGHTS

# As the hub's documentation of model cards has it. The licence is the owner's to state.
FRONT_MATTER = """---
library_name: mmattn
pipeline_tag: image-to-text
tags:
- mmattn
- image-captioning
- attention-maps
---
"""
# Of a run's figures, those of the weights that it ends with.
TESTED = ("test/", "attention/")
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


def model_card(bundle: Bundle, config: Mapping[str, Any], results: Mapping[str, float]) -> str:
    """Return the README.md of a model folder, with the front matter that the hub reads.

    Args:
        bundle: the model that the card is of.
        config: the content of its config.json.
        results: measured figures by name; none leaves their section out.
    """
    parts = [
        f"{FRONT_MATTER}\n# {title(bundle.model)}\n\n{summary(bundle)}",
        USE,
        architecture(bundle.model, config),
        preprocessing(bundle.preprocessing),
        figures(results),
        LIMITATIONS,
        files(config),
    ]
    return "\n".join(part for part in parts if part)


def title(model: Captioner) -> str:
    """Return what the model is, with its size."""
    total = count(model)
    number = f"{total / 1e6:.3g} M" if total >= 1e6 else f"{total:,}"
    return f"Image captioner, {number} parameters"


def summary(bundle: Bundle) -> str:
    """Return where the model comes from and what it does."""
    lines = [
        "A vision encoder and a text decoder that attends to it, as the library mmattn holds them:",
        f"it writes captions of up to {bundle.max_length} tokens from a vocabulary of "
        f"{bundle.model.text.vocab_size:,},",
        "each word with the exact attention by which it was written.",
    ]
    source = " ".join(bundle.source.split())
    return "\n".join([*lines, *([f"\nSource: {source}."] if source else [])]) + "\n"


def architecture(model: Captioner, config: Mapping[str, Any]) -> str:
    """Return the table of the model's parts and their parameters."""
    rows = [row for row in [*vision_rows(model, config), *text_rows(model)] if row[2]]
    total = sum(parameters for *_, parameters in rows)
    lines = [f"| {part} | {what} | {parameters:,} |" for part, what, parameters in rows]
    return "\n".join(
        [
            "## Architecture\n",
            "| part | what | parameters |",
            "|---|---|---:|",
            *lines,
            f"| all | stored as {config['weights']['dtype']} | {total:,} |\n",
        ]
    )


def vision_rows(model: Captioner, config: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return (part, what it is, parameters) of all that encodes an image."""
    vision, patches = model.vision, config["architecture"]["vision"]["patches"]
    height, width = vision.image_size
    rows, columns = vision.grid
    named = f" {patches['name']}" if "name" in patches else ""
    prefix = f", {several(vision.prefix, 'further token')}" if vision.prefix else ""
    blocks = f"{several(vision.depth, 'block')} of width {vision.patches.dim}"
    heads = f"{vision.block_options.heads} heads"
    inner = count(vision) - count(vision.patches) - count(vision.pooler)
    found = [
        (
            "patch embedding",
            f"{patches['kind']}{named}, {height} x {width} pixels to {rows} x {columns} tokens",
            count(vision.patches),
        ),
        ("vision transformer", f"{blocks}, {heads}, {vision.position} positions{prefix}", inner),
    ]
    if vision.pooler is not None:
        queries = f"attention of {len(vision.pooler.queries)} queries, width {vision.pooler.dim}"
        found.append(("pooling", queries, count(vision.pooler)))
    bridge = f"width {vision.dim} to {model.text.context_dim}"
    return [*found, ("bridge", bridge, count(model.bridge))]


def text_rows(model: Captioner) -> list[tuple[str, str, int]]:
    """Return (part, what it is, parameters) of all that writes."""
    text = model.text
    embedding, head = count(text.embedding), count(text.head) + count(text.head_transform)
    head += 0 if text.head_bias is None else text.head_bias.numel()
    shared = ", which are the output layer, too" if text.head is None else ""
    blocks = f"{several(text.depth, 'block')} of width {text.dim}, {text.block_options.heads} heads"
    across = f"cross-attention in {len(text.cross_layers)}"
    return [
        ("token embeddings", f"{text.vocab_size:,} tokens of width {text.dim}{shared}", embedding),
        (
            "text transformer",
            f"{blocks}, {across}, {text.position} positions",
            count(text) - embedding - head,
        ),
        ("output layer", f"width {text.dim} to {text.vocab_size:,} tokens", head),
    ]


def count(module: nn.Module | None) -> int:
    """Return the number of a module's parameters; those that it has twice count once."""
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def several(number: int, what: str) -> str:
    """Return a number of things, in the plural unless it is one."""
    return f"{number} {what}" + "s" * (number != 1)


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
    return f"""## Files

| | |
|---|---|
| `{WEIGHTS}` | the weights; tied ones once |
| `{CONFIG}` | all else, as plain values: format {FORMAT}, of mmattn {config["mmattn"]} |
| `{TOKENIZER}` | the tokenizer |
| `{MANIFEST}` | size and SHA-256 of the three above, which are compared on reading |
| `{CARD}` | this card, which may be edited |
"""
