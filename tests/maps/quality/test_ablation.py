from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.maps.quality.ablation import token_scores, uniform_attention
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

KEYS = 2 + 2 * 3  # registers and patches of the captioner of `conftest`


def cross_maps(model, batch):
    recorder = Recorder(["text.*.cross"])
    with torch.no_grad():
        model.decode(model.encode(batch.images), batch.tokens, recorder)
    return recorder.stack("text.*.cross")  # [L, B, H, T, S]


def scores(model, batch):
    with torch.no_grad():
        return token_scores(model, model.encode(batch.images), batch)


@pytest.fixture(params=["plain", "grouped", "layer", "rms", "no bias"])
def any_captioner(request):
    """Captioners of two layers, of every kind of query there is, all weights random."""
    torch.manual_seed(0)
    block = BlockOptions(
        heads=4,
        kv_heads=2 if request.param == "grouped" else None,
        qk_norm=request.param if request.param in ("layer", "rms") else None,
        bias=request.param != "no bias",
    )
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block, registers=2)
    text = TextTransformer(11, 12, 2, block, max_length=8, context_dim=12)
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("layers", [[0], [1], [-1], None])
def test_the_chosen_layers_are_exactly_uniform_and_no_other_is(any_captioner, batch, layers):
    maps = cross_maps(uniform_attention(any_captioner, layers), batch)
    chosen = {0, 1} if layers is None else {layers[0] % 2}
    for layer in range(2):
        uniform = torch.full_like(maps[layer], 1 / KEYS)
        assert torch.equal(maps[layer], uniform) == (layer in chosen)
    before = cross_maps(any_captioner, batch)
    assert not any(torch.equal(own, own.new_full(own.shape, 1 / KEYS)) for own in before)
    if 0 not in chosen:
        assert torch.equal(maps[0], before[0])


def test_the_model_stays_as_it_was(any_captioner, batch):
    before = deepcopy(any_captioner.state_dict())
    maps = cross_maps(any_captioner, batch)
    uniform_attention(any_captioner)
    assert all(torch.equal(v, before[name]) for name, v in any_captioner.state_dict().items())
    assert torch.equal(cross_maps(any_captioner, batch), maps)


def test_only_the_queries_are_copies(captioner):
    copy = dict(uniform_attention(captioner, [1]).named_parameters())
    own = dict(captioner.named_parameters())
    assert {name for name in own if copy[name] is not own[name]} == {
        "text.blocks.1.cross_attention.to_q.weight",
        "text.blocks.1.cross_attention.to_q.bias",
    }


def test_a_layer_that_is_uniform_already_costs_nothing(captioner, batch):
    already = uniform_attention(captioner, [0])
    own, same = scores(already, batch), scores(uniform_attention(already, [0]), batch)
    assert torch.equal(own.log_probs, same.log_probs)
    assert not torch.equal(own.log_probs, scores(captioner, batch).log_probs)


def test_a_uniform_attention_adds_the_mean_of_the_values(captioner, batch):
    """The copy's layer against the mean written out: another way to the same output."""
    attention = uniform_attention(captioner, [0]).text.blocks[0].cross_attention
    with torch.no_grad():
        context = captioner.encode(batch.images).tokens
        kv = attention.kv(context)
        x = torch.randn(4, 5, 12, generator=torch.Generator().manual_seed(0))
        mean = kv.v.mean(2).flatten(1)  # [B, H * K]: every head has keys of its own here
        expected = attention.to_out(mean)[:, None].expand(-1, 5, -1)
        torch.testing.assert_close(attention(x, kv), expected)


def test_a_layer_that_does_not_exist_is_refused(captioner):
    with pytest.raises(ValueError, match="layer 2 does not exist: there are 2"):
        uniform_attention(captioner, [2])


def test_tokens_are_scored_as_the_whole_model_scores_them(captioner, batch):
    with torch.no_grad():
        whole = captioner(batch.images, batch.tokens)[:, 0]
    labels = batch.labels.clone()
    labels[1, 0, :2] = whole[1, :2].argmax(-1)  # so that two tokens are hits
    found = scores(captioner, replace(batch, labels=labels))
    log_probs, hits = [], []
    for b, row in enumerate(labels[:, 0].tolist()):
        for t, label in enumerate(row):
            if label >= 0:
                log_probs.append(float(whole[b, t, label] - whole[b, t].exp().sum().log()))
                hits.append(int(whole[b, t].argmax()) == label)
    torch.testing.assert_close(found.log_probs, torch.tensor(log_probs), rtol=1e-4, atol=1e-5)
    assert found.hits.tolist() == hits
    assert 2 <= sum(hits) < len(hits) == 4 + 3 + 4 + 5


def test_many_tokens_are_scored_in_parts(captioner, batch, monkeypatch):
    whole = scores(captioner, batch)
    monkeypatch.setattr("mmattn.maps.quality.ablation.ROWS", 3)
    parts = scores(captioner, batch)
    torch.testing.assert_close(parts.log_probs, whole.log_probs)
    assert torch.equal(parts.hits, whole.hits)


def test_a_model_in_training_is_scored_without_dropout(captioner, batch):
    block = BlockOptions(heads=4, dropout=0.5)
    vision = captioner.vision
    model = Captioner(vision, TextTransformer(11, 12, 1, block, max_length=8, context_dim=12))
    model.train()
    vision.eval()
    first, second = (scores(model, batch).log_probs for _ in range(2))
    assert torch.equal(first, second)
    assert model.text.training
    assert not vision.training
