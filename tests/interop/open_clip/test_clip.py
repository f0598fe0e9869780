"""A CLIP model of open_clip embeds as open_clip itself does, from a folder alone."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.open_clip.clip import read_clip
from mmattn.pipeline.clip_model import load_clip
from mmattn.pipeline.clip_scores import clip_scores

open_clip = pytest.importorskip("open_clip")

CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16}
        | {"head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2}
        | {"layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}
TEXTS = ["a dog runs over the grass", "two cats", "a red ball"]


def write(folder, config=CONFIG, weights=None):
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    if weights is not None:
        save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with random weights, as open_clip writes it."""
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CONFIG["model_cfg"])
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return write(tmp_path_factory.mktemp("clip") / "model", weights=weights)


@pytest.fixture(scope="module")
def theirs(folder):
    """open_clip's own model, preprocessing and tokenizer of the folder."""
    name = f"local-dir:{folder}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    return model.eval(), transform, open_clip.get_tokenizer(name)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    rng, paths = np.random.default_rng(0), []
    for i in range(3):
        paths.append(place / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), np.uint8)).save(paths[-1])
    return paths


@torch.no_grad()
def test_scores_are_those_of_open_clips_own_embeddings(folder, theirs, photos):
    references = [["a dog"], ["some cats", "two cats sleep"], ["a blue ball", "a ball", "red"]]
    found = clip_scores(load_clip(folder), photos, TEXTS, references, batch_size=2)
    model, transform, tokenizer = theirs

    def read(texts):
        ids = tokenizer([f"A photo depicts {text}" for text in texts])
        return model.encode_text(ids, normalize=True)

    seen = torch.stack([transform(Image.open(path)) for path in photos])
    said = read(TEXTS)
    clip = 2.5 * (model.encode_image(seen, normalize=True) * said).sum(-1).clamp(min=0)
    best = torch.stack(
        [
            (read(known) @ one).amax().clamp(min=0)
            for known, one in zip(references, said, strict=True)
        ]
    )
    # Resizing is torchvision's on tensors here and Pillow's there: a grey level now and then.
    assert found.clip == pytest.approx(clip.numpy(), abs=5e-3)
    both = 2 * clip * best / (clip + best).clamp(min=1e-12)
    assert found.ref_clip == pytest.approx(both.numpy(), abs=5e-3)
    assert clip_scores(load_clip(folder), photos, TEXTS).ref_clip is None


@torch.no_grad()
def test_embeddings_of_the_same_pixels_and_ids_are_the_same(folder, theirs):
    ours, (model, _, tokenizer) = read_clip(folder), theirs
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        ours.image_vectors(pixels), model.encode_image(pixels, normalize=True)
    )
    long = ["a dog " * 40]
    torch.testing.assert_close(
        ours.text_vectors(TEXTS + long), model.encode_text(tokenizer(TEXTS + long), normalize=True)
    )


def changed(**parts):
    model = json.loads(json.dumps(CONFIG["model_cfg"]))
    for name, values in parts.items():
        model[name] = {**model[name], **values} if isinstance(values, dict) else values
    return {"model_cfg": model}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed(text_cfg={"hf_model_name": "roberta"}), "hf_model_name"),
        (changed(text_cfg={"hf_tokenizer_name": "t5"}), "hf_tokenizer_name"),
        (changed(vision_cfg={"timm_model_name": "vit"}), "timm_model_name"),
        ({"model_cfg": CONFIG["model_cfg"] | {"multimodal_cfg": {"width": 1}}}, "a CoCa model"),
        (changed(odd=3), "open_clip builds no model of it"),
        (changed(embed_dim=8), "differences: "),
        ({}, "has no 'model_cfg'"),
    ],
)
def test_what_is_not_read_is_said(folder, tmp_path, config, said):
    place = write(tmp_path / "other", config)
    weights = folder / "open_clip_model.safetensors"
    (place / weights.name).write_bytes(weights.read_bytes())
    with pytest.raises(CheckpointError, match=said) as raised:
        load_clip(place)
    assert "\n" not in str(raised.value)


def test_a_folder_without_weights_and_a_machine_without_open_clip_are_said(tmp_path, monkeypatch):
    place = write(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="has no weights; looked for open_clip_model"):
        load_clip(place)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setattr("mmattn.interop.open_clip.clip.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed: pip install mmattn\[clip\]"):
        load_clip(place)
