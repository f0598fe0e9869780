"""Five fusions: padding reaches nobody, and every one reduces to what it should."""

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.fusion import (
    CoFusion,
    CrossFusion,
    Fusion,
    GatedFusion,
    MergedFusion,
    PooledFusion,
    Stream,
)
from mmattn.fusion.stream import of_examples
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer

B, S, T, D, DEPTH = 3, 6, 5, 16, 2
BLOCK = BlockOptions(heads=4)
FUSIONS = {
    "cross": lambda: CrossFusion(D, DEPTH, BLOCK),
    "co": lambda: CoFusion(D, DEPTH, BLOCK),
    "merged": lambda: MergedFusion(D, DEPTH, BLOCK),
    "pooled": lambda: PooledFusion(D, DEPTH, BLOCK, queries=3),
    "gated_text": lambda: GatedFusion("text", D, DEPTH, BLOCK),
    "gated_image": lambda: GatedFusion("image", D, DEPTH, BLOCK),
}
every_fusion = pytest.mark.parametrize("name", FUSIONS)


def make(name: str) -> Fusion:
    torch.manual_seed(0)
    fusion = FUSIONS[name]().double().eval()
    with torch.no_grad():  # gates that are shut would make most tests pass for nothing
        for key, parameter in fusion.named_parameters():
            if key.endswith("_gate"):
                parameter.fill_(0.7)
    return fusion


def encoder(stream: Stream):
    """An encoder whose blocks do nothing: a gated fusion has something to stand in."""

    def encode(before=None) -> Stream:
        x = stream.tokens
        if before is not None:
            x = stream.spread()
            for i in range(DEPTH):
                x = before(i, x)
            return Stream(x, stream.valid)
        return stream

    return encode


def streams(seed: int = 1, valid_image=None, valid_text=None) -> tuple[Stream, Stream]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(B, S, D, generator=generator, dtype=torch.double)
    text = torch.randn(B, T, D, generator=generator, dtype=torch.double)
    return Stream(image, valid_image), Stream(text, valid_text)


def run(fusion: Fusion, image: Stream, text: Stream, recorder=None):
    return fusion(encoder(image), encoder(text), recorder)


def lengths(*numbers: int, size: int) -> torch.Tensor:
    return torch.arange(size) < torch.tensor(numbers)[:, None]


@every_fusion
def test_the_summary_depends_on_both(name):
    fusion, (image, text) = make(name), streams()
    summary = run(fusion, image, text).summary
    assert summary.shape == (B, D)
    other_image = run(fusion, image._replace(tokens=image.tokens.flip(0)), text).summary
    other_text = run(fusion, image, text._replace(tokens=text.tokens.flip(0))).summary
    assert (other_image[0] - summary[0]).abs().max() > 1e-3
    assert (other_text[0] - summary[0]).abs().max() > 1e-3


@every_fusion
def test_padding_of_either_reaches_nobody(name):
    seen, read = lengths(6, 4, 2, size=S), lengths(3, 5, 1, size=T)
    fusion, (image, text) = make(name), streams(valid_image=seen, valid_text=read)
    expected = run(fusion, image, text)
    changed_image = image.tokens.masked_fill(~seen[..., None], 99.0)
    changed_text = text.tokens.masked_fill(~read[..., None], -99.0)
    found = run(fusion, Stream(changed_image, seen), Stream(changed_text, read))
    torch.testing.assert_close(found.summary, expected.summary, rtol=0, atol=1e-12)
    if expected.text is not None and found.text is not None:
        torch.testing.assert_close(found.text[read], expected.text[read], rtol=0, atol=1e-12)


@every_fusion
def test_padded_examples_are_what_they_are_alone(name):
    seen, read = lengths(6, 4, 2, size=S), lengths(3, 5, 1, size=T)
    fusion, (image, text) = make(name), streams(valid_image=seen, valid_text=read)
    together = run(fusion, image, text).summary
    for b in range(B):
        alone = run(
            fusion,
            Stream(image.tokens[b : b + 1, : int(seen[b].sum())]),
            Stream(text.tokens[b : b + 1, : int(read[b].sum())]),
        )
        torch.testing.assert_close(alone.summary[0], together[b], rtol=0, atol=1e-12)


@every_fusion
def test_a_missing_image_leaves_finite_values_and_gradients(name):
    fusion, (image, text) = make(name), streams(valid_image=lengths(0, 6, 0, size=S))
    tokens = image.tokens.requires_grad_()
    fused = run(fusion, image, text)
    fused.summary.square().sum().backward()
    assert fused.summary.isfinite().all()
    assert tokens.grad is not None
    assert tokens.grad[1].abs().max() > 0
    missing = tokens.grad[[0, 2]]
    # Where the image is the stream that is read, its own padding is what there is of it.
    assert missing.isfinite().all()
    if name != "gated_image":
        assert missing.abs().max() == 0


@every_fusion
def test_examples_that_share_an_image_are_as_with_one_each(name):
    fusion, (image, text) = make(name), streams()
    rows = torch.tensor([1, 1, 0])
    shared = run(fusion, image._replace(tokens=image.tokens[:2], rows=rows), text)
    copied = run(fusion, image._replace(tokens=image.tokens[rows]), text)
    torch.testing.assert_close(shared.summary, copied.summary, rtol=0, atol=1e-12)


@every_fusion
def test_an_image_that_examples_share_gets_the_gradients_of_all_of_them(name):
    fusion, (image, text) = make(name), streams()
    rows = torch.tensor([1, 1, 0])
    tokens = image.tokens[:2].clone().requires_grad_()
    copies = tokens.detach()[rows].requires_grad_()
    for stream in (Stream(tokens, rows=rows), Stream(copies)):
        run(fusion, stream, text).summary.square().sum().backward()
    assert tokens.grad is not None
    assert copies.grad is not None
    expected = torch.stack([copies.grad[2], copies.grad[0] + copies.grad[1]])
    torch.testing.assert_close(tokens.grad, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [[0, 0, 1, 1, 2, 2], [0, 1, 2], [2, 0, 0, 1, 2, 2], [0, 1]])
def test_sharing_is_an_index_whatever_way_it_is_computed(rows):
    x, chosen = torch.randn(3, 4, 2, dtype=torch.float64), torch.tensor(rows)
    mine, plain = (x.clone().requires_grad_() for _ in range(2))
    weight = torch.randn(len(rows), 4, 2, dtype=torch.float64)
    shared = of_examples(mine, chosen)
    assert torch.equal(shared, plain[chosen])
    (shared * weight).sum().backward()
    (plain[chosen] * weight).sum().backward()
    torch.testing.assert_close(mine.grad, plain.grad)


@pytest.mark.parametrize("name", ["cross", "co", "gated_text"])
def test_what_the_first_layer_sees_of_a_shared_image_is_projected_once(name):
    fusion, (image, text) = make(name), streams()
    first = {
        "cross": "blocks.0.cross_attention.to_kv",
        "co": "text_blocks.0.cross_attention.to_kv",
        "gated_text": "layers.0.cross_attention.to_kv",
    }[name]
    projected = []
    fusion.get_submodule(first).register_forward_hook(
        lambda module, given, out: projected.append(len(given[0]))
    )
    run(fusion, Stream(image.tokens[:2], rows=torch.tensor([1, 1, 0])), text)
    assert projected == [2]


@every_fusion
def test_every_parameter_learns(name):
    fusion, (image, text) = make(name), streams()
    fused = run(fusion, image, text)
    fused.summary.square().sum().backward()
    silent = [key for key, p in fusion.named_parameters() if p.grad is None or not p.grad.any()]
    # A key bias shifts all scores of a row alike.
    assert [key for key in silent if not key.endswith("to_kv.bias")] == []


@every_fusion
def test_maps_are_distributions_over_what_is_real(name):
    seen, read = lengths(6, 4, 0, size=S), lengths(3, 5, 1, size=T)
    fusion, (image, text) = make(name), streams(valid_image=seen, valid_text=read)
    recorder = Recorder(["fusion.*"])
    plain = run(fusion, image, text)
    recorded = run(fusion, image, text, recorder)
    assert torch.equal(plain.summary, recorded.summary)
    keys = {"image": seen, "text": read, "both": torch.cat([seen, read], 1)}
    assert recorder.maps
    for site, weights in recorder.maps.items():
        _, stream, _, kind = site.split(".")
        looked_at = {
            ("text", "cross"): "image",
            ("image", "cross"): "text",
            ("queries", "cross"): "both",
        }.get((stream, kind), stream)
        if looked_at == "queries":
            torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))
            continue
        real = keys[looked_at][:, None, None]
        assert weights.masked_select(~real).abs().sum() == 0
        total = weights.sum(-1)
        expected = real.any(-1).expand_as(total).to(total)
        torch.testing.assert_close(total, expected)


def test_which_sites_each_fusion_has():
    sites = {}
    for name in FUSIONS:
        recorder = Recorder(["*"])
        run(make(name), *streams(), recorder=recorder)
        sites[name] = [site for site in recorder.maps if ".0." in site]
    assert sites == {
        "cross": ["fusion.text.0.self", "fusion.text.0.cross"],
        "co": [f"fusion.{s}.0.{kind}" for s in ("image", "text") for kind in ("self", "cross")],
        "merged": ["fusion.both.0.self"],
        "pooled": ["fusion.queries.0.self", "fusion.queries.0.cross"],
        "gated_text": ["fusion.text.0.cross"],
        "gated_image": ["fusion.image.0.cross"],
    }


def test_shut_gates_leave_the_encoder_as_it_was_to_the_last_bit():
    torch.manual_seed(0)
    text = TextTransformer(30, D, DEPTH, BLOCK, max_length=8, causal=False).eval()
    fusion = GatedFusion("text", D, DEPTH, BLOCK).eval()
    tokens = torch.randint(30, (B, T))
    image = Stream(torch.randn(B, S, D))
    fused = fusion(
        lambda before: image, lambda before: Stream(text(tokens, before_block=before)), None
    )
    assert fused.text is not None
    assert torch.equal(fused.text, text(tokens))


def test_cross_is_a_text_transformer_that_looks_across():
    torch.manual_seed(0)
    text = TextTransformer(30, D, DEPTH, BLOCK, max_length=8, causal=False, context_dim=D).eval()
    fusion = CrossFusion(D, DEPTH, BLOCK).eval()
    fusion.blocks.load_state_dict(text.blocks.state_dict())
    fusion.norm.load_state_dict(text.norm.state_dict())
    tokens, image = torch.randint(30, (B, T)), torch.randn(B, S, D)
    valid = lengths(3, 5, 2, size=T)
    expected = text(tokens, text.memory(image), valid=valid)
    found = fusion(lambda _: Stream(image), lambda _: Stream(text.embed(tokens), valid))
    assert found.text is not None
    torch.testing.assert_close(found.text, expected)


def test_co_without_its_exchange_is_two_encoders():
    fusion, (image, text) = make("co"), streams()
    with torch.no_grad():
        for key, parameter in fusion.named_parameters():
            if "cross_attention.to_out" in key:
                parameter.zero_()
    summary = run(fusion, image, text).summary
    changed = run(fusion, image, text._replace(tokens=text.tokens.flip(0))).summary
    alone = run(fusion, image, text._replace(tokens=torch.zeros_like(text.tokens))).summary
    # What the image adds to the summary does not depend on the text, and the reverse.
    again = run(fusion, image._replace(tokens=image.tokens.flip(0)), text).summary
    both = run(
        fusion,
        image._replace(tokens=image.tokens.flip(0)),
        text._replace(tokens=torch.zeros_like(text.tokens)),
    ).summary
    torch.testing.assert_close(summary - alone, again - both)
    assert (summary - changed).abs().max() > 1e-3


def test_pooled_does_not_know_the_order_of_its_tokens():
    fusion, (image, text) = make("pooled"), streams()
    order = torch.randperm(S, generator=torch.Generator().manual_seed(3))
    shuffled = image._replace(tokens=image.tokens[:, order])
    torch.testing.assert_close(
        run(fusion, image, text).summary, run(fusion, shuffled, text).summary
    )


@every_fusion
def test_settings_rebuild_the_same_architecture(name):
    fusion = make(name)
    settings = fusion.settings()
    settings["block"] = BlockOptions(**settings["block"])
    again = type(fusion)(**settings).double()
    again.load_state_dict(fusion.state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: CrossFusion(D, 0, BLOCK), "fusion.depth=0"),
        (lambda: PooledFusion(D, 1, BLOCK, queries=0), "fusion.queries=0"),
        (lambda: GatedFusion("both", D, 1, BLOCK), "fusion.into is 'both'"),
        (lambda: GatedFusion("text", D, 2, BLOCK, every=0), "every=0"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
