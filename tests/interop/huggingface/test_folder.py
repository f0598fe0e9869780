"""Folders in Hugging Face's layout: what is read is what transformers reads, or one clear line."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers.implementations import BertWordPieceTokenizer, ByteLevelBPETokenizer

from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import SpecialIds
from mmattn.errors import CheckpointError
from mmattn.interop.huggingface.folder import read_preprocessing, read_tokenizer, read_weights
from mmattn.interop.huggingface.image_processor import image_preprocessing, image_processor_settings
from mmattn.interop.json_settings import Settings

transformers.logging.set_verbosity_error()

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2), "b": torch.zeros(5)}


def refuse(read, folder, message):
    """Reading gives one line that names the folder and says this."""
    with pytest.raises(CheckpointError, match=message) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def write(folder: Path, name: str, values) -> Path:
    (folder / name).write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


# Weights


def assert_equal(state, expected=TENSORS):
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_safetensors_come_before_a_pickle(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "pytorch_model.bin").write_bytes(b"not looked at")
    assert_equal(read_weights(tmp_path))


def test_a_pickle_of_tensors_is_read(tmp_path):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    assert_equal(read_weights(tmp_path))


def test_shards_that_transformers_writes_are_read(tmp_path):
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=9)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    own = dict(model.state_dict())
    assert_equal(read_weights(tmp_path), {k: v for k, v in own.items() if "lm_head" not in k})


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_read(tmp_path, suffix):
    shards(tmp_path, suffix)
    assert_equal(read_weights(tmp_path))


def shards(folder, suffix="safetensors"):
    """Write two shards and their index; return the index's path and its map."""
    whole = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[suffix]
    first, second = f"part-1-of-2.{suffix}", f"part-2-of-2.{suffix}"
    place = {"a.weight": first, "a.bias": first, "b": second}
    for name in (first, second):
        state = {key: TENSORS[key] for key, shard in place.items() if shard == name}
        (save_file if suffix == "safetensors" else torch.save)(state, folder / name)
    write(folder, f"{whole}.index.json", {"weight_map": place})
    return folder / f"{whole}.index.json", place


OUTSIDE = ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "C:x.safetensors"]
OUTSIDE += [r"..\x.safetensors", "..", "", ".x.safetensors", "x.bin", "x\n.safetensors", 3, ["x"]]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_that_names_other_than_a_file_of_the_folder_is_refused(tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    index, place = shards(folder)
    for outside in (tmp_path / "x.safetensors", folder / "x.bin", folder / ".x.safetensors"):
        save_file({"b": TENSORS["b"]}, outside)
    write(folder, index.name, {"weight_map": {**place, "b": name}})
    refuse(read_weights, folder, r"'b' is .*; it must be the bare name of a \.safetensors file")


def test_a_shard_without_what_its_index_promises_is_refused(tmp_path):
    index, place = shards(tmp_path)
    write(tmp_path, index.name, {"weight_map": {**place, "c": "part-2-of-2.safetensors"}})
    refuse(read_weights, tmp_path, r"part-2-of-2\.safetensors: lacks c, unlike .*index\.json says")
    del place["a.bias"]
    write(tmp_path, index.name, {"weight_map": place})
    refuse(read_weights, tmp_path, r"part-1-of-2\.safetensors: also holds a\.bias")
    (tmp_path / "part-1-of-2.safetensors").unlink()
    refuse(read_weights, tmp_path, r"part-1-of-2\.safetensors: no such file")
    write(tmp_path, index.name, {})
    refuse(read_weights, tmp_path, "has no 'weight_map'")


def test_no_weights_are_named(tmp_path):
    refuse(read_weights, tmp_path, r"no weights; looked for model\.safetensors and pytorch_model")


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_cut_short_safetensors_are_refused(tmp_path, left):
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:left])
    refuse(read_weights, tmp_path, r"model\.safetensors: cannot read these weights safely")


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.mark.parametrize("save", [torch.save, lambda v, path: path.write_bytes(pickle.dumps(v))])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, save, sharded):
    marker, name = tmp_path / "marker", "pytorch_model.bin"
    if sharded:
        name = "part.bin"
        write(tmp_path, "pytorch_model.bin.index.json", {"weight_map": {"a": name}})
    save({"a": torch.ones(2), "b": Malicious(marker)}, tmp_path / name)
    refuse(read_weights, tmp_path, rf"{name}: cannot read these weights safely")
    assert not marker.exists()
    with (tmp_path / name).open("rb") as file:  # it does do harm to who trusts it
        torch.load(file, weights_only=False) if save is torch.save else pickle.load(file)
    assert marker.exists()


# Preprocessing

CLIP, DEIT, VIT, BLIP = (f"{kind}ImageProcessor" for kind in ("CLIP", "DeiT", "ViT", "Blip"))
PROCESSORS = {
    "ViT": (VIT, {}),
    "another size, bicubic": (VIT, {"size": {"height": 33, "width": 60}, "resample": 3}),
    "nearest": (VIT, {"size": {"height": 20, "width": 31}, "resample": 0}),
    "one number": (VIT, {"size": 45}),
    "a list": (VIT, {"size": [24, 40]}),
    "DeiT": (DEIT, {}),
    "crop with unequal margins": (DEIT, {"size": 49, "crop_size": {"height": 32, "width": 30}}),
    "crop of more than there is": (DEIT, {"size": 30, "crop_size": {"height": 37, "width": 24}}),
    "crop alone": (DEIT, {"do_resize": False, "crop_size": 40}),
    "CLIP": (CLIP, {}),
    "shorter side": (CLIP, {"size": 40, "crop_size": {"height": 37, "width": 31}}),
    "shorter side, by name": (
        VIT,
        {"size": {"shortest_edge": 30}, "do_center_crop": True} | {"crop_size": 30},
    ),
    "BLIP": (BLIP, {"size": {"height": 48, "width": 48}}),
    "other colours": (VIT, {"size": 32, "image_mean": [0.1, 0.2, 0.3], "image_std": [2, 0.5, 0.1]}),
    "one mean for all": (VIT, {"size": 32, "image_mean": 0.25, "image_std": 0.125}),
    "other rescaling": (VIT, {"size": 32, "rescale_factor": 1 / 127.5, "image_std": [3, 2, 1]}),
    "no rescaling": (VIT, {"size": 32, "do_rescale": False, "image_mean": [9, 99, 120]}),
    "no normalisation": (VIT, {"size": 32, "do_normalize": False}),
    "rescaled, not normalised": (
        VIT,
        {"size": 32, "do_normalize": False, "rescale_factor": 1 / 100},
    ),
    "bytes as they are": (VIT, {"size": 32, "do_normalize": False, "do_rescale": False}),
}


def images():
    generator = torch.Generator().manual_seed(0)
    sizes = [(37, 61), (90, 41), (64, 64), (23, 117)]
    return [
        torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    ]


def transformed(preprocessing, processor):
    """The picture by our transform and by theirs, for pictures of odd sizes."""
    transform = preprocessing.transform()
    for image in images():
        expected = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
        out = transform(image)
        assert out.dtype == torch.float32
        assert tuple(out.shape[1:]) == preprocessing.size
        yield out, expected.float()


def assert_transforms_alike(preprocessing, processor):
    """Outputs are equal to 1e-5, of their range if that is above 1."""
    for out, expected in transformed(preprocessing, processor):
        atol = 1e-5 * float(expected.abs().max().clamp(min=1))
        torch.testing.assert_close(out, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("case", PROCESSORS)
def test_pictures_are_transformed_as_theirs(tmp_path, case):
    kind, settings = PROCESSORS[case]
    processor = getattr(transformers, kind)(**settings)
    processor.save_pretrained(tmp_path)
    assert_transforms_alike(read_preprocessing(tmp_path), processor)


@pytest.mark.parametrize("case", ["ViT", "another size, bicubic", "DeiT", "BLIP", "other colours"])
def test_pictures_are_transformed_as_by_pillow_to_one_grey_level(tmp_path, case):
    """Their two back ends round differently; where both passes of a resize do, it is two levels."""
    kind, settings = PROCESSORS[case]
    processor = getattr(transformers, f"{kind}Pil")(**settings)
    processor.save_pretrained(tmp_path)
    preprocessing = read_preprocessing(tmp_path)
    level = 1 / (255 * torch.tensor(preprocessing.std)).view(3, 1, 1)
    for out, expected in transformed(preprocessing, processor):
        apart = (out - expected).abs() / level
        assert apart.max() <= 2.01
        assert (apart > 1.01).float().mean() < 1e-3


@pytest.mark.parametrize("case", PROCESSORS)
def test_settings_that_we_write_do_the_same(case):
    kind, settings = PROCESSORS[case]
    preprocessing = image_preprocessing(Settings({"image_processor_type": kind, **settings}, "x"))
    written = image_processor_settings(preprocessing)
    processor = getattr(transformers, written["image_processor_type"]).from_dict(written)
    assert_transforms_alike(preprocessing, processor)


@pytest.mark.parametrize("kind", [VIT, DEIT, CLIP, BLIP])
@pytest.mark.parametrize("suffix", ["", "Fast", "Pil"])
def test_what_a_file_leaves_out_is_the_image_processors_default(tmp_path, kind, suffix):
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": kind + suffix})
    assert_transforms_alike(read_preprocessing(tmp_path), getattr(transformers, kind)())


def test_a_file_of_the_years_of_feature_extractors_is_read(tmp_path):
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2}
    old |= {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    write(tmp_path, "preprocessor_config.json", old)
    expected = Preprocessing((224, 224), (224, 224), None, "bilinear", (0.5,) * 3, (0.5,) * 3)
    same = {**vars(expected), "crop_rounding": "down"}
    assert vars(read_preprocessing(tmp_path)) == same
    del old["feature_extractor_type"]
    write(tmp_path, "preprocessor_config.json", old)
    assert vars(read_preprocessing(tmp_path)) == same
    del old["image_mean"]
    write(tmp_path, "preprocessor_config.json", old)
    refuse(read_preprocessing, tmp_path, "has no 'image_mean'")


def test_the_section_of_a_processor_comes_first(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": VIT, "size": 20})
    write(tmp_path, "processor_config.json", {"processor_class": "BlipProcessor"})
    assert read_preprocessing(tmp_path).size == (20, 20)
    section = {"image_processor": {"image_processor_type": BLIP, "size": 30}}
    write(tmp_path, "processor_config.json", section)
    assert read_preprocessing(tmp_path).size == (30, 30)
    write(tmp_path, "processor_config.json", {"image_processor": 3})
    refuse(read_preprocessing, tmp_path, "'image_processor' is 3; it must be an object")


def test_a_picture_that_is_not_resized_has_the_models_size(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": VIT, "do_resize": False})
    preprocessing = read_preprocessing(tmp_path, (24, 40))
    assert (preprocessing.size, preprocessing.resize) == ((24, 40), None)
    refuse(read_preprocessing, tmp_path, "pictures come out in sizes of their own")


BAD_PROCESSORS = [
    ({"image_processor_type": "DonutImageProcessor"}, "'DonutImageProcessor'; it must be one of"),
    ({"image_processor_type": 4}, "'image_processor_type' is 4; it must be one of"),
    ({"do_pad": True}, "'do_pad' is true"),
    ({"do_resize": "yes"}, "'do_resize' is 'yes'; it must be true or false"),
    ({"resample": 1}, "'resample' is 1; it must be one of 0, 2, 3"),
    ({"resample": "bicubic"}, "'resample' is 'bicubic'"),
    (
        {"size": {"longest_edge": 30}},
        "'size' is .*; it must be a height and a width, or a shortest",
    ),
    ({"size": {"shortest_edge": 30, "longest_edge": 60}}, "'size' is .*; it must be a height"),
    ({"size": {"height": 30}}, "'size' is .*; it must be a height"),
    ({"size": {"height": 30, "width": -4}}, "size: 'width' is -4; it must be a whole number"),
    ({"size": {"height": 30, "width": 2.5}}, "size: 'width' is 2.5; it must be a whole number"),
    ({"size": "big"}, "'size' is 'big'; it must be a whole number"),
    ({"size": {"shortest_edge": 30}}, "pictures come out in sizes of their own"),
    ({"do_center_crop": True}, "has no 'crop_size'"),
    ({"do_center_crop": True, "crop_size": {"shortest_edge": 3}}, "sizes of their own"),
    ({"image_mean": [0.5]}, "'image_mean' is .*; it must be three numbers: pictures are read as"),
    ({"image_std": [0.5, "x", 0.5]}, "'image_std' is 'x'; it must be a number"),
    ({"image_std": [0.5, 0, 0.5]}, "std without a zero"),
    ({"rescale_factor": 0}, "'rescale_factor' is 0; it must be above 0"),
    ({"rescale_factor": float("inf")}, "'rescale_factor' is inf; it must be a finite number"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_PROCESSORS)
def test_preprocessing_that_cannot_be_is_refused_by_name(tmp_path, settings, message):
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": VIT, **settings})
    refuse(read_preprocessing, tmp_path, message)


def test_preprocessing_for_another_model_is_refused(tmp_path):
    write(tmp_path, "preprocessor_config.json", {"image_processor_type": VIT, "size": [20, 30]})
    message = "makes pictures of 20 x 30, but the model's are 30 x 20"
    refuse(lambda folder: read_preprocessing(folder, (30, 20)), tmp_path, message)


def test_missing_preprocessing_is_named(tmp_path):
    refuse(read_preprocessing, tmp_path, r"preprocessor_config\.json: no such file")


# Tokenizers

TEXTS = [
    "a dog runs over the grass",
    "two black cats sit on a mat",
    "the dog's café, isn't it?",
] * 4
SAMPLES = [*TEXTS[:3], "A Dog!", "naïve 犬 dog", "  two  spaces ", "unseen zebra 42", ""]


def gpt2_folder(folder):
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(TEXTS, 300, special_tokens=["<|endoftext|>"], show_progress=False)
    trained.save_model(str(folder))
    return folder


def bert_folder(folder):
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(TEXTS, 90, min_frequency=1, show_progress=False)
    trained.save_model(str(folder))
    return folder


def assert_tokenizers_alike(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False)
    special = [ours.begin_id, *ids, ours.end_id, ours.pad_id]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True).strip()
    # Whatever a caption's tokens are, the special ones among them are left out.
    assert ours.decode(special) == theirs.decode(special, skip_special_tokens=True).strip()


@pytest.mark.parametrize("prefix_space", [False, True])
def test_gpt2s_vocabulary_is_theirs(tmp_path, prefix_space):
    folder = write(
        gpt2_folder(tmp_path), "tokenizer_config.json", {"add_prefix_space": prefix_space}
    )
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    ours = read_tokenizer(folder, SpecialIds(0, 0, 0))
    assert ours.backend.token_to_id("<|endoftext|>") == 0
    for text in SAMPLES:
        assert_tokenizers_alike(ours, theirs, text)


def test_tokens_beside_gpt2s_vocabulary_are_theirs(tmp_path):
    folder = gpt2_folder(tmp_path)
    size = len(json.loads((folder / "vocab.json").read_text()))
    write(folder, "added_tokens.json", {"<cap>": size, "[PAD]": size + 1})
    padding = {"content": "[PAD]", "lstrip": False, "normalized": False}
    more = ["mat", "cat"]
    special = {"bos_token": "<cap>", "pad_token": padding, "additional_special_tokens": more}
    write(folder, "special_tokens_map.json", special)
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    ours = read_tokenizer(folder, SpecialIds(size + 1, size, 0))
    assert theirs.pad_token_id == size + 1
    assert theirs.bos_token_id == size
    for text in [*SAMPLES, "a dog<cap>a [PAD] dog"]:
        assert_tokenizers_alike(ours, theirs, text)


def test_tokens_that_the_configuration_describes_are_theirs(tmp_path):
    folder = gpt2_folder(tmp_path)
    size = len(json.loads((folder / "vocab.json").read_text()))
    described = {
        "0": {"content": "<|endoftext|>", "special": True},
        str(size): {"content": "<loc>", "special": False, "lstrip": True, "normalized": False},
        str(size + 1): {"content": "[PAD]", "special": True},
    }
    config = {"added_tokens_decoder": described, "pad_token": "[PAD]", "add_bos_token": False}
    write(folder, "tokenizer_config.json", config)
    theirs = transformers.GPT2Tokenizer.from_pretrained(folder)
    ours = read_tokenizer(folder, SpecialIds(size + 1, 0, 0))
    for text in [*SAMPLES, "a dog <loc> runs[PAD]"]:
        assert_tokenizers_alike(ours, theirs, text)


BERTS = {
    "plain": {},
    "capitals": {"do_lower_case": False},
    "accents": {"strip_accents": False},
    "Chinese words": {"tokenize_chinese_chars": False},
    "other names": {"cls_token": "dog", "sep_token": {"content": "[MASK]"}},
}


@pytest.mark.parametrize("config", BERTS.values(), ids=BERTS)
def test_berts_vocabulary_is_theirs(tmp_path, config):
    folder = write(bert_folder(tmp_path), "tokenizer_config.json", config)
    given = {key: "[MASK]" if isinstance(value, dict) else value for key, value in config.items()}
    theirs = transformers.BertTokenizer(str(folder / "vocab.txt"), **given)
    ours = read_tokenizer(
        folder, SpecialIds(theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id)
    )
    for text in SAMPLES:
        assert_tokenizers_alike(ours, theirs, text)
        assert ours.backend.encode(text).ids == theirs.encode(text)


def test_a_tokenizer_json_comes_first(tmp_path):
    folder = bert_folder(gpt2_folder(tmp_path))
    backend = read_tokenizer(folder, SpecialIds(0, 0, 0)).backend
    assert "ByteLevel" in backend.to_str()
    backend.add_special_tokens(["<new>"])
    backend.save(str(folder / "tokenizer.json"))
    ours = read_tokenizer(folder, SpecialIds(0, backend.token_to_id("<new>"), 0))
    assert ours.begin_id == ours.vocab_size - 1


BAD_TOKENIZERS = [
    ("tokenizer.json", "{}", r"tokenizer\.json: not a tokenizer\.json"),
    ("vocab.json", "[]", r"vocab\.json and merges\.txt are no tokenizer"),
    ("vocab.json", '{"a": -1}', r"vocab\.json and merges\.txt are no tokenizer"),
    ("merges.txt", "a b c\n", r"vocab\.json and merges\.txt are no tokenizer"),
    ("merges.txt", "zz yy\n", r"vocab\.json and merges\.txt are no tokenizer"),
    ("added_tokens.json", '{"<new>": 7}', "'<new>' is to have the id 7, but .* it has"),
    ("added_tokens.json", '{"<new>": "x"}', "'<new>' is 'x'; it must be a whole number"),
    ("special_tokens_map.json", '{"pad_token": {"id": 3}}', "pad_token: has no 'content'"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "'x' is no id of a token"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"%s": {}}}' % ("9" * 5000), "is no id of"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"0": 1}}', "'0' is 1; it must be an obj"),
    ("tokenizer_config.json", '{"additional_special_tokens": 3}', "'addit.* must be a list of tok"),
    ("tokenizer_config.json", '{"additional_special_tokens": [3]}', "'addit.* must be a token's"),
    ("tokenizer_config.json", '{"add_prefix_space": 1}', "'add_prefix_space' is 1; it must be"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_TOKENIZERS)
def test_a_damaged_tokenizer_is_refused(tmp_path, name, content, message):
    write(gpt2_folder(tmp_path), name, content)
    refuse(lambda folder: read_tokenizer(folder, SpecialIds(0, 0, 0)), tmp_path, message)


def test_a_missing_tokenizer_or_token_is_named(tmp_path):
    def read(folder):
        read_tokenizer(folder, SpecialIds(0, 0, 5000))

    refuse(read, tmp_path, r"has no tokenizer; looked for tokenizer\.json, vocab\.json with")
    refuse(read, gpt2_folder(tmp_path), "has no token 5000, which is to be its end token")
    (tmp_path / "merges.txt").unlink()
    refuse(read, tmp_path, r"vocab\.json and merges\.txt are no tokenizer")


def test_a_vocabulary_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\xff")
    refuse(lambda f: read_tokenizer(f, SpecialIds(0, 0, 0)), tmp_path, r"vocab\.txt: is no voc")
