"""What we write, Hugging Face's `VisionEncoderDecoderModel` reads and computes alike."""

import json
from dataclasses import replace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from mmattn import BlockOptions, Captioner, TextTransformer, VisionTransformer
from mmattn.bundle import Bundle
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.errors import ConfigError
from mmattn.interop.huggingface import encoder_decoder_export
from mmattn.interop.huggingface.encoder_decoder import read_encoder_decoder
from mmattn.interop.huggingface.encoder_decoder_export import write_encoder_decoder
from mmattn.patches import ConvStem, LinearPatches
from mmattn.pooling import AttentionPooler

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

TEXTS = ["a dog runs over the grass", "two black cats sit on a mat"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer.train(TEXTS, 280)


def preprocessing(height=32, width=32):
    size = (height, width)
    return Preprocessing(size, size, None, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def build(
    tokenizer,
    *,
    widths=(24, 24, 24),
    vision=(),
    text=(),
    vision_block=(),
    text_block=(),
    patches=None,
):
    """A random captioner; `widths` are the encoder's, the context's and the decoder's."""
    torch.manual_seed(0)
    encoder, context, decoder = widths
    vision_options = {"image_size": (32, 32), "depth": 2, "class_token": True, **dict(vision)}
    text_options = {"depth": 2, "max_length": 20, "context_dim": context, **dict(text)}
    model = Captioner(
        VisionTransformer(
            patches=patches or LinearPatches(8, encoder),
            block=BlockOptions(heads=4, **dict(vision_block)),
            **vision_options,
        ),
        TextTransformer(
            tokenizer.vocab_size,
            decoder,
            block=BlockOptions(heads=4, **dict(text_block)),
            **text_options,
        ),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return Bundle(model.eval(), tokenizer, preprocessing(), max_length=20)


def read_theirs(folder):
    """Their model of the folder; it lacks no weight and leaves none over."""
    model, report = transformers.VisionEncoderDecoderModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values()), report
    return model.eval()


def some_input(bundle, rows=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(rows, 3, *bundle.preprocessing.size, generator=generator)
    return images, torch.randint(bundle.model.text.vocab_size, (rows, 8), generator=generator)


@torch.no_grad()
def assert_same_logits(theirs, bundle, atol=1e-4):
    images, tokens = some_input(bundle)
    expected = bundle.model(images, tokens[:, None])[:, 0]
    assert expected.std() > 0.5
    out = theirs(pixel_values=images, decoder_input_ids=tokens).logits
    torch.testing.assert_close(out, expected, atol=atol, rtol=0)


OURS = {
    "plain": {},
    "one register, other activations": {
        "vision": {"registers": 1},
        "vision_block": {"activation": "quick_gelu", "mlp_ratio": 1.5, "norm_eps": 0.1},
        "text_block": {"activation": "silu", "mlp_ratio": 2.125, "norm_eps": 0.05},
    },
    "a register in the place of a class token": {"vision": {"class_token": False, "registers": 1}},
    "untied": {"text": {"tie_embeddings": False}, "text_block": {"activation": "gelu_tanh"}},
    "no biases": {"vision_block": {"bias": False}, "text_block": {"bias": False}},
    "scaled branches": {"vision_block": {"layer_scale": 0.5}, "text_block": {"layer_scale": 2.0}},
    "shared keys and values": {"vision_block": {"kv_heads": 2}, "text_block": {"kv_heads": 1}},
    "computed positions": {
        "vision": {"position": "sinusoidal"},
        "text": {"position": "sinusoidal"},
    },
    "no positions of patches": {"vision": {"position": "none"}},
    "another image size": {"vision": {"image_size": (16, 48)}},
    "bridge": {"widths": (32, 24, 24)},
    "bridge between equal widths": {"widths": (24, 40, 24)},
    "bridge to a narrow context": {"widths": (24, 12, 24), "text_block": {"kv_heads": 2}},
    "narrow encoder": {"widths": (12, 12, 24)},
    "bridge from a narrow encoder": {"widths": (12, 16, 24)},
    "bridge to a wide context": {"widths": (12, 40, 24), "text_block": {"bias": False}},
    "bridge from a wide encoder": {"widths": (40, 12, 24)},
    "dropout": {
        "vision_block": {"dropout": 0.2, "attention_dropout": 0.1, "drop_path": 0.3},
        "text_block": {"dropout": 0.3, "attention_dropout": 0.4},
    },
}


@pytest.mark.parametrize("case", OURS)
def test_logits_of_our_captioners_are_the_same_there_and_when_read_again(tokenizer, tmp_path, case):
    bundle = build(tokenizer, **OURS[case])
    before = {name: value.clone() for name, value in bundle.model.state_dict().items()}
    write_encoder_decoder(bundle, tmp_path)
    assert all(torch.equal(value, before[n]) for n, value in bundle.model.state_dict().items())
    theirs = read_theirs(tmp_path)
    assert_same_logits(theirs, bundle)
    assert_same_logits(theirs, read_encoder_decoder(tmp_path))


def test_dropout_is_carried_over_for_who_trains_on(tokenizer, tmp_path):
    write_encoder_decoder(build(tokenizer, **OURS["dropout"]), tmp_path)
    config = read_theirs(tmp_path).config
    assert config.encoder.hidden_dropout_prob == 0.2
    assert config.encoder.attention_probs_dropout_prob == 0.1
    assert (config.decoder.resid_pdrop, config.decoder.attn_pdrop) == (0.3, 0.4)
    read = read_encoder_decoder(tmp_path).model.text.block_options
    assert (read.dropout, read.attention_dropout) == (0.3, 0.4)


def test_a_model_in_half_precision_is_written_in_full(tokenizer, tmp_path):
    bundle = build(tokenizer)
    bundle.model.bfloat16()
    write_encoder_decoder(bundle, tmp_path)
    assert {v.dtype for v in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}
    assert bundle.model.text.embedding.weight.dtype == torch.bfloat16
    bundle.model.float()
    assert_same_logits(read_theirs(tmp_path), bundle)


THEIRS = {
    "tied": ({"qkv_bias": False}, {}, {}),
    "untied, with a bridge": (
        {"hidden_size": 36, "hidden_act": "gelu_new", "image_size": [48, 16]},
        {"tie_word_embeddings": False, "n_inner": 21, "layer_norm_epsilon": 0.1},
        {},
    ),
    "DeiT": ({"patch_size": 8, "layer_norm_eps": 0.1}, {"n_head": 3}, {"kind": "deit"}),
}
POSITIONS, CLASS = "encoder.embeddings.position_embeddings", "encoder.embeddings.cls_token"
DISTILLATION = "encoder.embeddings.distillation_token"


@pytest.mark.parametrize("case", THEIRS)
def test_weights_come_back_as_they_were(vision_encoder_decoder, tmp_path, case):
    """All but the pooler, and how the first tokens are split in token and position."""
    encoder, decoder, rest = THEIRS[case]
    vision_encoder_decoder(tmp_path / "theirs", encoder, decoder, **rest)
    write_encoder_decoder(read_encoder_decoder(tmp_path / "theirs"), tmp_path / "ours")
    before, after = (
        load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "ours")
    )
    assert before.keys() == after.keys()
    tokens = [name for name in (CLASS, DISTILLATION) if name in before]
    for i, name in enumerate(tokens):
        for state in (before, after):
            state[name] = state[name] + state[POSITIONS][:, i : i + 1]
    for state in (before, after):
        state[POSITIONS] = state[POSITIONS][:, len(tokens) :]
    for name, value in before.items():
        assert torch.equal(value, after[name]) or "pooler" in name, name


@pytest.mark.parametrize("inverse", [False, True])
def test_scaled_attention_comes_back_in_the_queries(vision_encoder_decoder, tmp_path, inverse):
    scaling = {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": inverse}
    theirs = vision_encoder_decoder(tmp_path / "theirs", decoder=scaling)
    bundle = read_encoder_decoder(tmp_path / "theirs")
    write_encoder_decoder(bundle, tmp_path / "ours")
    assert_same_logits(theirs, bundle)
    assert_same_logits(read_theirs(tmp_path / "ours"), bundle)


def test_their_libraries_caption_with_what_we_wrote(tokenizer, tmp_path):
    """Picture, processor, model, generate, tokenizer: all from the folder, nothing told."""
    bundle = replace(
        build(tokenizer, text={"tie_embeddings": False}),
        max_length=11,
        decoding={"beams": 4, "length_penalty": 0.5, "min_length": 3, "no_repeat_ngram": 2},
    )
    write_encoder_decoder(bundle, tmp_path)
    picture = torch.randint(256, (3, 50, 41), dtype=torch.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    ours = bundle.preprocessing.transform()(picture)[None]
    torch.testing.assert_close(pixels, ours, atol=1e-5, rtol=0)
    theirs = read_theirs(tmp_path)
    ids = theirs.generate(pixels)[0]
    assert ids[0] == tokenizer.begin_id
    assert len(ids) <= 12
    settings = theirs.generation_config
    assert (settings.num_beams, settings.min_length, settings.no_repeat_ngram_size) == (4, 4, 2)
    names = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (names.pad_token_id, names.bos_token_id, names.eos_token_id) == tokenizer.special
    assert names.decode(ids, skip_special_tokens=True).strip() == tokenizer.decode(ids.tolist())
    for text in TEXTS[:2]:
        assert names.encode(text, add_special_tokens=False) == tokenizer.encode(text)


def test_captions_are_the_same_there(tokenizer, tmp_path):
    bundle = replace(build(tokenizer), max_length=9, decoding={"beams": 4})
    write_encoder_decoder(bundle, tmp_path)
    images, _ = some_input(bundle)
    limits = Limits(tokenizer.begin_id, tokenizer.end_id, 9)
    with torch.no_grad():
        ours = BeamSearch(beams=4)(bundle.model, bundle.model.encode(images), limits)
    theirs = read_theirs(tmp_path).generate(images)[:, 1:]
    for one, other in zip(ours.tokens[:, 0].tolist(), theirs.tolist(), strict=True):
        assert tokenizer.until_end(one) == tokenizer.until_end(other)


DECODING = [
    {},
    {"beams": 3, "returned": 2, "early_stopping": True, "length_penalty": -1.0},
    {"min_length": 4, "repetition_penalty": 1.25, "no_repeat_ngram": 3},
    {"sample": True, "top_k": 7, "temperature": 0.5, "top_p": 0.9, "min_p": 0.1},
    {"sample": True, "top_k": None, "samples": 3, "returned": 3},
]


@pytest.mark.parametrize("decoding", DECODING)
def test_the_choice_of_decoding_comes_back(tokenizer, tmp_path, decoding):
    bundle = replace(build(tokenizer), max_length=13, decoding=decoding)
    write_encoder_decoder(bundle, tmp_path)
    read = read_encoder_decoder(tmp_path)
    assert (read.max_length, read.decoding) == (13, decoding)
    read_theirs(tmp_path).generation_config.validate(strict=True)


PREPROCESSINGS = [
    preprocessing(),
    Preprocessing((32, 32), None, None, "bilinear", (0.5,) * 3, (0.5,) * 3),
    Preprocessing((32, 32), (49, 40), (32, 32), "bilinear", (0.0,) * 3, (1.0,) * 3, "down"),
    Preprocessing((32, 32), 41, (32, 32), "nearest-exact", (0.5,) * 3, (0.1, 2.0, 3.0), "down"),
    Preprocessing((32, 32), None, (32, 32), "bilinear", (0.5,) * 3, (0.5,) * 3, "down"),
]


@pytest.mark.parametrize("values", PREPROCESSINGS)
def test_preprocessing_is_the_same_there_and_when_read_again(tokenizer, tmp_path, values):
    write_encoder_decoder(replace(build(tokenizer), preprocessing=values), tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    read = read_encoder_decoder(tmp_path).preprocessing
    for size in ((32, 32), *([] if values.resize is values.crop is None else [(55, 78)])):
        picture = torch.randint(256, (3, *size), dtype=torch.uint8)
        expected = values.transform()(picture)
        torch.testing.assert_close(read.transform()(picture), expected, atol=1e-5, rtol=0)
        pixels = processor(picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_a_crop_that_rounds_to_even_may_lie_one_pixel_beside(tokenizer, tmp_path):
    values = replace(PREPROCESSINGS[2], resize=35, crop_rounding="even")
    write_encoder_decoder(replace(build(tokenizer), preprocessing=values), tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    picture = torch.randint(256, (3, 35, 35), dtype=torch.uint8)
    pixels = processor(picture, return_tensors="pt")["pixel_values"][0] * 255
    assert torch.equal(pixels.round(), picture[:, 1:33, 1:33])
    ours = values.transform()(picture) * 255
    assert torch.equal(ours.round(), picture[:, 2:34, 2:34])  # 1.5 is 2


REFUSED = {
    "a convolutional stem": (
        {"patches": ConvStem([8, 8], [2, 2], 24)},
        r"vision\.patches: other than one linear map",
    ),
    "a network for each patch": (
        {"patches": LinearPatches(8, 24, hidden=9)},
        r"vision\.patches: other than one linear map",
    ),
    "grey images": ({"patches": LinearPatches(8, 24, channels=1)}, r"patches\.channels=1"),
    "no class token": ({"vision": {"class_token": False}}, "are 0 prefix tokens; ViT has 1, DeiT"),
    "registers": ({"vision": {"registers": 4}}, "are 5 prefix tokens; ViT has 1, DeiT 2"),
    "rotary positions": (
        {"vision": {"position": "rotary"}, "text": {"position": "rotary"}, "widths": (32, 32, 32)},
        r"vision\.position='rotary'; text\.position='rotary'",
    ),
    "a pooler": ({"vision": {"pooler": AttentionPooler(5, 24, 4, 24)}}, r"vision\.pooler"),
    "a first normalisation": (
        {"vision": {"embed_norm": "layer"}, "text": {"embed_norm": "layer"}},
        r"vision\.embed_norm; text\.embed_norm",
    ),
    "RMS norm": (
        {"vision_block": {"norm": "rms"}, "text_block": {"norm": "rms"}},
        r"vision\.block\.norm='rms'; text\.block\.norm='rms'",
    ),
    "norm behind": ({"text_block": {"pre_norm": False}}, r"text\.block\.pre_norm=False"),
    "normalised queries": ({"vision_block": {"qk_norm": "layer"}}, r"vision\.block\.qk_norm='lay"),
    "normalised context": ({"text_block": {"context_norm": True}}, r"text\.block\.context_norm=Tr"),
    "gates": ({"text_block": {"activation": "swiglu"}}, r"text\.block\.activation='swiglu'"),
    "BERT's head": (
        {"text": {"head_transform": True, "head_bias": True}},
        r"text\.head_transform; text\.head_bias",
    ),
    "blocks without a context": ({"text": {"layout": ["self", "both"]}}, r"text\.layout"),
    "a wide context of a wide encoder": (
        {"widths": (40, 32, 24)},
        "a context of width 32 from an encoder of width 40, both above the decoder's 24",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_they_cannot_express_is_refused_by_name(tokenizer, tmp_path, case):
    settings, message = REFUSED[case]
    bundle = build(tokenizer, **settings)
    refuse(bundle, tmp_path / "model", f"cannot express .*{message}")
    assert not (tmp_path / "model").exists()


def refuse(bundle, folder, message):
    with pytest.raises(ConfigError, match=message) as caught:
        write_encoder_decoder(bundle, folder)
    assert "\n" not in str(caught.value)


def test_another_size_than_a_whole_number_of_patches_is_refused(tokenizer, tmp_path):
    bundle = replace(build(tokenizer), preprocessing=preprocessing(32, 36))
    refuse(
        bundle, tmp_path, r"preprocessing\.size=\(32, 36\): it does not divide into patches of 8"
    )


def test_a_model_of_somebody_elses_parts_is_refused(tokenizer, tmp_path):
    class Own(VisionTransformer):
        pass

    bundle = build(tokenizer)
    bundle.model.vision.__class__ = Own
    refuse(bundle, tmp_path, "the vision is a .*Own: only VisionTransformer itself")


FOREIGN = [
    {"groups": 2, "beams": 4},
    {"diversity": 0.5},
    {"prefix": "a"},
    {"forbidden": ["dog"]},
    {"bad_endings": ("a",)},
    {"required": ("dog",), "beams": 4},
    {"sample": True, "samples": 4},
    {"seed": 3},
]


@pytest.mark.parametrize("decoding", FOREIGN)
def test_decoding_that_they_do_not_have_is_refused(tokenizer, tmp_path, decoding):
    name = next(name for name in decoding if name not in ("beams", "sample"))
    refuse(replace(build(tokenizer), decoding=decoding), tmp_path, f"decoding option '{name}'")
    assert not list(tmp_path.iterdir())


def test_options_at_their_defaults_are_no_choice(tokenizer, tmp_path):
    plain = {"groups": 1, "forbidden": [], "prefix": "", "samples": 1, "seed": 0, "max_length": 7}
    write_encoder_decoder(replace(build(tokenizer), decoding=plain), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["max_length"] == 8


def test_files_of_another_model_are_left_alone(tokenizer, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"another's")
    refuse(
        build(tokenizer), tmp_path, r"holds other files \('pytorch_model\.bin'\), which would be"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_model.bin"]
    refuse(
        build(tokenizer), tmp_path / "pytorch_model.bin", "is a file: give an empty or a new fol"
    )


def test_an_export_is_replaced_by_a_newer_one(tokenizer, tmp_path):
    write_encoder_decoder(build(tokenizer), tmp_path)
    newer = build(tokenizer, **OURS["untied"])
    write_encoder_decoder(newer, tmp_path)
    assert_same_logits(read_theirs(tmp_path), newer)


@pytest.mark.parametrize("older", [False, True])
def test_an_export_that_broke_off_leaves_what_was_there(tokenizer, tmp_path, monkeypatch, older):
    bundle = build(tokenizer)
    if older:
        write_encoder_decoder(bundle, tmp_path / "model")
    whole = encoder_decoder_export.write_whole

    def full_disk(path, data):
        if path.name == "generation_config.json":
            raise OSError("no space left")
        whole(path, data)

    monkeypatch.setattr(encoder_decoder_export, "write_whole", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_encoder_decoder(build(tokenizer, **OURS["untied"]), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if older else [])
    if older:
        assert_same_logits(read_theirs(tmp_path / "model"), bundle)
