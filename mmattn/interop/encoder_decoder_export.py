"""A captioner of ours as a folder that Hugging Face's `VisionEncoderDecoderModel` reads."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from mmattn.architecture import describe
from mmattn.bundle import Bundle
from mmattn.errors import CheckpointError, ConfigError
from mmattn.files import write_whole, written_whole
from mmattn.interop.hf_export import context_maps, gpt2_state, vit_state
from mmattn.interop.hf_generation_export import generation_config
from mmattn.interop.hf_preprocessing import image_processor_settings
from mmattn.interop.hf_settings import ACTIVATIONS
from mmattn.interop.hf_vit import PREFIX

WEIGHTS = "model.safetensors"
# The first of Hugging Face's names for each of our activations.
NAMES = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}


def write_encoder_decoder(bundle: Bundle, folder: Path) -> None:
    """Write a captioner so that `VisionEncoderDecoderModel.from_pretrained` gives its logits.

    The folder gets model.safetensors (float32), tokenizer.json, tokenizer_config.json,
    preprocessor_config.json, generation_config.json and config.json. Each is written whole or not
    at all, config.json last; nothing is written where anything is refused.

    Besides models that `read_encoder_decoder` read, these are captioners of ours with linear
    patches, a class token (and at most one register, DeiT's distillation token), LayerNorm before
    each sub-layer and no rotary positions. The image size is that of the preprocessing. Where a
    crop's two margins cannot be equal, Hugging Face's crop may lie one pixel beside ours.

    Args:
        bundle: the model with its tokenizer and preprocessing; it is not changed.
        folder: is made if it does not exist.

    Raises:
        ConfigError: naming all that `VisionEncoderDecoderModel` cannot express, or a file in the
            folder that Hugging Face's libraries would read as a part of this model.
    """
    folder = Path(folder)
    architecture = _expressible(bundle)
    files = {
        "tokenizer.json": bundle.tokenizer.to_json().encode(),
        "tokenizer_config.json": _json(_tokenizer_config(bundle)),
        "preprocessor_config.json": _json(image_processor_settings(bundle.preprocessing)),
        "generation_config.json": _json(generation_config(bundle)),
        "config.json": _json(_config(bundle, architecture)),
    }
    _check_folder(folder, {WEIGHTS, *files})
    with written_whole(folder / WEIGHTS) as unfinished:
        save_file(_weights(bundle), unfinished, metadata={"format": "pt"})
    for name, data in files.items():
        write_whole(folder / name, data)


def _check_folder(folder: Path, own: set[str]) -> None:
    """Refuse a folder in which files of another model would be mixed with ours."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: name a folder to write to")
    others = sorted({path.name for path in folder.iterdir()} - own) if folder.exists() else []
    if others:
        raise ConfigError(f"{folder} holds {others[0]} already: name a new or an empty folder")


def _expressible(bundle: Bundle) -> dict[str, Any]:
    """Return the architecture. Raises ConfigError naming all that ViT and GPT-2 cannot express."""
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
    if block["activation"] not in NAMES:
        problems.append(f"{part}.block.activation={block['activation']!r}")
    return problems


@torch.no_grad()
def _weights(bundle: Bundle) -> dict[str, Tensor]:
    """Return the content of model.safetensors, whose tensors may not share memory."""
    model = bundle.model
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in model.parameters()):
        model = deepcopy(model).to("cpu", torch.float32)
    context = context_maps(model)
    assert context is not None  # checked before
    parts = {
        "encoder.": vit_state(model.vision, bundle.preprocessing.size),
        "decoder.": gpt2_state(model.text, context),
        "": {} if context.project is None else context.project.named("enc_to_dec_proj"),
    }
    return {
        part + name: _whole(value.float().contiguous())
        for part, values in parts.items()
        for name, value in values.items()
    }


def _whole(tensor: Tensor) -> Tensor:
    """Return a tensor that is not a part of a larger one."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _config(bundle: Bundle, architecture: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json."""
    special = bundle.tokenizer.special
    ids = {
        "bos_token_id": special.begin,
        "eos_token_id": special.end,
        "pad_token_id": special.pad,
    }
    return {
        "architectures": ["VisionEncoderDecoderModel"],
        "model_type": "vision-encoder-decoder",
        "is_encoder_decoder": True,
        "tie_word_embeddings": False,  # of the two parts; the decoder has a setting of its own
        "dtype": "float32",
        **ids,
        "decoder_start_token_id": special.begin,
        "encoder": _encoder_config(architecture["vision"], bundle.preprocessing.size),
        "decoder": _decoder_config(architecture["text"]) | ids,
    }


def _encoder_config(vision: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    block, patches = vision["block"], vision["patches"]
    prefix = int(vision["class_token"]) + vision["registers"]
    return {
        "model_type": next(kind for kind, names in PREFIX.items() if len(names) == prefix),
        "hidden_size": patches["dim"],
        "num_hidden_layers": vision["depth"],
        "num_attention_heads": block["heads"],
        "intermediate_size": round(patches["dim"] * block["mlp_ratio"]),
        "hidden_act": NAMES[block["activation"]],
        "hidden_dropout_prob": block["dropout"],
        "attention_probs_dropout_prob": block["attention_dropout"],
        "layer_norm_eps": block["norm_eps"],
        "image_size": list(image_size),
        "patch_size": patches["patch_size"],
        "num_channels": 3,
        "qkv_bias": block["bias"],
    }


def _decoder_config(text: dict[str, Any]) -> dict[str, Any]:
    block = text["block"]
    return {
        "model_type": "gpt2",
        "is_decoder": True,
        "add_cross_attention": True,
        "vocab_size": text["vocab_size"],
        "n_positions": text["max_length"],
        "n_embd": text["dim"],
        "n_layer": text["depth"],
        "n_head": block["heads"],
        "n_inner": round(text["dim"] * block["mlp_ratio"]),
        "activation_function": NAMES[block["activation"]],
        "resid_pdrop": block["dropout"],
        "embd_pdrop": 0.0,
        "attn_pdrop": block["attention_dropout"],
        "layer_norm_epsilon": block["norm_eps"],
        "tie_word_embeddings": text["tie_embeddings"],
    }


def _tokenizer_config(bundle: Bundle) -> dict[str, Any]:
    """Return the content of tokenizer_config.json: which tokens are the special ones."""
    backend, special = bundle.tokenizer.backend, bundle.tokenizer.special
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": backend.id_to_token(special.begin),
        "eos_token": backend.id_to_token(special.end),
        "pad_token": backend.id_to_token(special.pad),
        "model_max_length": bundle.model.text.max_length,
        "clean_up_tokenization_spaces": False,
    }


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
