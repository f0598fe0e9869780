"""A captioner's architecture as plain values, and back: what a model folder's config.json says."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError
from mmattn.patches import ConvStem, LinearPatches, PatchEmbedding
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

PATCHES = {"linear": LinearPatches, "conv_stem": ConvStem, "timm": TimmPatches}


def describe(model: Captioner) -> dict[str, Any]:
    """Return all that `construct` needs to build a captioner of the same architecture.

    Raises:
        CheckpointError: for a part that is not this library's own, naming its class.
    """
    own = {"captioner": Captioner, "vision": VisionTransformer, "text": TextTransformer}
    parts = {"captioner": model, "vision": model.vision, "text": model.text}
    for name, part in parts.items():
        if type(part) is not own[name]:
            raise CheckpointError(
                f"the {name} is a {type(part).__module__}.{type(part).__qualname__}: only "
                f"{own[name].__name__} itself can be written as plain values"
            )
    vision = model.vision.settings()
    vision["patches"] = {"kind": patches_kind(model.vision.patches), **vision["patches"]}
    return {"vision": vision, "text": model.text.settings()}


def patches_kind(patches: PatchEmbedding) -> str:
    """Return the name of a kind of patch embedding. Raises CheckpointError for another's own."""
    for kind, constructor in PATCHES.items():
        if type(patches) is constructor:
            return kind
    raise CheckpointError(
        f"the patch embedding is a {type(patches).__qualname__}: only "
        f"{', '.join(PATCHES)} can be written as plain values"
    )


def construct(architecture: Mapping[str, Any]) -> Captioner:
    """Build a captioner from what `describe` returned, with random weights.

    Raises:
        CheckpointError: for a missing or unknown key, or a value that a constructor refuses.
    """
    vision, text = (section(architecture, name, "model") for name in ("vision", "text"))
    patches = section(vision, "patches", "vision")
    kind = patches.pop("kind", None)
    if kind not in PATCHES:
        raise CheckpointError(f"vision.patches.kind is {kind!r}; known: {', '.join(PATCHES)}")
    vision["patches"] = call(PATCHES[kind], patches, "vision.patches")
    if vision.get("pooler") is not None:
        vision["pooler"] = call(
            AttentionPooler, section(vision, "pooler", "vision"), "vision.pooler"
        )
    for name, part in (("vision", vision), ("text", text)):
        part["block"] = call(BlockOptions, section(part, "block", name), f"{name}.block")
    return call(
        Captioner,
        {
            "vision": call(VisionTransformer, vision, "vision"),
            "text": call(TextTransformer, text, "text"),
        },
        "model",
    )


def section(values: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """Return a copy of one nested mapping. Raises CheckpointError where there is none."""
    found = values.get(key)
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{where} has no section {key!r}")
    return dict(found)


def call(constructor: Any, values: Mapping[str, Any], where: str) -> Any:
    """Call a constructor; what it refuses, or does not know, is a CheckpointError."""
    known = signature(constructor).parameters
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise CheckpointError(
            f"{where}.{unknown[0]}: this version of mmattn has no such setting; the model was "
            "written by a newer one, or its config.json was edited"
        )
    try:
        return constructor(**values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from error
