"""A captioner of ours as a folder that Hugging Face's `VisionEncoderDecoderModel` reads."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmattn.bundle import Bundle
from mmattn.files import folder_written_whole, write_whole
from mmattn.interop.huggingface.activations import WRITTEN
from mmattn.interop.huggingface.expressible import expressible
from mmattn.interop.huggingface.generation_export import generation_config
from mmattn.interop.huggingface.image_processor import image_processor_settings
from mmattn.interop.huggingface.vit import PREFIX
from mmattn.interop.huggingface.weights_export import context_maps, gpt2_state, vit_state
from mmattn.weights import write_state_dict

WEIGHTS = "model.safetensors"


def write_encoder_decoder(bundle: Bundle, folder: Path) -> None:
    """Write a captioner so that `VisionEncoderDecoderModel.from_pretrained` gives its logits.

    The folder gets model.safetensors (float32), tokenizer.json, tokenizer_config.json,
    preprocessor_config.json, generation_config.json and config.json. It is written whole or not at
    all, and may take the place of an older one.

    Besides models that `read_encoder_decoder` read, these are captioners of ours with linear
    patches, a class token (and at most one register, DeiT's distillation token), LayerNorm before
    each sub-layer and no rotary positions. The image size is that of the preprocessing. Where a
    crop's two margins cannot be equal, Hugging Face's crop may lie one pixel beside ours.

    Args:
        bundle: the model with its tokenizer and preprocessing; it is not changed.
        folder: is made if it does not exist.

    Raises:
        ConfigError: naming all that `VisionEncoderDecoderModel` cannot express, or other files in
            the folder, which would be lost.
    """
    architecture = expressible(bundle)
    files = {
        "tokenizer.json": bundle.tokenizer.to_json().encode(),
        "tokenizer_config.json": _json(_tokenizer_config(bundle)),
        "preprocessor_config.json": _json(image_processor_settings(bundle.preprocessing)),
        "generation_config.json": _json(generation_config(bundle)),
        "config.json": _json(_config(bundle, architecture)),
    }
    with folder_written_whole(folder, {WEIGHTS, *files}) as unfinished:
        write_state_dict(_weights(bundle), unfinished / WEIGHTS)
        for name, data in files.items():
            write_whole(unfinished / name, data)


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
        "hidden_act": WRITTEN[block["activation"]],
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
        "activation_function": WRITTEN[block["activation"]],
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
