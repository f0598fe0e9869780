"""A model's architecture as plain values, and back: what a model folder's config.json says."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from torch import nn

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.errors import CheckpointError
from mmattn.fusion import (
    CoFusion,
    CrossFusion,
    Fusion,
    GatedFusion,
    MergedFusion,
    PooledFusion,
)
from mmattn.joint import JointModel
from mmattn.patches import ConvStem, LinearPatches, PatchEmbedding
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

PATCHES = {"linear": LinearPatches, "conv_stem": ConvStem, "timm": TimmPatches}
FUSIONS = {
    "cross": CrossFusion,
    "co": CoFusion,
    "merged": MergedFusion,
    "gated": GatedFusion,
    "pooled": PooledFusion,
}


def describe(model: Captioner | Classifier) -> dict[str, Any]:
    """Return all that builds a model of the same architecture.

    Of a captioner that is done by `construct`, of a classifier by `construct_classifier`, of a
    joint model by `construct_joint`.

    Raises:
        CheckpointError: for a part that is not this library's own, naming its class.
    """
    if isinstance(model, Classifier):
        check_own("classifier", model, Classifier)
        fusion = described_fusion(model.fusion)
        return {**described_encoders(model), "fusion": fusion, **model.settings()}
    if isinstance(model, JointModel):
        check_own("joint model", model, JointModel)
        parts = {
            "text_encoder": described_text("text_encoder", model.text_encoder),
            "fusion": described_fusion(model.fusion),
        }
        return {**described_encoders(model), **parts, **model.settings()}
    check_own("captioner", model, Captioner)
    return described_encoders(model)


def described_encoders(model: Captioner | Classifier) -> dict[str, Any]:
    """Return the two transformers of a model as plain values, None for one that it lacks."""
    vision, text = model.vision, model.text
    values: dict[str, Any] = {"vision": None, "text": None}
    if vision is not None:
        check_own("vision", vision, VisionTransformer)
        values["vision"] = vision.settings()
        patches = {"kind": patches_kind(vision.patches), **values["vision"]["patches"]}
        values["vision"]["patches"] = patches
    if text is not None:
        values["text"] = described_text("text", text)
    return values


def described_text(name: str, text: TextTransformer) -> dict[str, Any]:
    """Return a text transformer as plain values. Raises CheckpointError for another's own."""
    check_own(name, text, TextTransformer)
    return text.settings()


def described_fusion(fusion: Fusion | None) -> dict[str, Any] | None:
    """Return a fusion as plain values, None for none. Raises CheckpointError for another's own."""
    if fusion is None:
        return None
    for kind, constructor in FUSIONS.items():
        if type(fusion) is constructor:
            return {"kind": kind, **fusion.settings()}
    raise CheckpointError(
        f"the fusion is a {type(fusion).__qualname__}: only {', '.join(FUSIONS)} can be written as "
        "plain values"
    )


def check_own(name: str, part: nn.Module, own: type[nn.Module]) -> None:
    """Raise CheckpointError for a part of any other class than this library's."""
    if type(part) is not own:
        raise CheckpointError(
            f"the {name} is a {type(part).__module__}.{type(part).__qualname__}: only "
            f"{own.__name__} itself can be written as plain values"
        )


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
    return call(
        Captioner,
        {"vision": constructed_vision(vision), "text": constructed_text(text)},
        "model",
    )


def construct_classifier(architecture: Mapping[str, Any]) -> Classifier:
    """Build a classifier from what `describe` returned, with random weights.

    Raises:
        CheckpointError: as `construct`.
    """
    build = {
        "vision": constructed_vision,
        "text": constructed_text,
        "fusion": constructed_fusion,
    }
    values = dict(architecture)
    for name, built in build.items():
        values[name] = constructed_or_none(values, name, built)
    for name in ("heads", "may_miss"):
        values[name] = section(values, name, "model")
    return call(Classifier, values, "model")


def construct_joint(architecture: Mapping[str, Any]) -> JointModel:
    """Build a joint model from what `describe` returned, with random weights.

    Raises:
        CheckpointError: as `construct`.
    """
    values = dict(architecture)
    values["vision"] = constructed_vision(section(values, "vision", "model"))
    for name in ("text", "text_encoder"):
        values[name] = constructed_text(section(values, name, "model"), name)
    values["fusion"] = constructed_or_none(values, "fusion", constructed_fusion)
    return call(JointModel, values, "model")


def constructed_or_none(
    architecture: Mapping[str, Any], name: str, build: Callable[[dict[str, Any]], Any]
) -> Any:
    """Build a part that a model may lack: None where its section says so.

    Raises:
        CheckpointError: where there is no such section, or the part cannot be built.
    """
    if name not in architecture:
        raise CheckpointError(f"model has no section {name!r}")
    return None if architecture[name] is None else build(section(architecture, name, "model"))


def constructed_vision(vision: dict[str, Any]) -> VisionTransformer:
    """Build an image encoder. Raises CheckpointError where that cannot be."""
    patches = section(vision, "patches", "vision")
    kind = patches.pop("kind", None)
    if kind not in PATCHES:
        raise CheckpointError(f"vision.patches.kind is {kind!r}; known: {', '.join(PATCHES)}")
    pooler = vision.get("pooler")
    if pooler is not None:
        pooler = call(AttentionPooler, section(vision, "pooler", "vision"), "vision.pooler")
    built = {
        "patches": call(PATCHES[kind], patches, "vision.patches"),
        "pooler": pooler,
        "block": constructed_block(vision, "vision"),
    }
    return call(VisionTransformer, {**vision, **built}, "vision")


def constructed_text(text: dict[str, Any], name: str = "text") -> TextTransformer:
    """Build a text transformer. Raises CheckpointError where that cannot be."""
    return call(TextTransformer, {**text, "block": constructed_block(text, name)}, name)


def constructed_fusion(fusion: dict[str, Any]) -> Fusion:
    """Build a fusion. Raises CheckpointError where that cannot be."""
    kind = fusion.get("kind")
    if kind not in FUSIONS:
        raise CheckpointError(f"fusion.kind is {kind!r}; known: {', '.join(FUSIONS)}")
    values = {key: value for key, value in fusion.items() if key != "kind"}
    values["block"] = constructed_block(fusion, "fusion")
    return call(FUSIONS[kind], values, "fusion")


def constructed_block(part: Mapping[str, Any], name: str) -> BlockOptions:
    """Return what the blocks of a part share. Raises CheckpointError where that cannot be."""
    return call(BlockOptions, section(part, "block", name), f"{name}.block")


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
