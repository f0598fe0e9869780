"""Which captioners of ours Hugging Face's `VisionEncoderDecoderModel` of ViT and GPT-2 can be."""

from typing import Any

from mmattn.architecture import describe
from mmattn.bundle import Bundle
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.huggingface.activations import WRITTEN
from mmattn.interop.huggingface.vit import PREFIX
from mmattn.interop.huggingface.weights_export import context_maps


def expressible(bundle: Bundle) -> dict[str, Any]:
    """Return the architecture, see `mmattn.architecture.describe`.

    Raises:
        ConfigError: naming all that ViT and GPT-2 cannot express.
    """
    model = bundle.model
    try:
        architecture = describe(model)
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    problems = _vision_problems(architecture["vision"], bundle) + _text_problems(architecture)
    if context_maps(model) is None:
        problems.append(
            f"a context of width {model.text.context_dim} from an encoder of width "
            f"{model.vision.dim}, both above the decoder's {model.text.dim}"
        )
    if problems:
        raise ConfigError(
            "Hugging Face's VisionEncoderDecoderModel of ViT and GPT-2 cannot express "
            + "; ".join(problems)
        )
    return architecture


def _vision_problems(vision: dict[str, Any], bundle: Bundle) -> list[str]:
    patches, prefix = vision["patches"], int(vision["class_token"]) + vision["registers"]
    problems = _block_problems("vision", vision["block"])
    if patches["kind"] != "linear" or patches["hidden"]:
        problems.append("vision.patches: other than one linear map of each patch")
    elif any(side % patches["patch_size"] for side in bundle.preprocessing.size):
        problems.append(
            f"preprocessing.size={bundle.preprocessing.size}: it does not divide into patches of "
            f"{patches['patch_size']}"
        )
    if patches.get("channels", 3) != 3:
        problems.append(f"vision.patches.channels={patches['channels']}: preprocessing makes RGB")
    if prefix not in map(len, PREFIX.values()):
        problems.append(
            f"vision: class token and registers are {prefix} prefix tokens; ViT has 1, DeiT 2"
        )
    if vision["position"] == "rotary":
        problems.append("vision.position='rotary'")
    for key in ("embed_norm", "pooler"):
        if vision[key] is not None:
            problems.append(f"vision.{key}")
    return problems


def _text_problems(architecture: dict[str, Any]) -> list[str]:
    text = architecture["text"]
    problems = _block_problems("text", text["block"])
    if text["position"] == "rotary":
        problems.append("text.position='rotary'")
    if set(text["layout"]) - {"both"}:
        problems.append("text.layout: blocks without self- or cross-attention")
    problems += [
        f"text.{key}" for key in ("embed_norm", "head_transform", "head_bias") if text[key]
    ]
    return problems


def _block_problems(part: str, block: dict[str, Any]) -> list[str]:
    plain = {"norm": "layer", "pre_norm": True, "qk_norm": None, "context_norm": False}
    problems = [
        f"{part}.block.{key}={block[key]!r}"
        for key, value in plain.items()
        # An image's tokens attend to nothing but themselves.
        if block[key] != value and not (part == "vision" and key == "context_norm")
    ]
    if block["activation"] not in WRITTEN:
        problems.append(f"{part}.block.activation={block['activation']!r}")
    return problems
