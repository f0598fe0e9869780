"""What open_clip's configuration of a CoCa model says, as our own values.

Where it leaves something out, open_clip's defaults count.
"""

from typing import Any

from mmattn.data.preprocessing import Preprocessing, Size
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.clip_colours import CLIP_MEAN, CLIP_STD
from mmattn.interop.json_settings import Settings

NORM_EPS = 1e-5  # where `norm_kwargs` does not say otherwise

BLOCK = {"width", "layers", "mlp_ratio", "ls_init_value", "act_kwargs", "norm_kwargs"}
BLOCK |= {"block_type"}
# What makes a tower of a kind that our blocks do not express.
OTHER_BLOCKS = {"scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"}
REFUSED = {
    "model_cfg": set(),
    "multimodal_cfg": set(),
    "vision_cfg": OTHER_BLOCKS | {"timm_model_name"},
    "text_cfg": OTHER_BLOCKS
    | {"hf_model_name", "no_causal_mask", "qk_norm", "tokenizer_mode", "tokenizer_kwargs"},
}
READ = {
    "model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "multimodal_cfg", "quick_gelu", "pad_id"},
    "vision_cfg": BLOCK
    | {"head_width", "qk_norm", "patch_size", "image_size", "no_ln_pre", "attentional_pool"}
    | {"attn_pooler_queries", "attn_pooler_heads", "pool_type"},
    "text_cfg": BLOCK | {"heads", "context_length", "vocab_size", "embed_cls", "hf_tokenizer_name"},
    "multimodal_cfg": {"width", "layers", "heads", "context_length", "ls_init_value"},
}
# What belongs to training, to comparing images with texts or to towers that are refused; or the
# weights say it themselves (`pos_embed_type`); or it has no effect on texts without padding.
IDLE = {
    "model_cfg": {"custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"},
    "vision_cfg": {"patch_dropout", "pos_embed_type", "final_ln_after_pool", "output_tokens"}
    | {"timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias", "timm_drop"}
    | {"timm_drop_path"},
    "text_cfg": {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "pool_type", "proj_type"}
    | {"proj_bias", "output_tokens", "final_ln_after_pool", "pad_id", "eos_id", "use_pad_mask"}
    | {"correct_cls_mask"},
}
# open_clip reads no more of these blocks; whatever else a text tower has may stand there.
IDLE["multimodal_cfg"] = (
    READ["text_cfg"]
    | REFUSED["text_cfg"]
    | IDLE["text_cfg"]
    | {"dim_head", "n_queries", "attn_pooler_heads"}
)
PREPROCESSING = {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}
# The key and the option in which unimodal and multimodal blocks must agree: ours are all alike.
SAME = {
    "mlp_ratio": "mlp_ratio",
    "norm_kwargs": "norm_eps",
    "act_kwargs": "activation",
    "ls_init_value": "layer_scale",
}


def coca_architecture(model: Settings) -> dict[str, Any]:
    """Return the architecture of a `model_cfg`, as `mmattn.architecture.construct` takes it.

    Raises:
        CheckpointError: where our blocks do not express it, naming the key and its value.
    """
    if not model.has("multimodal_cfg"):
        raise CheckpointError(f"{model.where}: has no 'multimodal_cfg': this is not a CoCa model")
    towers = {name: model.section(name) for name in ("vision_cfg", "text_cfg", "multimodal_cfg")}
    for name, settings in {"model_cfg": model, **towers}.items():
        _refuse_others(settings, REFUSED[name], READ[name] | IDLE[name])
    dim, quick_gelu = model.whole("embed_dim"), model.flag("quick_gelu", False)
    return {
        "vision": _vision(towers["vision_cfg"], dim, quick_gelu),
        "text": _text(towers["text_cfg"], towers["multimodal_cfg"], dim, quick_gelu),
    }


def contrastive_queries(vision: Settings) -> int:
    """Return how many of the pooler's queries, the first, are kept from the decoder.

    The first gathers what is compared with texts; with "avg" that is the mean of the others, but it
    is kept from the decoder all the same.
    """
    return vision.choice("pool_type", {"tok": 1, "avg": 1, "none": 0}, "tok")


def _refuse_others(settings: Settings, refused: set[str], known: set[str]) -> None:
    """Refuse what would change the outputs, by its name; what is switched off changes nothing."""
    for key, value in settings.values.items():
        if value and key in refused:
            raise settings.wrong(key, "left out: our blocks do not express it")
        if value and key not in known:
            raise settings.wrong(key, "left out: this version of mmattn does not know it")


def _vision(vision: Settings, dim: int, quick_gelu: bool) -> dict[str, Any]:
    """Return the architecture of the image tower; `dim` is the width of its pooled tokens."""
    if vision.raw("attentional_pool", False) is not True:
        # "parallel" and "cascade" normalise before they pool; without a pooler the decoder would
        # attend to the patches, but not to the class token among them.
        raise vision.wrong("attentional_pool", "true: other ways to pool are not supported")
    width, (height, side) = vision.whole("width", 768), vision.pair("patch_size", 16)
    if height != side:
        raise vision.wrong("patch_size", "square: other patches are not supported")
    head_width = vision.whole("head_width", 64)
    if head_width > width:
        raise vision.wrong("head_width", f"at most the width, {width}")
    # A "default" block ignores the wish.
    qk_norm = vision.flag("qk_norm", False) and vision.raw("block_type", None) != "default"
    return {
        "image_size": list(vision.pair("image_size", 224)),
        "patches": {"kind": "linear", "patch_size": side, "dim": width},
        "depth": vision.whole("layers", 12, least=0),
        "block": {
            "heads": width // head_width,
            "qk_norm": "layer" if qk_norm else None,
            **_block(vision, width, quick_gelu),
        },
        "class_token": True,
        "embed_norm": None if vision.flag("no_ln_pre", False) else "layer",
        "pooler": {
            "queries": vision.whole("attn_pooler_queries", 256, least=2)
            - contrastive_queries(vision),
            "dim": dim,
            "heads": vision.whole("attn_pooler_heads", 8),
            "context_dim": width,
            "norm_eps": NORM_EPS,  # whatever `norm_kwargs` says
        },
    }


def _text(text: Settings, decoder: Settings, dim: int, quick_gelu: bool) -> dict[str, Any]:
    """Return the architecture of the unimodal blocks and of the multimodal ones behind them."""
    if not text.flag("embed_cls", False):
        raise text.wrong("embed_cls", "true: without it open_clip normalises the text half-way")
    width = text.whole("width", 512)
    block = _block(text, width, quick_gelu)
    # All that open_clip reads of the multimodal blocks, besides their number, width and heads.
    scale = {"ls_init_value": decoder.raw("ls_init_value", None)}
    multimodal = _block(Settings(scale, decoder.where), width, quick_gelu)
    for key, option in SAME.items():
        if block[option] != multimodal[option]:
            raise text.wrong(key, f"that of the multimodal blocks ({option} {multimodal[option]})")
    for key, default in (("width", 512), ("heads", 8)):
        if text.whole(key, default) != decoder.whole(key, default):
            raise text.wrong(key, f"that of the multimodal blocks ({decoder.whole(key, default)})")
    if width != dim:
        raise text.wrong("width", f"{dim}, the 'embed_dim': blocks attend to tokens of their width")
    layout = ["self"] * text.whole("layers", 12)
    layout += ["self", "cross"] * decoder.whole("layers", 12)
    return {
        "vocab_size": text.whole("vocab_size", 49408),
        "dim": width,
        "depth": len(layout),
        "block": {"heads": text.whole("heads", 8), "context_norm": True, **block},
        "max_length": text.whole("context_length", 77),
        "context_dim": dim,
        "layout": layout,
        "tie_embeddings": False,
    }


def _block(settings: Settings, width: int, quick_gelu: bool) -> dict[str, Any]:
    """Return what the blocks of a tower have in common, but for their attention."""
    # "custom" alone changes only how the attention is written.
    kinds = {kind: kind for kind in ("default", "custom")}
    settings.choice("block_type", kinds, "default")
    return {
        "mlp_ratio": int(width * settings.number("mlp_ratio", 4.0)) / width,
        "activation": _activation(settings, quick_gelu),
        "layer_scale": 1.0 if settings.has("ls_init_value") else None,
        "norm_eps": _keyword(settings, "norm_kwargs", "eps").number("eps", NORM_EPS),
    }


def _activation(settings: Settings, quick_gelu: bool) -> str:
    if quick_gelu and settings.raw("act_kwargs", {}):
        raise settings.wrong("act_kwargs", "left out: quick_gelu takes none")
    kinds = {"none": "gelu", "tanh": "gelu_tanh"}
    plain = _keyword(settings, "act_kwargs", "approximate").choice("approximate", kinds, "none")
    return "quick_gelu" if quick_gelu else plain


def _keyword(settings: Settings, key: str, only: str) -> Settings:
    """Return the keywords under `key`, of which one alone is known."""
    found = settings.section(key, {})
    _refuse_others(found, set(), {only})
    return found


def coca_preprocessing(settings: Settings, size: Size) -> Preprocessing:
    """Return what open_clip does with a picture by a `preprocess_cfg`.

    Args:
        settings: the section.
        size: (height, width) of the network's input, which counts, as in open_clip, instead of the
            section's own `size`.

    Raises:
        CheckpointError: for what `Preprocessing` does not express.
    """
    _refuse_others(settings, set(), PREPROCESSING)
    settings.choice("mode", {"RGB": "RGB"}, "RGB")
    squash = settings.choice("resize_mode", {"shortest": False, "squash": True}, "shortest")
    if not squash and size[0] != size[1]:
        raise settings.wrong("resize_mode", f"'squash' for pictures of {size[0]} x {size[1]}")
    # "random" is for training.
    filters = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
    try:
        return Preprocessing(
            size=size,
            resize=size if squash else size[0],
            crop=None if squash else size,
            interpolation=settings.choice("interpolation", filters, "bicubic"),
            mean=settings.channels("mean", CLIP_MEAN),
            std=settings.channels("std", CLIP_STD),
        )
    except ConfigError as error:
        raise CheckpointError(f"{settings.where}: {error}") from None
