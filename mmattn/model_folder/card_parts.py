"""The parts of a model and their numbers of parameters, as the rows of a model card's table."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmattn.architecture import FUSIONS
from mmattn.fusion import Fusion
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

Row = tuple[str, str, int]  # a part, what it is, its parameters


def table(found: list[Row], dtype: str) -> str:
    """Return the section of the parts that have parameters, stored in a type."""
    rows = [row for row in found if row[2]]
    total = sum(parameters for *_, parameters in rows)
    lines = [f"| {part} | {what} | {parameters:,} |" for part, what, parameters in rows]
    return "\n".join(
        [
            "## Architecture\n",
            "| part | what | parameters |",
            "|---|---|---:|",
            *lines,
            f"| all | stored as {dtype} | {total:,} |\n",
        ]
    )


def vision_rows(vision: VisionTransformer, patches: Mapping[str, Any]) -> list[Row]:
    """Return the rows of an image encoder, whose `patches` config.json describes."""
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
    return found


def text_rows(text: TextTransformer) -> list[Row]:
    """Return the rows of a text transformer."""
    embedding, head = count(text.embedding), count(text.head) + count(text.head_transform)
    head += 0 if text.head_bias is None else text.head_bias.numel()
    tied = text.head is None and text.causal
    shared = ", which are the output layer, too" if tied else ""
    blocks = f"{several(text.depth, 'block')} of width {text.dim}, {text.block_options.heads} heads"
    across = f", cross-attention in {len(text.cross_layers)}" if text.cross_layers else ""
    return [
        ("token embeddings", f"{text.vocab_size:,} tokens of width {text.dim}{shared}", embedding),
        (
            "text transformer",
            f"{blocks}{across}, {text.position} positions",
            count(text) - embedding - head,
        ),
        ("output layer", f"width {text.dim} to {text.vocab_size:,} tokens", head),
    ]


def fusion_row(fusion: Fusion) -> Row:
    """Return the row of a fusion."""
    kind = next(kind for kind, made in FUSIONS.items() if type(fusion) is made)
    depth = several(fusion.settings()["depth"], "layer")
    return ("fusion", f"{kind}, {depth} of width {fusion.dim}", count(fusion))


def size_of(model: nn.Module) -> str:
    """Return the number of a model's parameters as a person writes it."""
    total = count(model)
    return f"{total / 1e6:.3g} M parameters" if total >= 1e6 else f"{total:,} parameters"


def count(module: nn.Module | None) -> int:
    """Return the number of a module's parameters; those that it has twice count once."""
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def several(number: int, what: str) -> str:
    """Return a number of things, in the plural unless it is one."""
    return f"{number} {what}" + "s" * (number != 1)
