"""Captioners of a few thousand parameters, and a tokenizer trained on four captions."""

import json

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.bundle import Bundle
from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.model_folder.format import write_folder
from mmattn.model_folder.manifest import write_manifest
from mmattn.patches import ConvStem
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

CAPTIONS = ["a dog runs", "a cat sleeps on a mat", "two dogs and a cat", "a red ball"]


@pytest.fixture(scope="session")
def tokenizer():
    return CaptionTokenizer.train(CAPTIONS, 300, 1)


@pytest.fixture
def make_bundle(tokenizer):
    """Make a bundle of a captioner; its parts can be given."""

    def make(vision=None, seed=0, text=None, **text_options):
        torch.manual_seed(seed)
        block = BlockOptions(heads=2)
        vision = vision or VisionTransformer((16, 16), ConvStem([4, 4], [2, 2], 8), 1, block)
        options = {"max_length": 12, "context_dim": vision.dim, **text_options}
        text = text or TextTransformer(tokenizer.vocab_size, 8, 2, block, **options)
        mean, std = (0.5, 0.25, 0.125), (0.5, 0.5, 0.5)
        size = vision.image_size
        preprocessing = Preprocessing(size, size, None, "bicubic", mean, std)
        model = Captioner(vision, text).eval()
        return Bundle(model, tokenizer, preprocessing, 12, source="made by a test")

    return make


@pytest.fixture
def bundle(make_bundle):
    return make_bundle()


@pytest.fixture
def folder(bundle, tmp_path):
    """A model folder."""
    return write_folder(bundle, tmp_path / "model")


@pytest.fixture
def reconfigure(set_at):
    """Change one value of a folder's config.json as `set_at` does, and the manifest with it."""

    def change(folder, place, value):
        path = folder / "config.json"
        config = json.loads(path.read_text())
        set_at(config, place, value)
        path.write_text(json.dumps(config))
        write_manifest(folder)

    return change
