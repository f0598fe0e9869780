"""The text transformer: cached decoding equals the whole pass, causal and padded as it says."""

import pytest
import torch
from torch import nn

from mmattn.blocks import BlockOptions
from mmattn.positions import sinusoids, text_rotation
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer

POSITIONS = ["learned", "sinusoidal", "rotary"]
TOKENS = torch.randint(0, 11, (4, 7), generator=torch.Generator().manual_seed(0))


def make_text(*, block=None, context_dim: int | None = 8, **options) -> TextTransformer:
    torch.manual_seed(0)
    block = BlockOptions(**{"heads": 4, **(block or {})})
    return TextTransformer(11, 16, 3, block, max_length=9, context_dim=context_dim, **options)


def make_memory(text: TextTransformer):
    """Two images for the four rows of TOKENS."""
    return text.memory(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("steps", [[1] * 7, [3, 1, 3], [5, 2]])
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_extending_a_cache_equals_the_whole_pass(position, steps, kv_heads):
    text = make_text(position=position, block={"kv_heads": kv_heads, "qk_norm": "rms"}).eval()
    memory = make_memory(text)
    whole = text(TOKENS, memory)
    cache, hidden = None, []
    for newest in TOKENS.split(steps, dim=1):
        out, cache = text.extend(newest, cache, memory)
        hidden.append(out)
    torch.testing.assert_close(torch.cat(hidden, 1), whole, atol=1e-5, rtol=0)
    assert len(cache) == 3
    assert cache[0].k.shape == (4, kv_heads or 4, 7, 4)


LAYOUTS = {
    "CoCa": ["self", "self", "cross"],
    "both after one": ["self", "both", "cross"],
    "cross twice": ["self", "cross", "cross"],
    "both": ["both", "both", "both"],
    "none across": ["self", "self", "self"],
}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("steps", [[1] * 7, [3, 1, 3]])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_every_layout_extending_a_cache_equals_the_whole_pass(position, steps, layout):
    kinds = LAYOUTS[layout]
    text = make_text(position=position, layout=kinds, block={"context_norm": True}).eval()
    memory = make_memory(text)
    whole = text(TOKENS, memory)
    cache, hidden = None, []
    for newest in TOKENS.split(steps, dim=1):
        out, cache = text.extend(newest, cache, memory)
        hidden.append(out)
    torch.testing.assert_close(torch.cat(hidden, 1), whole, atol=1e-5, rtol=0)
    assert [kv is None for kv in cache] == [kind == "cross" for kind in kinds]
    assert [kv is None for kv in memory] == [kind == "self" for kind in kinds]
    assert text.cross_layers == [i for i, kind in enumerate(kinds) if kind != "self"]


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_its_blocks_one_after_the_other(position, layout):
    text = make_text(position=position, layout=LAYOUTS[layout]).eval()
    memory, rotation = make_memory(text), None
    if position == "rotary":
        rotation = text_rotation(7, text.head_dim)
    x = text.embed(TOKENS)
    for block, kind, context in zip(text.blocks, LAYOUTS[layout], memory, strict=True):
        assert (block.self_attention is not None) == (kind != "cross")
        assert (block.cross_attention is not None) == (kind != "self")
        x, _ = block(x, causal=True, rotation=rotation, context=context)
    assert torch.equal(text.norm(x), text(TOKENS, memory))
    changed = text(TOKENS, text.memory(torch.randn(2, 5, 8)))
    assert torch.equal(changed, text(TOKENS, memory)) == (layout == "none across")


def test_two_blocks_of_one_attention_each_are_one_of_both():
    both = make_text(layout=["both", "both", "both"], block={"context_norm": True}).eval()
    turns = TextTransformer(
        11,
        16,
        6,
        both.block_options,
        max_length=9,
        context_dim=8,
        layout=["self", "cross"] * 3,
    ).eval()
    state = {name: value for name, value in both.state_dict().items() if "blocks" not in name}
    for i, block in enumerate(both.blocks):
        for name, value in block.state_dict().items():
            place = 2 * i if name.startswith("self") else 2 * i + 1
            state[f"blocks.{place}.{name}"] = value
            if name.startswith("mlp"):  # the first of two has none: its output is zero
                state[f"blocks.{2 * i}.{name}"] = torch.zeros_like(value)
    turns.load_state_dict(state)
    memory = make_memory(both)
    expected = both(TOKENS, memory)
    torch.testing.assert_close(turns(TOKENS, make_memory(turns)), expected, atol=1e-6, rtol=0)


def test_without_a_layout_all_blocks_hold_what_there_is_to_attend_to():
    assert make_text().layout == ("both",) * 3
    assert make_text(context_dim=None).layout == ("self",) * 3
    assert make_text(context_dim=None).cross_layers == []


@pytest.mark.parametrize(
    ("layout", "context_dim", "said"),
    [
        (["self", "cross"], 8, "layout has 2 entries and depth is 3: give one a block"),
        (["self", "cros", "self"], 8, "layout has 'cros'; choose both, self, cross"),
        (["self", "cross", "self"], None, "blocks that attend across: give them a context_dim"),
        (["both", "both", "both"], None, "blocks that attend across: give them a context_dim"),
        (["cross", "self", "both"], 8, "begins with 'cross': a text must see itself first"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(layout, context_dim, said):
    with pytest.raises(ValueError, match=said):
        make_text(layout=layout, context_dim=context_dim)


@torch.no_grad()
def test_maps_of_a_layout_have_the_numbers_of_their_blocks():
    text = make_text(layout=["self", "cross", "both"]).eval()
    recorder = Recorder(["text.*"])
    text(TOKENS, make_memory(text), recorder=recorder)
    assert list(recorder.maps) == ["text.0.self", "text.1.cross", "text.2.self", "text.2.cross"]


def test_memory_is_projected_once_for_each_image_and_layer():
    memory = make_memory(make_text())
    assert len(memory) == 3
    assert all(kv.k.shape == kv.v.shape == (2, 4, 5, 4) for kv in memory)


@pytest.mark.parametrize("position", POSITIONS)
def test_a_decoder_does_not_see_the_future(position):
    text = make_text(position=position, context_dim=None).eval()
    changed = TOKENS.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    before, after = text(TOKENS), text(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=0)
    assert (before[:, 4:] - after[:, 4:]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("position", POSITIONS)
def test_an_encoder_sees_all_valid_tokens_and_no_padding(position):
    text = make_text(position=position, context_dim=None, causal=False).eval()
    valid = torch.arange(7) < torch.tensor([[7], [5], [3], [1]])
    out = text(TOKENS, valid=valid)
    for row, length in enumerate([7, 5, 3, 1]):
        alone = text(TOKENS[row : row + 1, :length])
        torch.testing.assert_close(out[row, :length], alone[0], atol=1e-5, rtol=0)
    changed = TOKENS.clone()
    changed[:, 0] = (changed[:, 0] + 1) % 11
    seen = (text(changed, valid=valid) - out).abs().amax(-1) > 1e-5
    assert torch.equal(seen | ~valid, torch.ones_like(valid))


def test_rotary_texts_may_be_padded_on_the_left():
    text = make_text(position="rotary", context_dim=None).eval()
    padded = torch.cat([torch.zeros(4, 2, dtype=torch.long), TOKENS], dim=1)
    valid = (torch.arange(9) >= 2).expand(4, 9)
    out = text(padded, valid=valid)
    assert out.isfinite().all()
    torch.testing.assert_close(out[:, 2:], text(TOKENS), atol=1e-5, rtol=0)


def test_masked_image_tokens_are_not_attended_to():
    text = make_text().eval()
    image = torch.randn(2, 5, 8)
    mask = (torch.arange(5) < 3).expand(2, 1, 1, 5)
    out = text(TOKENS, text.memory(image), memory_mask=mask)
    torch.testing.assert_close(out, text(TOKENS, text.memory(image[:, :3])), atol=1e-6, rtol=0)
    step, _ = text.extend(TOKENS, None, text.memory(image), memory_mask=mask)
    torch.testing.assert_close(step, out, atol=1e-6, rtol=0)


def test_positions_are_added_to_the_embeddings():
    table = make_text(position="learned")
    embedded = table.embedding(TOKENS)
    assert torch.equal(table.embed(TOKENS, 2), embedded + table.positions.table[2:9])
    waves = make_text(position="sinusoidal")
    expected = waves.embedding(TOKENS) + sinusoids(9, 16)[2:]
    torch.testing.assert_close(waves.embed(TOKENS, 2), expected)
    rotary = make_text(position="rotary")
    assert torch.equal(rotary.embed(TOKENS, 2), rotary.embedding(TOKENS))


@pytest.mark.parametrize("position", ["sinusoidal", "rotary"])
def test_only_learned_positions_end(position):
    tokens = torch.zeros(1, 12, dtype=torch.long)
    assert make_text(position=position, context_dim=None)(tokens).shape == (1, 12, 16)
    with pytest.raises(ValueError, match="12 tokens is longer than max_length=9"):
        make_text(position="learned", context_dim=None)(tokens)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_may_be_the_embeddings(tied):
    text = make_text(tie_embeddings=tied)
    hidden = torch.randn(2, 3, 16)
    weight = text.embedding.weight if tied else text.head.weight
    torch.testing.assert_close(text.logits(hidden), hidden @ weight.T)
    assert text.logits(hidden[0, 0][None]).shape == (1, 11)
    assert (text.head is None) == tied


def test_without_pre_norm_there_is_no_final_norm():
    assert isinstance(make_text(block={"pre_norm": False}).norm, nn.Identity)
    assert isinstance(make_text(block={"norm": "rms"}).norm, nn.RMSNorm)


def run(checkpointing: bool, *, training: bool = True):
    """Return the output and all gradients of a seeded pass with every kind of dropout."""
    block = {"dropout": 0.1, "attention_dropout": 0.2, "drop_path": 0.5}
    text = make_text(block=block, gradient_checkpointing=checkpointing).train(training)
    torch.manual_seed(2)
    out = text(TOKENS, make_memory(text))
    out.square().sum().backward()
    return [out, *(p.grad for p in text.parameters())]


@pytest.mark.parametrize("training", [True, False])
def test_gradient_checkpointing_changes_nothing(training):
    plain, recomputed = run(False, training=training), run(True, training=training)
    assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))


def test_gradient_checkpointing_runs_the_blocks_again():
    text, calls = make_text(gradient_checkpointing=True, context_dim=None), []
    text.blocks[1].register_forward_pre_hook(lambda *_: calls.append("forward"))
    text(TOKENS).sum().backward()
    assert len(calls) == 2


def test_drop_path_grows_over_the_blocks():
    text = make_text(block={"drop_path": 0.4})
    assert [b.mlp_residual.drop_path for b in text.blocks] == pytest.approx([0, 0.2, 0.4])


def test_unknown_positions_are_refused():
    with pytest.raises(ValueError, match="'alibi'; choose learned, sinusoidal or rotary"):
        make_text(position="alibi")


def test_initial_branches_are_small_and_biases_zero():
    text = make_text(tie_embeddings=False)
    assert text.embedding.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert text.positions.table.std().item() == pytest.approx(0.02, rel=0.2)
    attention = text.blocks[0].self_attention
    xavier = (2 / (16 + 16)) ** 0.5
    assert attention.to_q.weight.std().item() == pytest.approx(xavier, rel=0.15)
    assert attention.to_out.weight.std().item() == pytest.approx(xavier / 6**0.5, rel=0.15)
    assert attention.to_q.bias.abs().max() == 0
    assert torch.equal(text.blocks[0].self_norm.weight, torch.ones(16))
