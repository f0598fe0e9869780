"""BLIP folders that Hugging Face's library writes give that library's own outputs here."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)
from transformers.utils import logging

from mmattn.architecture import construct, describe
from mmattn.bundle import Bundle
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import MinLength
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.blip import read_blip
from mmattn.maps.words import group_words
from mmattn.recorder import Recorder

logging.disable_progress_bar()

PIECES = "a the two dog cat ball man run sit play on in with and red s t i m don not"
PIECES += " ##s ##ning ##ting ##ing . , ! ? ' - ( ) été"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES.split()]
END, BEGIN = VOCABULARY.index("[SEP]"), len(VOCABULARY)  # [DEC] comes last
WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
HEAD = "text_decoder.cls.predictions"

# name -> vision_config, text_config, config, seed of the weights
CONFIGS: dict[str, tuple[dict, dict, dict, int]] = {
    "wider image": (
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"intermediate_size": 48, "image_size": 32, "patch_size": 8},
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
        | {"intermediate_size": 40, "max_position_embeddings": 24},
        {},
        37,
    ),
    "wider text, other activations": (
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
        | {"intermediate_size": 96, "image_size": 42, "patch_size": 14}
        | {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-3},
        {"hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5}
        | {"intermediate_size": 64, "max_position_embeddings": 16}
        | {"hidden_act": "relu", "layer_norm_eps": 1e-2},
        {},
        12,
    ),
    "untied": (
        {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}
        | {"intermediate_size": 31, "image_size": 20, "patch_size": 4, "hidden_act": "silu"},
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"intermediate_size": 37, "hidden_act": "gelu_new", "tie_word_embeddings": False},
        {"tie_word_embeddings": False},
        4,
    ),
    "one patch": (
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
        | {"intermediate_size": 16, "image_size": 16, "patch_size": 16}
        | {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 0.1},
        {"hidden_size": 36, "num_hidden_layers": 1, "num_attention_heads": 3}
        | {"intermediate_size": 20, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
        | {"tie_word_embeddings": False},
        {},  # ties, whatever text_config says
        0,
    ),
}


@dataclass
class Case:
    """A folder, and the model that Hugging Face's library reads from it."""

    folder: Path
    reference: BlipForConditionalGeneration
    images: Tensor  # [6, 3, height, width]


def make_tokenizer(**options) -> BertTokenizer:
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = BertTokenizer(vocab=vocabulary, **options)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    assert tokenizer.convert_tokens_to_ids("[DEC]") == BEGIN
    return tokenizer


def make_model(name: str) -> BlipForConditionalGeneration:
    """Return a random model of which every parameter matters.

    By its seed some captions end and others do not; by its positions it does not repeat one word.
    """
    vision, text, both, seed = CONFIGS[name]
    ids = {"bos_token_id": BEGIN, "sep_token_id": END, "pad_token_id": 0}
    text = {**text, **ids, "vocab_size": BEGIN + 3}
    config = BlipConfig(vision_config=vision, text_config=text, **both)
    model, generator = BlipForConditionalGeneration(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_scale = re.search(r"norm\d?\.weight$", key.lower())
            parameter.copy_(noise * (1.0 if "position" in key else 0.3) + bool(is_scale))
        model.text_decoder.get_output_embeddings().bias[END] += 2.5
    return model.eval()


def save(folder: Path, model: BlipForConditionalGeneration, **tokenizer) -> Path:
    model.save_pretrained(folder)
    side = model.config.vision_config.image_size
    BlipImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    make_tokenizer(**tokenizer).save_pretrained(folder)
    return folder


def load(folder: Path) -> BlipForConditionalGeneration:
    return BlipForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, Case]:
    made, generator = {}, torch.Generator()
    for name in CONFIGS:
        folder = save(tmp_path_factory.mktemp("blip"), make_model(name))
        side = CONFIGS[name][0]["image_size"]
        images = torch.randn(6, 3, side, side, generator=generator.manual_seed(0))
        made[name] = Case(folder, load(folder), images)
    return made


@pytest.fixture(scope="module")
def bundles(cases) -> dict[str, Bundle]:
    return {name: read_blip(case.folder) for name, case in cases.items()}


@pytest.fixture
def folder(cases, tmp_path) -> Path:
    """A copy of the first folder, to be changed."""
    return Path(shutil.copytree(cases["wider image"].folder, tmp_path / "copy"))


def edit(path: Path, *keys: str, **values) -> None:
    """Change values of a JSON file, inside the objects that `keys` name; None deletes."""
    content = json.loads(path.read_text("utf-8"))
    place = content
    for key in keys:
        place = place[key]
    place.update(values)
    for key in [key for key, value in values.items() if value is None]:
        del place[key]
    path.write_text(json.dumps(content), "utf-8")


def rewrite(folder: Path, change) -> None:
    """Change the state dict of a folder."""
    path = folder / "model.safetensors"
    state = {name: value.clone().contiguous() for name, value in change(load_file(path)).items()}
    save_file(state, path, metadata={"format": "pt"})


def random_tokens(rows: int, length: int) -> Tensor:
    """Return texts [rows, 1 + length] that begin as every text does."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(len(VOCABULARY), (rows, length), generator=generator)
    return torch.cat([torch.full((rows, 1), BEGIN), tokens], 1)


def limits(bundle: Bundle, max_length: int = 12) -> Limits:
    return Limits(bundle.tokenizer.begin_id, bundle.tokenizer.end_id, max_length)


def until_end(rows: Tensor) -> list[list[int]]:
    """Return captions without what follows their end token."""
    return [row[: row.index(END) + 1] if END in row else row for row in rows.tolist()]


def generated(case: Case, **options) -> list[list[int]]:
    """Return what Hugging Face's `generate` writes behind the begin token."""
    rows = case.reference.generate(case.images, **{"max_new_tokens": 12, **options})
    assert rows[:, 0].eq(BEGIN).all()
    return until_end(rows[:, 1:])


@torch.no_grad()
def attentions(case: Case, tokens: Tensor) -> dict[str, Tensor]:
    """Return the maps [rows, heads, queries, keys] of Hugging Face's own modules, by our sites."""
    image = case.reference.vision_model(case.images, output_attentions=True)
    text = case.reference.text_decoder(
        tokens, encoder_hidden_states=image.last_hidden_state, output_attentions=True
    )
    maps = {"vision.{}.self": image, "text.{}.self": text}
    maps = {site: outputs.attentions for site, outputs in maps.items()}
    maps["text.{}.cross"] = text.cross_attentions
    return {site.format(i): one for site, all_ in maps.items() for i, one in enumerate(all_)}


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal(cases, bundles, name):
    case, model, tokens = cases[name], bundles[name].model, random_tokens(6, 11)
    with torch.no_grad():
        expected = case.reference(case.images, tokens).logits
        logits = model(case.images, tokens[:, None])[:, 0]
    assert expected.std() > 1
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_maps_of_every_attention_equal(cases, bundles, name):
    case, model, tokens = cases[name], bundles[name].model, random_tokens(6, 11)
    recorder = Recorder(["vision.*.self", "text.*.self", "text.*.cross"])
    with torch.no_grad():
        model(case.images, tokens[:, None], recorder)
    expected = attentions(case, tokens)
    assert recorder.maps.keys() == expected.keys()
    for site, maps in recorder.maps.items():
        torch.testing.assert_close(maps, expected[site], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_captions_equal_token_for_token(cases, bundles, name):
    case, bundle = cases[name], bundles[name]
    image = bundle.model.encode(case.images)
    for beams, method in ((1, Greedy()), (4, BeamSearch(4))):
        captions = until_end(method(bundle.model, image, limits(bundle)).tokens[:, 0])
        assert captions == generated(case, num_beams=beams)
        assert len({tuple(caption) for caption in captions}) > 1
    assert len({len(caption) for caption in captions}) > 1, "some end and others do not"


@pytest.mark.parametrize("name", CONFIGS)
def test_maps_of_captions_found_by_beams_are_those_of_a_pass_over_them(cases, bundles, name):
    case, bundle = cases[name], bundles[name]
    recorder = Recorder(["text.*.cross"])
    decoded = BeamSearch(4)(
        bundle.model, bundle.model.encode(case.images), limits(bundle), listener=recorder
    )
    tokens = decoded.tokens[:, 0]
    expected = attentions(case, torch.cat([torch.full((6, 1), BEGIN), tokens[:, :-1]], 1))
    for site, maps in recorder.maps.items():
        for row, caption in enumerate(until_end(tokens)):
            written = slice(len(caption))
            torch.testing.assert_close(
                maps[row, :, written], expected[site][row, :, written], atol=1e-5, rtol=0
            )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_folder_can_hold_it(cases, bundles, name):
    case, model = cases[name], bundles[name].model
    again = construct(json.loads(json.dumps(describe(model)))).eval()
    again.load_state_dict(model.state_dict())
    tokens = random_tokens(6, 4)[:, None]
    with torch.no_grad():
        assert torch.equal(again(case.images, tokens), model(case.images, tokens))


def test_what_the_captions_depend_on_is_read(bundles):
    wider, text, untied, one_patch = (bundles[name].model for name in CONFIGS)
    assert [m.text.head is None for m in (wider, text, untied, one_patch)] == [1, 1, 0, 1]
    assert wider.vision.prefix == 1
    assert wider.vision.grid == (4, 4)
    assert one_patch.vision.grid == (1, 1)
    assert not any(m.training for m in (wider, text, untied, one_patch))


def logits_of(model, images: Tensor) -> Tensor:
    """Return the logits of our model or of Hugging Face's for the same texts."""
    tokens = random_tokens(6, 9)
    with torch.no_grad():
        if isinstance(model, BlipForConditionalGeneration):
            return model(images, tokens).logits
        return model(images, tokens[:, None])[:, 0]


def renamed(old: str, new: str) -> Callable[[dict], dict]:
    return lambda state: {re.sub(old, new, name): value for name, value in state.items()}


def added(name: str, make: Callable[[dict], Tensor]) -> Callable[[dict], dict]:
    return lambda state: {**state, name: make(state)}


def other_words(state: dict) -> Tensor:
    return state[WORDS].flip(0)


OLDER = {
    "names of normalisations": lambda state: renamed(r"(LayerNorm)\.bias$", r"\1.beta")(
        renamed(r"(LayerNorm)\.weight$", r"\1.gamma")(state)
    ),
    "a prefix": renamed("^", "blip."),
    "numbers of positions": added(
        "text_decoder.bert.embeddings.position_ids", lambda state: torch.arange(24)[None]
    ),
    "shared weights under the output's names": lambda state: renamed(
        re.escape(WORDS), f"{HEAD}.decoder.weight"
    )(renamed(re.escape(f"{HEAD}.bias"), f"{HEAD}.decoder.bias")(state)),
    "shared weights under both names": added(f"{HEAD}.decoder.weight", lambda state: state[WORDS]),
    "two tables that a config says are one": added(f"{HEAD}.decoder.weight", other_words),
    "two biases that a config says are one": added(
        f"{HEAD}.decoder.bias", lambda state: state[f"{HEAD}.bias"].flip(0)
    ),
    "half precision": lambda state: {name: value.half() for name, value in state.items()},
}


@pytest.mark.parametrize("change", OLDER.values(), ids=OLDER)
def test_weights_that_the_library_reads_are_read_alike(cases, folder, change):
    rewrite(folder, change)
    images = cases["wider image"].images
    expected = logits_of(load(folder).float(), images)
    torch.testing.assert_close(
        logits_of(read_blip(folder).model, images), expected, atol=1e-4, rtol=0
    )


def test_a_bias_that_untied_weights_hold_under_its_older_name(cases, tmp_path):
    folder = Path(shutil.copytree(cases["untied"].folder, tmp_path / "copy"))
    model = read_blip(folder).model
    bias = model.text.head_bias.detach()
    rewrite(folder, lambda state: {n: v for n, v in state.items() if n != f"{HEAD}.decoder.bias"})
    rewrite(folder, added(f"{HEAD}.bias", lambda state: bias))
    images = cases["untied"].images
    assert torch.equal(logits_of(read_blip(folder).model, images), logits_of(model, images))


def test_weights_in_a_pickle_are_read(cases, folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    images, expected = cases["wider image"].images, cases["wider image"].reference
    torch.testing.assert_close(
        logits_of(read_blip(folder).model, images), logits_of(expected, images), atol=1e-4, rtol=0
    )


def test_what_config_json_leaves_out_is_the_librarys_default(cases, folder):
    for key in ("vision_config", "text_config"):
        edit(folder / "config.json", key, hidden_act=None, layer_norm_eps=None)
    edit(folder / "config.json", "text_config", is_decoder=None, tie_word_embeddings=None)
    edit(folder / "config.json", tie_word_embeddings=None, architectures=None)
    images = cases["wider image"].images
    torch.testing.assert_close(
        logits_of(read_blip(folder).model, images),
        logits_of(load(folder), images),
        atol=1e-4,
        rtol=0,
    )


def test_the_width_of_the_context_is_the_image_encoders_whatever_config_json_says(folder):
    edit(folder / "config.json", "text_config", encoder_hidden_size=7)
    assert read_blip(folder).model.text.context_dim == 32
    assert load(folder).config.text_config.encoder_hidden_size == 32


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
@pytest.mark.parametrize("name", CONFIGS)
def test_the_longest_caption_is_the_librarys(cases, bundles, name):
    written = cases[name].reference.generate(cases[name].images)
    assert bundles[name].max_length == written.shape[1] - 1
    assert bundles[name].decoding == {}


def test_the_folders_own_decoding(cases, tmp_path):
    case = cases["wider image"]
    model = make_model("wider image")
    model.generation_config.num_beams, model.generation_config.max_length = 3, 9
    model.generation_config.length_penalty = -1.0
    bundle = read_blip(save(tmp_path, model))
    assert bundle.decoding == {"beams": 3, "length_penalty": -1.0}
    search = BeamSearch(3, length_penalty=-1.0)
    tokens = search(
        bundle.model, bundle.model.encode(case.images), limits(bundle, bundle.max_length)
    )
    options = {"num_beams": 3, "length_penalty": -1.0, "max_new_tokens": None, "max_length": 9}
    assert until_end(tokens.tokens[:, 0]) == generated(case, **options)


def test_older_folders_have_their_decoding_in_the_text_config(folder):
    (folder / "generation_config.json").unlink()
    edit(folder / "config.json", num_beams=2, max_length=13)
    edit(folder / "config.json", "text_config", num_beams=5, top_k=50, do_sample=False)
    bundle = read_blip(folder)
    assert (bundle.decoding, bundle.max_length) == ({"beams": 5}, 12)


def test_a_caption_has_no_more_places_than_the_model(folder):
    edit(folder / "generation_config.json", max_new_tokens=100)
    bundle = read_blip(folder)
    assert bundle.max_length == 23
    image = bundle.model.encode(torch.zeros(1, 3, 32, 32))
    never = MinLength(100, END)
    longest = Greedy()(bundle.model, image, limits(bundle, bundle.max_length), [never])
    assert longest.tokens.shape[-1] == 23


@pytest.mark.parametrize("clean", [True, False])
def test_texts_equal(cases, tmp_path, clean):
    folder = save(tmp_path, make_model("wider image"), clean_up_tokenization_spaces=clean)
    ours, theirs = read_blip(folder).tokenizer, BertTokenizer.from_pretrained(folder)
    texts = ["a dog's ball", "two dogs, running. i'm not!", "don't run (a man) - été ?"]
    written = [ours.encode(text) for text in texts]
    assert written == [theirs.encode(text, add_special_tokens=False) for text in texts]
    generator = torch.Generator().manual_seed(0)
    written += torch.randint(BEGIN + 3, (200, 12), generator=generator).tolist()
    written += generated(cases["wider image"])
    for ids in written:
        ids = ids[: ids.index(END)] if END in ids else ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
        assert ours.decode([BEGIN, *ids, END, 0]) == ours.decode(ids)


def test_words_of_wordpieces(tmp_path):
    folder = save(tmp_path, make_model("wider image"), clean_up_tokenization_spaces=True)
    tokenizer = read_blip(folder).tokenizer
    ids = tokenizer.encode("a dog's balls, running - i'm sitting!")
    text, pieces = tokenizer.decode(ids), [tokenizer.backend.id_to_token(i) for i in ids]
    assert text == "a dog's balls, running - i'm sitting!"
    words = group_words(text, tokenizer.offsets(ids))
    assert [(word.text, [pieces[i] for i in word.tokens]) for word in words] == [
        ("a", ["a"]),
        ("dog's", ["dog", "'", "s"]),
        ("balls,", ["ball", "##s", ","]),
        ("running", ["run", "##ning"]),
        ("-", ["-"]),
        ("i'm", ["i", "'", "m"]),
        ("sitting!", ["sit", "##ting", "!"]),
    ]


def test_a_tokenizer_without_the_begin_token_gets_one(cases, folder):
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    plain = BertTokenizer(vocab=vocabulary)
    plain.save_pretrained(folder)
    tokenizer = read_blip(folder).tokenizer
    assert (tokenizer.begin_id, tokenizer.backend.id_to_token(BEGIN)) == (BEGIN, "[DEC]")
    for ids in generated(cases["wider image"]):
        assert tokenizer.decode([BEGIN, *ids]) == plain.decode(
            [BEGIN, *ids], skip_special_tokens=True
        )
    assert tokenizer.encode("a dog") == plain.encode("a dog", add_special_tokens=False)


@pytest.mark.parametrize("together", [True, False], ids=["processor_config", "preprocessor_config"])
@pytest.mark.parametrize("size", [(40, 51), (20, 33), (32, 32)])
def test_preprocessing_equals_the_image_processor(folder, together, size):
    processor = BlipImageProcessor.from_pretrained(folder)
    if together:
        (folder / "preprocessor_config.json").unlink()
        BlipProcessor(processor, make_tokenizer()).save_pretrained(folder)
        assert not (folder / "preprocessor_config.json").exists()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    ours = read_blip(folder).preprocessing.transform()(torch.from_numpy(pixels).permute(2, 0, 1))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


WRONG_VALUES = [
    ((), {"model_type": "blip-2"}, "'model_type' is 'blip-2'; it must be one of blip"),
    ((), {"architectures": ["BlipForQuestionAnswering"]}, "another BLIP does not write captions"),
    ((), {"text_config": [1]}, r"'text_config' is \[1\]; it must be an object"),
    (("text_config",), {"hidden_act": "gelu_10"}, "'hidden_act' is 'gelu_10'; it must be one of"),
    (("vision_config",), {"hidden_act": "mish"}, "vision_config: 'hidden_act' is 'mish'"),
    (("text_config",), {"is_decoder": False}, "the text does not attend to the image"),
    (("text_config",), {"position_embedding_type": "relative_key"}, "must be 'absolute'"),
    (("text_config",), {"num_attention_heads": 5}, "a multiple of 'num_attention_heads', .* 5"),
    (("text_config",), {"num_attention_heads": 0}, "a whole number, 1 or more"),
    (("text_config",), {"hidden_size": "24"}, "'hidden_size' is '24'; it must be a whole number"),
    (
        ("text_config",),
        {"hidden_size": 36},
        r"\(24, 24\), but .* it is \(24, 36\)",
    ),
    (
        ("text_config",),
        {"intermediate_size": 44},
        r"\(40, 24\), but .* it is \(44, 24\)",
    ),
    (
        ("text_config",),
        {"num_hidden_layers": 4},
        r"lack .*\.layer\.3\.attention\.self\.query\.weight",
    ),
    (("text_config",), {"num_hidden_layers": 10**9}, r"lack .*\.layer\.3\.attention"),
    (("text_config",), {"num_hidden_layers": 2}, r"26 of the weights .*: text_decoder.*\.layer\.2"),
    (("text_config",), {"vocab_size": 41}, r"is \(42,\), but .* it is \(41,\)"),
    (("text_config",), {"vocab_size": 39}, "'bos_token_id' is 39, but the vocabulary has 39"),
    (
        ("text_config",),
        {"max_position_embeddings": 10**12},
        r"by .* it is \(10+, 24\)",
    ),
    (("text_config",), {"sep_token_id": -1}, "'sep_token_id' is -1; it must be a whole number, 0"),
    (("text_config",), {"bos_token_id": 41}, "has no token 41, which is to be its begin token"),
    (("text_config",), {"layer_norm_eps": -1.0}, "'layer_norm_eps' is -1.0; it must be 0 or more"),
    (("vision_config",), {"layer_norm_eps": "small"}, "'layer_norm_eps' is 'small'"),
    (
        ("vision_config",),
        {"attention_dropout": 7},
        "'attention_dropout' is 7; it must be 0 or more",
    ),
    (("vision_config",), {"image_size": [32, 32]}, r"'image_size' is \[32, 32\]"),
    (("vision_config",), {"image_size": 36}, "'image_size' is 36; it must be a multiple of"),
    (
        ("vision_config",),
        {"image_size": 40},
        r"\(1, 17, 32\), but .* it is \(1, 26, 32",
    ),
    (
        ("vision_config",),
        {"patch_size": 16},
        r"\(1, 17, 32\), but .* it is \(1, 5, 32",
    ),
    (
        ("vision_config",),
        {"hidden_size": 64},
        r"\(1, 1, 32\), but .* it is \(1, 1, 64",
    ),
]


def refusal(folder: Path) -> str:
    """Return the message with which a folder is refused: one line that names the place."""
    with pytest.raises(CheckpointError) as caught:
        read_blip(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder))
    return message


@pytest.mark.parametrize(("keys", "values", "expected"), WRONG_VALUES)
def test_a_wrong_value_is_refused_by_name(folder, keys, values, expected):
    edit(folder / "config.json", *keys, **values)
    assert re.search(expected, refusal(folder))


LAYER = "text_decoder.bert.encoder.layer.1"
WRONG_WEIGHTS = {
    "missing": (
        lambda state: {
            n: v for n, v in state.items() if n != f"{LAYER}.crossattention.self.key.bias"
        },
        rf"the weights lack {LAYER}\.crossattention\.self\.key\.bias$",
    ),
    "without token embeddings": (
        lambda state: {n: v for n, v in state.items() if n != WORDS},
        f"the weights lack {WORDS}",
    ),
    "left over": (
        added("itm_head.weight", lambda state: torch.zeros(2, 2)),
        "1 of the weights have no counterpart here: itm_head.weight",
    ),
    "relative positions": (
        added(
            f"{LAYER}.attention.self.distance_embedding.weight", lambda state: torch.zeros(47, 6)
        ),
        "no counterpart here: .*distance_embedding",
    ),
    "misshaped": (
        added(f"{LAYER}.output.dense.weight", lambda state: torch.zeros(40, 24)),
        r"layer\.1\.output\.dense\.weight is \(40, 24\), but .* it is \(24, 40\)",
    ),
    "quantised": (
        lambda state: {
            n: v.to(torch.int8) if n.endswith("mlp.fc1.weight") else v for n, v in state.items()
        },
        "mlp.fc1.weight is torch.int8; quantised weights are not supported",
    ),
}


@pytest.mark.parametrize(("change", "expected"), WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, expected):
    rewrite(folder, change)
    assert re.search(expected, refusal(folder))


def test_an_untied_output_layer_that_is_missing_is_named(cases, tmp_path):
    folder = Path(shutil.copytree(cases["untied"].folder, tmp_path / "copy"))
    rewrite(folder, lambda state: {n: v for n, v in state.items() if n != f"{HEAD}.decoder.weight"})
    assert f"the weights lack {HEAD}.decoder.weight" in refusal(folder)


def test_files_of_another_model_are_refused(cases, folder):
    shutil.copy(cases["one patch"].folder / "preprocessor_config.json", folder)
    assert "makes pictures of 16 x 16, but the model's are 32 x 32" in refusal(folder)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["zebra", "okapi", "gnu"])
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert f"the tokenizer has {BEGIN + 4} tokens, but the model {BEGIN + 3}" in refusal(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"]
)
def test_a_missing_or_damaged_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    assert name in refusal(folder)
    (folder / name).unlink()
    refusal(folder)
