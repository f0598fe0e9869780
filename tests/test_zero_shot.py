"""Classes by their names: a mean over templates, and mistakes that are named."""

import pytest
import torch
from torch.nn import functional as F

from mmattn.blocks import BlockOptions
from mmattn.data.augment import Sample
from mmattn.data.module import CaptionDataModule, LoaderOptions, TokenizerOptions
from mmattn.data.text_rows import text_rows
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.data.transforms import ToNormalised
from mmattn.errors import ConfigError, DataError
from mmattn.joint import JointModel
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer
from mmattn.zero_shot import zero_shot_scores, zero_shot_weights

NAMES, TEMPLATES = ["red ball", "cat", "old man"], ["a photo of a {}", "{}", "two {}s, {}"]


@pytest.fixture(scope="module")
def tokenizer():
    return CaptionTokenizer.train(["a photo of a red ball", "two cats", "an old man"] * 3, 300, 2)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    block, size = BlockOptions(heads=2), tokenizer.vocab_size
    vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, block)
    text = TextTransformer(size, 16, 1, block, max_length=30, context_dim=16)
    encoder = TextTransformer(size, 16, 2, block, max_length=30, causal=False)
    return JointModel(vision, text, text_encoder=encoder, embed_dim=8).eval()


def plain(model, tokenizer, text):
    """The embedding of one text, without padding or a batch."""
    tokens = torch.tensor([[tokenizer.begin_id, *tokenizer.encode(text)]])
    with torch.no_grad():
        hidden = model.text_encoder(tokens)[0]
        return F.normalize(hidden.mean(0) @ model.text_projection.weight.T, dim=0)


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_a_class_is_the_mean_over_templates(model, tokenizer, batch_size):
    found = zero_shot_weights(model, tokenizer, NAMES, TEMPLATES, batch_size)
    for name, row in zip(NAMES, found, strict=True):
        each = [plain(model, tokenizer, template.replace("{}", name)) for template in TEMPLATES]
        expected = F.normalize(torch.stack(each).mean(0), dim=0)
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    assert not found.requires_grad


def test_scores_are_similarities_over_the_temperature(model, tokenizer):
    weights = zero_shot_weights(model, tokenizer, NAMES)
    scores = zero_shot_scores(model, weights, weights)
    torch.testing.assert_close(scores.diagonal(), torch.full((3,), 1 / 0.07), rtol=1e-4, atol=0)
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_rows_are_those_of_the_data_module(tokenizer):
    white = ToNormalised([0.5] * 3, [0.5] * 3)
    options = TokenizerOptions(None, 300), LoaderOptions(1, 1)
    data = CaptionDataModule(None, (8, 8), white, white, *options, max_length=6, seed=0)
    data._tokenizer = tokenizer
    texts = ("a photo of a red ball", "two cats", "an old man of a photo of a red ball")
    batch = data.collate([Sample("x", torch.zeros(3, 8, 8), texts)])
    tokens, valid = text_rows(tokenizer, texts, 6)
    assert tokens.equal(batch.tokens[0])
    assert valid.equal(batch.valid[0])
    assert valid.sum(1).max() == 6
    assert text_rows(tokenizer, [], 6)[0].shape == (0, 1)


def test_a_name_that_the_tokenizer_cannot_write_is_named(model, tokenizer, monkeypatch):
    def fail(text):
        raise Exception("WordLevel error: Missing [UNK] token")  # as the library does

    monkeypatch.setattr(tokenizer, "encode", fail)
    with pytest.raises(DataError, match=r"'cat': the model has no tokens for this text \(Word"):
        zero_shot_weights(model, tokenizer, ["cat"])


@pytest.mark.parametrize(
    ("names", "templates", "error", "said"),
    [
        ([], ["{}"], ConfigError, "0 names and 1 templates"),
        (["cat"], [], ConfigError, "1 names and 0 templates"),
        ("cat", ["{}"], ConfigError, "not as one string"),
        (["cat"], ["{}", "a photo"], ConfigError, "'a photo' has no {}"),
        (["cat" * 40], ["{}"], DataError, "tokens and the model reads 30"),
    ],
)
def test_mistakes_are_named(model, tokenizer, names, templates, error, said):
    with pytest.raises(error, match=said):
        zero_shot_weights(model, tokenizer, names, templates)
