"""open_clip's CoCa models (Yu et al. 2022) in our own blocks, with equal outputs.

Of the image's pooled tokens the first is the contrastive one. The decoder never sees it, so its
query is left out, as are the other parts that only compare images with texts.

A text's class token is left out, too: open_clip appends it, so that under the causal mask no other
token sees it. open_clip also masks ids of padding in the unimodal blocks, with older weights one
place too far (`correct_cls_mask`). A caption is not padded before its end, so neither has an effect
on it, with one exception: CLIP's id of padding, 0, is also the token of an exclamation mark inside
a word. No model learns to write it, for training leaves it out; but in a text that holds it all the
same the places behind it differ from open_clip's.
"""

from pathlib import Path
from typing import Any

from mmattn.assembly import assembled
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import CheckpointError
from mmattn.interop.json_settings import Settings, read_settings
from mmattn.interop.model_tokenizer import check_vocabulary
from mmattn.interop.open_clip.clip_tokenizer import clip_tokenizer
from mmattn.interop.open_clip.coca_settings import (
    coca_architecture,
    coca_preprocessing,
    contrastive_queries,
)
from mmattn.interop.open_clip.coca_weights import translate
from mmattn.weights import read_state_dict

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def read_coca(folder: Path) -> Bundle:
    """Read a CoCa model from a folder as open_clip writes it.

    The folder holds open_clip_config.json, open_clip_model.safetensors (or
    open_clip_pytorch_model.bin, of which no code is run), and a vocabulary, unless open_clip is
    installed (see `clip_tokenizer`).

    Raises:
        CheckpointError: for a missing or damaged file, or a model that our blocks do not express,
            naming what differs.
    """
    folder = Path(folder)
    config = read_settings(folder / CONFIG)
    settings = config.section("model_cfg")
    model = _model(folder, settings)
    # The multimodal blocks may end before the unimodal ones.
    decoder = settings.section("multimodal_cfg").whole("context_length", 77)
    max_length = min(model.text.max_length, decoder)
    pictures = config.section("preprocess_cfg", {})
    return Bundle(
        model=model,
        tokenizer=_tokenizer(folder, settings, model.text.vocab_size),
        preprocessing=coca_preprocessing(pictures, model.vision.image_size),
        max_length=max_length,
        decoding=_decoding(max_length),
        source=f"open_clip CoCa, {folder.resolve().name}",
    )


def _model(folder: Path, settings: Settings) -> Captioner:
    """Return the captioner. The weights are checked before any memory is taken for a model."""
    architecture = coca_architecture(settings)
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder}: has no weights; looked for {' and '.join(WEIGHTS)}")
    contrastive = contrastive_queries(settings.section("vision_cfg"))
    state = translate(read_state_dict(path), architecture, str(path), contrastive)
    return assembled(architecture, state, settings.where)


def _tokenizer(folder: Path, settings: Settings, vocab_size: int) -> CaptionTokenizer:
    """Return the tokenizer. Raises CheckpointError where it is that of another model."""
    # A configuration that names a tokenizer does not mean the one that open_clip brings with it.
    installed = not settings.section("text_cfg").has("hf_tokenizer_name")
    pad_id = settings.whole("pad_id", 0, least=0)
    tokenizer = clip_tokenizer(folder, pad_id, installed=installed)
    check_vocabulary(tokenizer, vocab_size)
    return tokenizer


def _decoding(max_length: int) -> dict[str, Any]:
    """Return how `CoCa.generate` decodes by default, as far as `max_length` allows.

    Its 30 tokens count the begin of the text, and so do its 5 before the end may come. Its 6 beams
    are 3 groups of 2, and as nothing keeps the groups apart they all find the same.
    """
    return {"beams": 2, "min_length": min(4, max_length - 1), "max_length": min(29, max_length)}
