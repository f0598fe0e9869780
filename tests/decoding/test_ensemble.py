"""Several captioners write what one would whose probabilities are the mean of theirs."""

import math

import pytest
import torch

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.ensemble import Captioners, EnsembleStepper, stepper_of
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import MinLength
from mmattn.decoding.sampling import Sampling
from mmattn.recorder import Recorder
from mmattn.vision import VisionTransformer

LONGEST = 6
METHODS = {
    "greedy": Greedy(),
    "beams": BeamSearch(beams=4, returned=2),
    "groups": BeamSearch(beams=4, groups=2, diversity=0.5, returned=3),
    "samples": Sampling(samples=3, top_p=0.9, temperature=0.8),
}


@pytest.fixture(scope="module")
def bundles(make_captioner):
    return [make_captioner(seed=i, end=3.0) for i in range(3)]


@pytest.fixture(scope="module")
def limits(bundles):
    tokenizer = bundles[0].tokenizer
    return Limits(tokenizer.begin_id, tokenizer.end_id, LONGEST)


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def together(bundles):
    return Captioners([bundle.model.eval() for bundle in bundles])


@torch.no_grad()
def mean_log_probs(models, images, tokens):
    """The log of the mean probability of what follows each of tokens [B, N, T], by whole passes."""
    found = [model(images, tokens).softmax(-1) for model in models.members]
    return torch.stack(found).mean(0).log()


@pytest.mark.parametrize("method", METHODS)
def test_two_of_the_same_write_as_one(bundles, images, limits, method):
    one, twins = bundles[0].model.eval(), together([bundles[0]] * 2)
    with torch.no_grad():
        alone = METHODS[method](one, one.encode(images), limits)
        found = METHODS[method](twins, twins.encode(images), limits)
    assert torch.equal(found.tokens, alone.tokens)
    torch.testing.assert_close(found.log_probs, alone.log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rules", [False, True])
def test_probabilities_are_the_mean_of_those_of_whole_passes(
    bundles, images, limits, method, rules
):
    models, end = together(bundles), limits.end_id
    given = [MinLength(3, end)] if rules else []
    with torch.no_grad():
        found = METHODS[method](models, models.encode(images), limits, given)
    begin = torch.full((*found.tokens.shape[:2], 1), limits.begin_id)
    wanted = mean_log_probs(models, images, torch.cat([begin, found.tokens[..., :-1]], -1))
    wanted = wanted.gather(-1, found.tokens[..., None])[..., 0]
    written = (found.tokens == end).cumsum(-1) - (found.tokens == end).long() == 0
    torch.testing.assert_close(found.log_probs, wanted.masked_fill(~written, 0), atol=1e-5, rtol=0)
    if rules:
        assert not bool((found.tokens[..., :3] == end).any())


def test_greedy_decoding_takes_what_is_most_probable_in_the_mean(bundles, images, limits):
    models = together(bundles)
    with torch.no_grad():
        found = Greedy()(models, models.encode(images), limits).tokens
    begin = torch.full((len(images), 1, 1), limits.begin_id)
    best = mean_log_probs(models, images, torch.cat([begin, found[..., :-1]], -1)).argmax(-1)
    written = (found == limits.end_id).cumsum(-1) - (found == limits.end_id).long() == 0
    assert torch.equal(best[written], found[written])
    alone = [
        Greedy()(one.model, one.model.encode(images), limits).tokens.tolist() for one in bundles
    ]
    assert found.tolist() not in alone  # they do differ


@torch.no_grad()
def test_where_one_is_sure_the_mean_is_half_of_that(bundles, images, limits):
    """Probabilities are averaged; their logarithms would leave next to nothing."""
    models = together(bundles[:2])
    image = models.encode(images)
    stepper = stepper_of(models, image, 1, LONGEST)
    assert isinstance(stepper, EnsembleStepper)

    class Sure:
        def __init__(self, token):
            self.token = token

        def step(self, tokens, parents):
            scores = torch.full((*tokens.shape, 4), -80.0)
            scores[..., self.token] = 80.0
            return scores

    stepper.members = [Sure(1), Sure(2)]
    scores = stepper.step(torch.zeros(3, 1, dtype=torch.long))
    torch.testing.assert_close(scores[..., 1:3], torch.full((3, 1, 2), -math.log(2)))


@pytest.mark.parametrize("method", METHODS)
def test_each_one_is_heard_by_its_own_listener(bundles, images, limits, method):
    models = together(bundles[:2])
    heard = [Recorder(["text.*.cross"]) for _ in range(2)]
    with torch.no_grad():
        tokens = METHODS[method](models, models.encode(images), limits, (), heard).tokens
    begin = torch.full((*tokens.shape[:2], 1), limits.begin_id)
    before = torch.cat([begin, tokens[..., :-1]], -1)
    valid = (before != limits.end_id).flatten(1)
    for model, recorder in zip(models.members, heard, strict=True):
        passed = Recorder(["text.*.cross"])
        with torch.no_grad():
            model(images, before, passed)
        for site, maps in passed.maps.items():
            found = recorder.maps[site].transpose(1, 2)[valid]
            torch.testing.assert_close(found, maps.transpose(1, 2)[valid], atol=1e-5, rtol=0)


def test_what_does_not_go_together_is_refused(bundles, images, limits):
    models, one = together(bundles[:2]), bundles[0].model
    with pytest.raises(ValueError, match="each of several captioners has its own encoding"):
        Greedy()(models, one.encode(images), limits)
    with pytest.raises(ValueError, match="one captioner has one encoding"):
        Greedy()(one, models.encode(images), limits)
    with pytest.raises(ValueError, match="have one vocabulary, not"):
        Captioners([])


def test_a_frozen_backbone_that_several_have_runs_once(bundles, monkeypatch):
    """The first and the third have one; to the bit each is encoded as it would be alone."""
    text = bundles[0].model.text
    kinds = ((0, True), (1, True), (0, True), (0, False))
    members = [with_backbone(text, i, *kind) for i, kind in enumerate(kinds)]
    models, images = Captioners(members).eval(), torch.rand(2, 3, 32, 32)
    ran, features = [], TimmPatches.features
    with torch.no_grad():
        alone = [member.encode(images).tokens for member in models.captioners]
        monkeypatch.setattr(
            TimmPatches, "features", lambda own, x: ran.append(own) or features(own, x)
        )
        found = models.encode(images)
    assert all(torch.equal(one.tokens, other) for one, other in zip(found, alone, strict=True))
    patches = [member.vision.patches for member in members]
    assert ran == [patches[0], patches[1], patches[3]]


def with_backbone(text, seed, backbone, frozen):
    """A captioner on one of several backbones, and else with weights of its own."""
    torch.manual_seed(backbone)
    patches = TimmPatches("mobilenetv2_035", text.context_dim, (32, 32), frozen=frozen)
    torch.manual_seed(seed)
    return Captioner(VisionTransformer((32, 32), patches, 1, BlockOptions(heads=2)), text)
