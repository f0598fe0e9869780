"""The joint model: a captioner with two more heads, whose parts are each there once."""

import copy
from dataclasses import replace

import pytest
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch.nn import functional as F

from mmattn.backbones import TimmPatches
from mmattn.batch import CaptionBatch, LabelBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.fusion import CoFusion, CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.joint import JointModel
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BLOCK = BlockOptions(heads=2)
V, T, B, R = 20, 6, 3, 5
FUSIONS = {
    "cross": lambda dim: CrossFusion(dim, 1, BLOCK),
    "co": lambda dim: CoFusion(dim, 1, BLOCK),
    "merged": lambda dim: MergedFusion(dim, 1, BLOCK),
    "pooled": lambda dim: PooledFusion(dim, 1, BLOCK, queries=2),
}


def parts(width=16, **options):
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, BLOCK, **options)
    text = TextTransformer(V, 16, 1, BLOCK, max_length=T, context_dim=16)
    encoder = TextTransformer(V, width, 2, BLOCK, max_length=T, causal=False)
    return vision, text, encoder


def make(fusion: str | None = "cross", width=16, vision=None, **options):
    torch.manual_seed(0)
    seeing, text, encoder = parts(width, **(vision or {}))
    fused = FUSIONS[fusion](8) if fusion else None
    model = JointModel(seeing, text, text_encoder=encoder, fusion=fused, embed_dim=6, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.double().eval()


def images():
    rng = torch.Generator().manual_seed(1)
    return torch.randn(B, 3, 8, 12, generator=rng, dtype=torch.double)


def texts():
    rng = torch.Generator().manual_seed(2)
    valid = torch.arange(T) < torch.tensor([6, 3, 4, 2, 5])[:, None]
    return torch.randint(3, V, (R, T), generator=rng), valid


def caption_batch(pictures):
    tokens = torch.zeros(len(pictures), 1, 2, dtype=torch.long)
    return CaptionBatch((), pictures, tokens, tokens, tokens > 0, ())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("width", [16, 12])
def test_matching_is_the_classifier_of_the_same_parts(fusion, width):
    model, (tokens, valid) = make(fusion, width), texts()
    rows = torch.tensor([2, 0, 0, 1, 2])
    found = model.match(model.vision(images()), rows, model.read(tokens, valid), valid)
    torch.manual_seed(9)
    alone = Classifier(
        {"match": 2}, vision=model.vision, text=model.text_encoder, fusion=model.fusion
    ).double()
    alone.image_bridge.load_state_dict(model.image_bridge.state_dict())
    alone.text_bridge.load_state_dict(model.text_bridge.state_dict())
    alone.heads["match"].load_state_dict(model.match_head.state_dict())
    batch = LabelBatch(tuple("abcde"), images(), rows[:, None], None, tokens, valid, {})
    torch.testing.assert_close(found, alone.eval()(batch)["match"], rtol=0, atol=1e-12)
    assert model.matcher is not None
    torch.testing.assert_close(found, model.matcher(batch)["match"], rtol=0, atol=1e-12)


def test_padding_changes_no_embedding_and_no_match():
    model, (tokens, valid) = make(), texts()
    hidden, image = model.read(tokens, valid), model.vision(images())
    embedded = model.text_embeddings(hidden, valid)
    answers = model.match(image, torch.zeros(R, dtype=torch.long), hidden, valid)
    for r in range(R):
        own = tokens[r : r + 1, : int(valid[r].sum())]
        real = torch.ones_like(own, dtype=torch.bool)
        alone = model.read(own, real)
        torch.testing.assert_close(model.text_embeddings(alone, real)[0], embedded[r])
        answer = model.match(image, torch.tensor([0]), alone, real)
        torch.testing.assert_close(answer[0], answers[r])


@pytest.mark.parametrize(("pool", "place"), [("mean", slice(1, None)), ("class", slice(0, 1))])
def test_embeddings_have_length_one_and_come_from_the_pooled_tokens(pool, place):
    model = make(pool=pool, vision={"class_token": True})
    image = model.see(caption_batch(images()))
    expected = image.tokens[:, place].mean(1) @ model.image_projection.weight.T
    found = model.image_embeddings(image)
    torch.testing.assert_close(found, F.normalize(expected, dim=-1))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(B, dtype=torch.double))


def test_the_contrastive_numbers_are_those_of_open_clip():
    model, (tokens, valid) = make(bias=-3.0), texts()
    image = model.image_embeddings(model.vision(images()))
    text = model.text_embeddings(model.read(tokens, valid), valid)[:B]
    scale, bias = model.scale, model.logit_bias
    assert bias is not None
    scores = scale * image @ text.T
    answer = torch.arange(B)
    both = (F.cross_entropy(scores, answer) + F.cross_entropy(scores.T, answer)) / 2
    torch.testing.assert_close(both, ClipLoss()(image, text, scale))
    signs = 2 * torch.eye(B) - 1
    each = -F.logsigmoid(signs * (scores + bias)).sum() / B
    torch.testing.assert_close(each, SigLipLoss()(image, text, scale, bias))


def test_it_captions_as_the_captioner_of_its_parts():
    model = make()
    plain = Captioner(model.vision, model.text).double()
    tokens = torch.randint(3, V, (B, 2, T), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model(images(), tokens), plain(images(), tokens))
    batch = caption_batch(images())
    connected = model.connect(model.see(batch))
    torch.testing.assert_close(connected.tokens, model.encode_batch(batch).tokens)


def test_cached_features_give_what_their_pictures_do():
    torch.manual_seed(0)
    patches = TimmPatches("mobilenetv2_035", 16, (64, 64), frozen=True)
    _, text, encoder = parts()
    vision = VisionTransformer((64, 64), patches, 1, BLOCK)
    model = JointModel(vision, text, text_encoder=encoder, embed_dim=6).eval()
    pictures = torch.randn(2, 3, 64, 64)
    cached = replace(caption_batch(patches.features(pictures)), cached=True)
    with torch.no_grad():
        found, expected = model.see(cached), model.see(caption_batch(pictures))
        torch.testing.assert_close(found.tokens, expected.tokens)
        whole = model.encode_batch(cached).tokens
        torch.testing.assert_close(model.connect(found).tokens, whole)


def test_a_state_dict_holds_each_weight_once_and_restores_everything():
    model = make("co")
    state = model.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    assert len(list(model.parameters())) == len(state)
    other = make("co")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    (tokens, valid), image = texts(), model.vision(images())
    rows, hidden = torch.zeros(R, dtype=torch.long), model.read(tokens, valid)
    found = other.match(other.vision(images()), rows, other.read(tokens, valid), valid)
    torch.testing.assert_close(found, model.match(image, rows, hidden, valid))


def test_the_matcher_is_made_of_the_models_own_weights():
    model = make()
    own = {id(parameter) for parameter in model.parameters()}
    assert model.matcher is not None
    assert {id(parameter) for parameter in model.matcher.parameters()} <= own
    assert model.matcher.vision is model.vision
    assert model.matcher.heads["match"] is model.match_head


def test_a_copy_shares_nothing_with_the_original():
    model = make()
    twin = copy.deepcopy(model)
    assert twin.matcher is not None
    assert twin.matcher is not model.matcher
    assert twin.matcher.vision is twin.vision
    assert twin.matcher.heads["match"] is twin.match_head
    assert twin.matcher.fusion is twin.fusion
    ours = {parameter.data_ptr() for parameter in model.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in twin.matcher.parameters()}


def test_the_matcher_follows_into_training_and_to_another_type():
    model = make(dropout=0.5)
    matcher = model.matcher
    assert matcher is not None
    assert model.train() is model
    assert matcher.training
    assert matcher.vision is not None
    assert matcher.vision.training
    model.eval()
    assert not matcher.training
    model.float()
    assert {parameter.dtype for parameter in matcher.parameters()} == {torch.float32}


def test_dropout_is_for_training():
    model, (tokens, valid) = make(dropout=0.5), texts()
    rows = torch.zeros(R, dtype=torch.long)

    def answer():
        return model.match(model.vision(images()), rows, model.read(tokens, valid), valid)

    torch.testing.assert_close(answer(), answer(), rtol=0, atol=0)
    model.train()
    assert not torch.equal(answer(), answer())


def test_the_scale_is_limited_and_comes_back():
    model = make().float()
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    model.limit_scale()
    assert model.scale.item() == pytest.approx(100.0, rel=1e-5)
    model.scale.backward()
    assert model.log_scale.grad is not None
    assert model.log_scale.grad.item() == pytest.approx(100.0, rel=1e-5)


def test_settings_make_the_same_model_again():
    model = make(temperature=0.2, bias=-10.0, dropout=0.1)
    vision, text, encoder = parts()
    again = JointModel(
        vision, text, text_encoder=encoder, fusion=CrossFusion(8, 1, BLOCK), **model.settings()
    )
    assert again.settings() == model.settings()
    assert again.state_dict().keys() == model.state_dict().keys()
    assert again.scale.item() == pytest.approx(5.0)
    assert again.logit_bias is not None
    assert again.logit_bias.item() == -10.0


def test_the_maps_of_the_fusion_are_recorded_and_change_nothing():
    model, (tokens, valid) = make(), texts()
    rows, recorder = torch.tensor([0, 1, 2, 0, 1]), Recorder(["fusion.*"])
    image, hidden = model.vision(images()), model.read(tokens, valid)
    plain = model.match(image, rows, hidden, valid)
    assert torch.equal(model.match(image, rows, hidden, valid, recorder), plain)
    assert recorder.maps["fusion.text.0.cross"].shape == (R, 2, T, 6)


def test_a_model_without_a_fusion_matches_nothing():
    model, (tokens, valid) = make(None), texts()
    assert model.matcher is None
    assert model.train().training
    with pytest.raises(ValueError, match="has no fusion"):
        model.match(model.vision(images()), torch.arange(R) % B, model.read(tokens, valid), valid)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": 0.0}, r"temperature=0\.0, embed_dim=6: both"),
        ({"embed_dim": 0}, "embed_dim=0: both"),
        ({"pool": "max"}, "pool is 'max'; choose mean or class"),
        ({"pool": "class"}, r"set model\.vision\.class_token=true"),
        ({"fusion": GatedFusion("text", 16, 2, BLOCK)}, "choose cross, co, merged or pooled"),
        (
            {"text_encoder": TextTransformer(V, 16, 1, BLOCK, max_length=T)},
            "causal=false, context_dim=null",
        ),
        (
            {
                "text_encoder": TextTransformer(
                    V, 16, 1, BLOCK, max_length=T, causal=False, context_dim=16
                )
            },
            "causal=false, context_dim=null",
        ),
        (
            {"text_encoder": TextTransformer(V + 1, 16, 1, BLOCK, max_length=T, causal=False)},
            r"text_encoder\.vocab_size=21 and text\.vocab_size=20",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, said):
    vision, text, encoder = parts()
    options = {"text_encoder": encoder, "embed_dim": 6} | changes
    with pytest.raises(ValueError, match=said):
        JointModel(vision, text, **options)
