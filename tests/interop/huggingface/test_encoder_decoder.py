"""Hugging Face's ViT + GPT-2 captioners in our blocks: logits, captions and maps are the same."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmattn import Recorder
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import MinLength, NoRepeatNgram, RepetitionPenalty
from mmattn.errors import CheckpointError
from mmattn.interop.foreign_captioner import read_captioner
from mmattn.interop.huggingface.encoder_decoder import read_encoder_decoder
from mmattn.interop.huggingface.gpt2 import gpt2_architecture, query_scale
from mmattn.interop.huggingface.vit import vit_architecture
from mmattn.interop.json_settings import Settings

# name -> (encoder's settings, decoder's, the rest)
CONFIGS = {
    "equal widths, tied": ({}, {}, {}),
    "wide encoder, untied": (
        {"hidden_size": 40, "num_attention_heads": 4, "qkv_bias": False, "hidden_act": "relu"},
        {"n_embd": 16, "n_head": 4, "n_layer": 3, "tie_word_embeddings": False},
        {},
    ),
    "narrow encoder, other activations": (
        {"hidden_size": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 0.1},
        {"activation_function": "silu", "n_inner": 21, "layer_norm_epsilon": 0.2},
        {},
    ),
    "DeiT, pictures and patches of other sizes": (
        {"image_size": [24, 40], "patch_size": 8, "hidden_act": "gelu_new"},
        {"activation_function": "gelu", "n_head": 3},
        {"kind": "deit"},
    ),
    "DeiT without biases": ({"qkv_bias": False, "image_size": [48, 16]}, {}, {"kind": "deit"}),
    "unscaled attention": ({"image_size": (16, 48)}, {"scale_attn_weights": False}, {}),
    "attention scaled by layer": (
        {"patch_size": [16, 16]},
        {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3, "activation_function": "relu"},
        {},
    ),
    "unscaled attention scaled by layer": (
        {},
        {
            "scale_attn_by_inverse_layer_idx": True,
            "scale_attn_weights": False,
            "reorder_and_upcast_attn": True,
            "activation_function": "gelu_fast",
        },
        {},
    ),
    "a width of the context that is the encoder's": (
        {},
        {"cross_attention_hidden_size": 24, "activation_function": "quick_gelu"},
        {},
    ),
    "tied as a whole, not the decoder": (
        {"hidden_act": "gelu_pytorch_tanh"},
        {"tie_word_embeddings": False, "activation_function": "swish"},
        {"top": {"tie_word_embeddings": True}},
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request, vision_encoder_decoder, tmp_path_factory):
    """Hugging Face's model, what we read of its folder, and pictures."""
    encoder, decoder, rest = CONFIGS[request.param]
    folder = tmp_path_factory.mktemp("pair")
    reference = vision_encoder_decoder(folder, encoder, decoder, **rest)
    return reference, read_encoder_decoder(folder), pictures_for(reference)


@pytest.fixture(scope="module")
def saved(vision_encoder_decoder, tmp_path_factory):
    """The folder of a plain model; not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    vision_encoder_decoder(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(saved, tmp_path / "model")


def pictures_for(reference, count=6):
    size = reference.config.encoder.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def some_tokens(bundle, rows, length=9):
    generator = torch.Generator().manual_seed(2)
    return torch.randint(bundle.model.text.vocab_size, (rows, length), generator=generator)


def limits(bundle, max_length):
    return Limits(bundle.tokenizer.begin_id, bundle.tokenizer.end_id, max_length)


def until_end(rows, end_id):
    """Lists of tokens up to the end token, without what pads them."""
    rows = [list(row) for row in rows.tolist()]
    return [row[: row.index(end_id)] if end_id in row else row for row in rows]


def theirs(reference, images, max_length, **options):
    """Captions by `generate`, without the begin token."""
    options = {"do_sample": False, "max_new_tokens": max_length, **options}
    return until_end(reference.generate(images, **options)[:, 1:], 2)


@torch.no_grad()
def assert_same(reference, bundle, images):
    """Logits and the maps of every cross-attention are those of the reference, run eagerly."""
    tokens = some_tokens(bundle, len(images))
    expected = reference(pixel_values=images, decoder_input_ids=tokens, output_attentions=True)
    recorder = Recorder(["text.*.cross"])
    logits = bundle.model(images, tokens[:, None], recorder)
    assert expected.logits.std() > 0.5
    torch.testing.assert_close(logits[:, 0], expected.logits, atol=1e-4, rtol=0)
    maps = recorder.stack("text.*.cross")
    expected_maps = torch.stack(expected.cross_attentions)
    assert expected_maps.std(-1).mean() > 0.01
    torch.testing.assert_close(maps, expected_maps, atol=1e-5, rtol=0)


def test_logits_and_maps_are_theirs(pair):
    assert_same(*pair)


def test_greedy_captions_are_theirs(pair):
    reference, bundle, images = pair
    decoded = Greedy()(bundle.model, bundle.model.encode(images), limits(bundle, 14))
    assert until_end(decoded.tokens[:, 0], 2) == theirs(reference, images, 14)


def test_captions_of_four_beams_are_theirs(pair):
    reference, bundle, images = pair
    search = BeamSearch(beams=4, returned=2)
    decoded = search(bundle.model, bundle.model.encode(images), limits(bundle, 14))
    expected = theirs(reference, images, 14, num_beams=4, num_return_sequences=2)
    assert until_end(decoded.tokens.flatten(0, 1), 2) == expected


@pytest.mark.parametrize("early_stopping", [False, True])
def test_captions_of_any_length_penalty_are_theirs(
    vision_encoder_decoder, tmp_path, early_stopping
):
    reference = vision_encoder_decoder(tmp_path, seed=3)
    bundle = read_encoder_decoder(tmp_path)
    images = pictures_for(reference, 8)
    image, lengths = bundle.model.encode(images), set()
    for penalty in (-2.0, 0.0, 0.7, 1.0, 3.0):
        search = BeamSearch(beams=4, length_penalty=penalty, early_stopping=early_stopping)
        captions = until_end(search(bundle.model, image, limits(bundle, 16)).tokens[:, 0], 2)
        options = {"length_penalty": penalty, "early_stopping": early_stopping, "num_beams": 4}
        assert captions == theirs(reference, images, 16, **options), penalty
        lengths.add(tuple(map(len, captions)))
    assert len(lengths) > 1, "the penalties made no difference"
    assert len(set().union(*lengths)) > 3, "all captions are of the same length"


RULES = [
    ({"min_new_tokens": 4}, MinLength(4, 2)),
    ({"min_length": 5}, MinLength(4, 2)),  # theirs counts the begin token
    ({"repetition_penalty": 1.3}, RepetitionPenalty(1.3)),
    ({"no_repeat_ngram_size": 2}, NoRepeatNgram(2)),
]


@pytest.mark.parametrize("begin", [1, 2], ids=["begin", "the end token is also the begin token"])
@pytest.mark.parametrize(("options", "rule"), RULES)
def test_captions_by_their_rules_are_theirs(vision_encoder_decoder, tmp_path, options, rule, begin):
    """To theirs the begin token is a token that was written, also where it is the end token."""
    reference = vision_encoder_decoder(tmp_path, seed=1)
    reference.generation_config.decoder_start_token_id = begin
    reference.generation_config.save_pretrained(tmp_path)
    bundle = read_encoder_decoder(tmp_path)
    assert bundle.tokenizer.begin_id == begin

    def counting_begin(scores, written):
        first = written.new_full((*written.shape[:-1], 1), begin)
        return rule(scores, torch.cat([first, written], -1))

    rules = [rule if isinstance(rule, MinLength) else counting_begin]
    images = pictures_for(reference, 8)
    for beams, method in ((1, Greedy()), (4, BeamSearch(beams=4))):
        image = bundle.model.encode(images)
        decoded = method(bundle.model, image, limits(bundle, 12), rules=rules)
        expected = theirs(reference, images, 12, num_beams=beams, **options)
        assert until_end(decoded.tokens[:, 0], 2) == expected


def test_a_bundle_says_all_that_captioning_needs(vision_encoder_decoder, tmp_path):
    vision_encoder_decoder(tmp_path / "model", {"image_size": [32, 48]})
    bundle = read_captioner(tmp_path / "model")
    assert not bundle.model.training
    assert bundle.tokenizer.special == (0, 1, 2)
    assert bundle.tokenizer.decode([1, 3, 4, 7, 2]) == "a dog runs"
    assert (bundle.max_length, bundle.decoding) == (20, {})
    assert bundle.source == "Hugging Face vit + gpt2, model"
    picture = torch.randint(256, (3, 50, 61), dtype=torch.uint8)
    assert bundle.preprocessing.transform()(picture).shape == (3, 32, 48)


def edit(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_decoding_is_carried_over(folder):
    edit(
        folder / "generation_config.json",
        lambda values: values.update(
            {
                "num_beams": 4,
                "max_length": 16,
                "min_length": 5,
                "length_penalty": 2.0,
                "early_stopping": True,
                "no_repeat_ngram_size": 3,
                "repetition_penalty": 1.5,
                "temperature": 0.5,  # without effect where nothing is drawn
            }
        ),
    )
    bundle = read_encoder_decoder(folder)
    assert bundle.max_length == 15  # their lengths count the begin token
    assert bundle.decoding == {
        "beams": 4,
        "min_length": 4,
        "length_penalty": 2.0,
        "early_stopping": True,
        "no_repeat_ngram": 3,
        "repetition_penalty": 1.5,
    }


def test_no_more_is_written_than_there_are_positions(vision_encoder_decoder, tmp_path):
    vision_encoder_decoder(tmp_path, decoder={"n_positions": 10})
    assert read_encoder_decoder(tmp_path).max_length == 10


def test_an_older_folder_has_its_decoding_in_config_json(folder):
    import transformers

    (folder / "generation_config.json").unlink()

    def older(values):
        values |= {"max_length": 12, "eos_token_id": 2, "pad_token_id": 2}
        values["decoder"] |= {"max_length": 9, "num_beams": 3, "bos_token_id": 1, "top_k": 50}
        values["decoder"] |= {"no_repeat_ngram_size": 2, "eos_token_id": 7}

    edit(folder / "config.json", older)
    bundle = read_encoder_decoder(folder)
    assert (bundle.max_length, bundle.tokenizer.special) == (11, (2, 1, 2))
    assert bundle.decoding == {"beams": 3, "no_repeat_ngram": 2}
    theirs = transformers.VisionEncoderDecoderModel.from_pretrained(folder).generation_config
    assert (theirs.max_length, theirs.num_beams, theirs.no_repeat_ngram_size) == (12, 3, 2)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (1, 2, 2)


def test_weights_of_half_precision_are_computed_in_full(vision_encoder_decoder, tmp_path):
    import transformers

    reference = vision_encoder_decoder(tmp_path, decoder={"scale_attn_weights": False})
    reference.half().save_pretrained(tmp_path)
    reference = transformers.VisionEncoderDecoderModel.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    assert_same(reference, read_encoder_decoder(tmp_path), pictures_for(reference))


def test_version_5s_own_names_are_read(vision_encoder_decoder, tmp_path):
    reference = vision_encoder_decoder(tmp_path)
    reference.save_pretrained(tmp_path, save_original_format=False)
    assert "encoder.layers.0.mlp.fc1.weight" in load_file(tmp_path / "model.safetensors")
    assert_same(reference, read_encoder_decoder(tmp_path), pictures_for(reference))


def test_a_pickle_of_an_older_version_is_read(vision_encoder_decoder, tmp_path):
    """It holds the tied output layer a second time, and masks that are no weights."""
    reference = vision_encoder_decoder(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["decoder.lm_head.weight"] = state["decoder.transformer.wte.weight"]
    for i in range(2):
        for name in ("attn", "crossattention"):
            mask = torch.ones(1, 1, 24, 24, dtype=torch.uint8).tril()
            state[f"decoder.transformer.h.{i}.{name}.bias"] = mask
            state[f"decoder.transformer.h.{i}.{name}.masked_bias"] = torch.tensor(-1e4)
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_same(reference, read_encoder_decoder(tmp_path), pictures_for(reference))


def test_a_tied_layer_may_be_stored_under_either_name(vision_encoder_decoder, tmp_path):
    reference = vision_encoder_decoder(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state["decoder.lm_head.weight"] = state.pop("decoder.transformer.wte.weight")
    save_file(state, path)
    assert_same(reference, read_encoder_decoder(tmp_path), pictures_for(reference))


@pytest.mark.parametrize("kind", ["vit", "deit"])
def test_what_an_encoders_configuration_leaves_out_is_its_default(kind):
    import transformers

    full = transformers.AutoConfig.for_model(kind).to_dict()
    assert vit_architecture(Settings({"model_type": kind}, "a")) == vit_architecture(
        Settings(full, "b")
    )


def test_what_a_decoders_configuration_leaves_out_is_its_default():
    import transformers

    short = {"model_type": "gpt2", "add_cross_attention": True}
    full = transformers.GPT2Config(add_cross_attention=True).to_dict()
    assert gpt2_architecture(Settings(short, "a")) == gpt2_architecture(Settings(full, "b"))
    assert [query_scale(Settings(short, "a"), layer) for layer in range(2)] == [1, 1]


REFUSED = [
    (("model_type",), "encoder-decoder", "'model_type' is 'encoder-decoder'; it must be one of"),
    (("encoder",), None, "has no 'encoder'"),
    (("encoder",), [1], r"'encoder' is \[1\]; it must be an object"),
    (("encoder", "model_type"), "swin", "encoder: 'model_type' is 'swin'; .* one of vit, deit"),
    (("encoder", "hidden_act"), "gelu_10", "'hidden_act' is 'gelu_10'; it must be one of gelu, "),
    (("encoder", "num_channels"), 1, "'num_channels' is 1; it must be 3"),
    (("encoder", "patch_size"), [16, 8], "'patch_size' is .*; it must be one number"),
    (("encoder", "patch_size"), [16, 16, 16], "'patch_size' is .*; it must be a whole number, or"),
    (("encoder", "image_size"), 33, "33x33 does not divide into patches of 16x16"),
    (("encoder", "head_dim"), 16, "'head_dim' is 16; .* = 8"),
    (("encoder", "pruned_heads"), {"0": [1]}, "'pruned_heads' is"),
    (("encoder", "hidden_size"), "24", "'hidden_size' is '24'; it must be a whole number"),
    (("encoder", "hidden_size"), True, "'hidden_size' is True; it must be a whole number"),
    (("encoder", "hidden_size"), 0, "'hidden_size' is 0; it must be a whole number, 1 or more"),
    (("encoder", "num_attention_heads"), 5, "dim=24 does not divide by heads=5"),
    (("encoder", "layer_norm_eps"), float("nan"), "'layer_norm_eps' is nan; .* a finite number"),
    (("encoder", "qkv_bias"), 1, "'qkv_bias' is 1; it must be true or false"),
    (("encoder", "qkv_bias"), False, r"6 of the weights .*: encoder\.encoder\.layer\.0\."),
    (("encoder", "num_hidden_layers"), 1, r"16 of the weights .*: encoder\.encoder\.layer\.1\."),
    (("encoder", "num_hidden_layers"), 3, r"lack encoder\.encoder\.layer\.2\."),
    (("encoder", "intermediate_size"), 44, r"dense\.weight is \(40, 24\), .* it is \(44, 24\)"),
    (("encoder", "image_size"), 48, r"position_embeddings is \(1, 5, 24\), .* \(1, 10, 24\)"),
    (("encoder", "model_type"), "deit", r"position_embeddings is \(1, 5, 24\), .* \(1, 6, 24\)"),
    (("decoder", "model_type"), "bert", "decoder: 'model_type' is 'bert'; it must be one of gpt2"),
    (("decoder", "add_cross_attention"), False, "'add_cross_attention' is False"),
    (("decoder", "activation_function"), "mish", "'activation_function' is 'mish'"),
    (("decoder", "activation_function"), ["gelu"], "'activation_function' is .* it must be one of"),
    (("decoder", "pruned_heads"), {"0": [1]}, "'pruned_heads' is"),
    (("decoder", "vocab_size"), 10**12, r"wte\.weight is \(14, 24\), .* \(1000000000000, 24\)"),
    (("decoder", "n_embd"), 30, r"wte\.weight is \(14, 24\), .* \(14, 30\)"),
    (("decoder", "tie_word_embeddings"), False, r"lack decoder\.lm_head\.weight"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_our_blocks_do_not_express_is_refused_by_name(folder, key, value, message):
    def change(values):
        for name in key[:-1]:
            values = values[name]
        values[key[-1]] = value

    edit(folder / "config.json", change)
    refuse(folder, message)


def refuse(folder, message):
    """Reading gives one line that says this, and where."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read_encoder_decoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_context_of_another_width_than_gpt2s_is_refused(vision_encoder_decoder, tmp_path):
    vision_encoder_decoder(tmp_path, {"hidden_size": 12})
    edit(
        tmp_path / "config.json",
        lambda values: values["decoder"].update({"cross_attention_hidden_size": 12}),
    )
    refuse(tmp_path, "'cross_attention_hidden_size' leaves out .* 12 and 24")


def test_a_missing_or_superfluous_bridge_is_named(vision_encoder_decoder, folder, tmp_path):
    vision_encoder_decoder(tmp_path / "wide", {"hidden_size": 12})
    bridge = {"enc_to_dec_proj.weight", "enc_to_dec_proj.bias"}
    state = load_file(tmp_path / "wide" / "model.safetensors")
    without = {name: value for name, value in state.items() if name not in bridge}
    save_file(without, tmp_path / "wide" / "model.safetensors")
    refuse(tmp_path / "wide", r"the weights lack enc_to_dec_proj\.weight")
    state |= load_file(folder / "model.safetensors")
    save_file(state, folder / "model.safetensors")
    refuse(folder, r"2 of the weights have no counterpart here: enc_to_dec_proj\.bias, enc_to_dec")


def test_a_tied_layer_that_differs_is_refused(folder):
    state = load_file(folder / "model.safetensors")
    state["decoder.lm_head.weight"] = state["decoder.transformer.wte.weight"] + 1
    save_file(state, folder / "model.safetensors")
    refuse(folder, r"lm_head\.weight is tied to .*wte\.weight, but they differ")


def test_quantised_weights_are_refused(folder):
    state = load_file(folder / "model.safetensors")
    state["encoder.layernorm.weight"] = state["encoder.layernorm.weight"].to(torch.int8)
    save_file(state, folder / "model.safetensors")
    refuse(folder, r"encoder\.layernorm\.weight is torch\.int8")


GENERATION = [
    ({"eos_token_id": None}, "has no 'eos_token_id'"),
    ({"eos_token_id": [2, 3]}, r"'eos_token_id' is \[2, 3\]; it must be one token"),
    ({"eos_token_id": 14}, "'eos_token_id' is 14; it must be one token of the 14"),
    ({"decoder_start_token_id": None, "bos_token_id": None}, "has no 'bos_token_id'"),
    ({"pad_token_id": -1}, "'pad_token_id' is -1; it must be one token"),
    ({"max_length": "16"}, "'max_length' is '16'; it must be a whole number"),
    ({"early_stopping": "never", "num_beams": 2}, "'early_stopping' is 'never'"),
    ({"num_return_sequences": 3, "num_beams": 2}, "returned=3 with beams=2"),
    ({"min_length": 30}, "min_length=29 with max_length=20"),
    ({"suppress_tokens": [3]}, r"'suppress_tokens' is \[3\]"),
]


@pytest.mark.parametrize(("values", "message"), GENERATION)
def test_another_way_of_decoding_is_refused(folder, values, message):
    edit(folder / "generation_config.json", lambda old: old.update(values))
    refuse(folder, f"generation_config.json: .*{message}")


def test_special_tokens_have_the_substitutes_that_generate_takes(folder):
    values = {"decoder_start_token_id": None, "pad_token_id": None, "eos_token_id": [2]}
    edit(folder / "generation_config.json", lambda old: old.update(values))
    assert read_encoder_decoder(folder).tokenizer.special == (2, 1, 2)


def test_a_tokenizer_of_another_model_is_refused(folder):
    edit(
        folder / "tokenizer.json",
        lambda values: values["model"]["vocab"].update({"zebra": 14, "tree": 15}),
    )
    refuse(folder, "the tokenizer has 16 tokens, but the model 14")


def test_preprocessing_for_another_model_is_refused(folder):
    size = {"size": {"height": 64, "width": 32}}
    edit(folder / "preprocessor_config.json", lambda values: values.update(size))
    refuse(folder, "makes pictures of 64 x 32, but the model's are 32 x 32")
