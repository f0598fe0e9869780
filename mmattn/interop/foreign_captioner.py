"""Other libraries' captioners, whichever of those that can be read."""

from pathlib import Path

from mmattn.bundle import Bundle
from mmattn.errors import CheckpointError
from mmattn.json_file import read_json

READABLE = (
    "Hugging Face's VisionEncoderDecoderModel (ViT or DeiT and GPT-2) and "
    "BlipForConditionalGeneration, and open_clip's CoCa"
)
# Why a well-known kind is not among them.
REASONS = {
    "git": "GIT has no cross-attention: the image's tokens stand before the text in its "
    "self-attention",
}


def read_captioner(source: Path) -> Bundle:
    """Read a captioner from a folder in its own library's layout, into this library's blocks.

    Args:
        source: holds config.json (Hugging Face) or open_clip_config.json (open_clip).

    Raises:
        CheckpointError: where there is no such folder, it holds another kind of model, or the
            reader of its kind refuses it.
    """
    source = Path(source).expanduser()
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such folder; what can be read are {READABLE}")
    if (source / "open_clip_config.json").is_file():
        from mmattn.interop.open_clip.coca import read_coca

        return read_coca(source)
    if not (source / "config.json").is_file():
        raise CheckpointError(
            f"{source}: has neither config.json nor open_clip_config.json; what can be read are "
            f"{READABLE}"
        )
    return _read_hugging_face(source)


def _read_hugging_face(source: Path) -> Bundle:
    kind = read_json(source / "config.json").get("model_type")
    if kind == "vision-encoder-decoder":
        from mmattn.interop.huggingface.encoder_decoder import read_encoder_decoder

        return read_encoder_decoder(source)
    if kind == "blip":
        from mmattn.interop.huggingface.blip import read_blip

        return read_blip(source)
    reason = REASONS.get(kind, "") if isinstance(kind, str) else ""
    raise CheckpointError(
        f"{source / 'config.json'}: 'model_type' is {kind!r}; what can be read are {READABLE}"
        + (f". {reason}" if reason else "")
    )
