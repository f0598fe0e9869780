"""Hugging Face's `VisionEncoderDecoderModel` (ViT or DeiT and GPT-2) in our own blocks."""

from pathlib import Path
from typing import Any

from torch import Tensor

from mmattn.assembly import assembled
from mmattn.bundle import Bundle
from mmattn.data.tokenizer import CaptionTokenizer, SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.folder import read_preprocessing, read_tokenizer, read_weights
from mmattn.interop.huggingface.generation import generation, generation_settings
from mmattn.interop.huggingface.gpt2 import gpt2_architecture, gpt2_weights
from mmattn.interop.huggingface.vit import vit_architecture, vit_weights
from mmattn.interop.json_settings import Settings, read_settings
from mmattn.interop.model_tokenizer import check_vocabulary
from mmattn.interop.named_weights import NamedWeights


def read_encoder_decoder(folder: Path) -> Bundle:
    """Read a captioner from a folder in Hugging Face's layout; nothing of that library is needed.

    Its logits, captions and cross-attention maps are those of `VisionEncoderDecoderModel`. Weights
    become float32 whatever they are stored in.

    Args:
        folder: holds config.json, generation_config.json, preprocessor_config.json, the tokenizer
            and the weights (`mmattn.interop.huggingface.folder` tells all the forms they may have).

    Raises:
        CheckpointError: where a file is missing or damaged, the files do not fit each other, or the
            model has something that our blocks do not express, naming it.
    """
    folder = Path(folder)
    config = read_settings(folder / "config.json")
    config.choice("model_type", {"vision-encoder-decoder": None})
    encoder, decoder = config.section("encoder"), config.section("decoder")
    architecture = {"vision": vit_architecture(encoder), "text": gpt2_architecture(decoder)}
    _check_widths(encoder, decoder, architecture)
    state = _translate(NamedWeights(read_weights(folder), str(folder)), encoder, decoder)
    settings = generation_settings(folder, config, decoder)
    written = generation(settings)
    height, width = architecture["vision"]["image_size"]
    return Bundle(
        model=assembled(architecture, state, config.where),
        tokenizer=_tokenizer(folder, settings, architecture["text"]["vocab_size"]),
        preprocessing=read_preprocessing(folder, (height, width)),
        # What is written in the last place is not read: the begin token takes a position.
        max_length=min(written.max_length, architecture["text"]["max_length"]),
        decoding=written.decoding,
        source=f"Hugging Face {encoder.raw('model_type')} + gpt2, {folder.resolve().name}",
    )


def _check_widths(encoder: Settings, decoder: Settings, architecture: dict[str, Any]) -> None:
    """Refuse a context that GPT-2, whose cross-attention reads its own width, cannot read."""
    vision, text = architecture["vision"]["patches"]["dim"], architecture["text"]["dim"]
    if decoder.has("cross_attention_hidden_size") and vision != text:
        raise CheckpointError(
            f"{decoder.where}: 'cross_attention_hidden_size' leaves out the map from the encoder's "
            f"width to the decoder's, but they are {vision} and {text}"
        )


def _translate(weights: NamedWeights, encoder: Settings, decoder: Settings) -> dict[str, Tensor]:
    """Return all weights as those of our `Captioner`. Raises CheckpointError for one left over."""
    vision = vit_weights(weights, "encoder.", encoder)
    text = gpt2_weights(weights, "decoder.", decoder)
    ours = {f"vision.{name}": value for name, value in vision.items()}
    ours |= {f"text.{name}": value for name, value in text.items()}
    width, context = len(vision["norm.bias"]), len(text["norm.bias"])
    if width != context:
        ours |= weights.take_module("enc_to_dec_proj", "bridge", context, width)
    weights.refuse_rest()
    return ours


def _tokenizer(folder: Path, settings: Settings, vocab_size: int) -> CaptionTokenizer:
    """Return the tokenizer. Raises CheckpointError where it is that of another model."""
    tokenizer = read_tokenizer(folder, _special(settings, vocab_size))
    check_vocabulary(tokenizer, vocab_size)
    return tokenizer


def _special(settings: Settings, vocab_size: int) -> SpecialIds:
    """Return the ids of padding, begin and end, with the substitutes that `generate` takes."""
    begin = "decoder_start_token_id" if settings.has("decoder_start_token_id") else "bos_token_id"
    pad = "pad_token_id" if settings.has("pad_token_id") else "eos_token_id"
    return SpecialIds(*(_id(settings, key, vocab_size) for key in (pad, begin, "eos_token_id")))


def _id(settings: Settings, key: str, vocab_size: int) -> int:
    """Return the id of one token, which may be alone in a list."""
    value = settings.raw(key)
    one = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < vocab_size:
        raise settings.wrong(key, f"one token of the {vocab_size} that the model knows")
    return one
