"""What ranks captions from outside chooses among what the method writes, and changes none of it."""

import pytest
import torch

from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.rules import MinLength
from mmattn.decoding.sampling import Sampling
from mmattn.errors import ConfigError
from mmattn.recorder import Recorder

LONGEST = 6


@pytest.fixture(scope="module")
def written(make_captioner):
    """Write captions of three pictures; settings are those of a method's call."""
    bundle = make_captioner(end=3.0)
    model, tokenizer = bundle.model.eval(), bundle.tokenizer
    images = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    limits = Limits(tokenizer.begin_id, tokenizer.end_id, LONGEST)

    @torch.no_grad()
    def write(method, **settings):
        return method(model, model.encode(images), limits, **settings)

    write.model, write.images, write.limits = model, images, limits
    return write


def odd(decoded):
    """A score that has nothing to do with probability."""
    tokens = decoded.tokens
    return ((tokens * torch.arange(1, tokens.shape[-1] + 1)) % 7).sum(-1).float()


ALL = {
    "samples": (Sampling(samples=6), Sampling(samples=6, returned=2)),
    "beams": (BeamSearch(beams=6, returned=6), BeamSearch(beams=6, returned=2)),
    "some beams": (
        BeamSearch(beams=6, returned=4),
        BeamSearch(beams=6, returned=2, candidates=4),
    ),
    "groups": (
        BeamSearch(beams=6, groups=2, diversity=0.5, returned=6),
        BeamSearch(beams=6, groups=2, diversity=0.5, returned=2),
    ),
    "one sample": (Sampling(), Sampling(returned=1)),
    "greedy": (Greedy(), Greedy()),
}


@pytest.mark.parametrize("kind", ALL)
def test_the_best_of_all_that_is_written_are_returned(written, kind):
    every, some = ALL[kind]
    asked = []
    found = written(some, ranking=lambda decoded: asked.append(decoded) or odd(decoded))
    whole = written(every)
    assert torch.equal(asked[0].tokens, whole.tokens)
    torch.testing.assert_close(asked[0].scores, whole.scores)
    order = odd(whole).sort(descending=True, stable=True).indices[:, :2]
    length = found.tokens.shape[-1]
    for b, places in enumerate(order.tolist()):
        assert torch.equal(found.tokens[b], whole.tokens[b, places, :length])
        torch.testing.assert_close(found.log_probs[b], whole.log_probs[b, places, :length])
        assert found.scores[b].tolist() == odd(whole)[b, places].tolist()


@pytest.mark.parametrize("kind", ["samples", "beams", "groups"])
def test_the_attention_is_that_of_the_chosen_captions(written, kind):
    recorder, passed = Recorder(["text.*.cross"]), Recorder(["text.*.cross"])
    tokens = written(ALL[kind][1], listener=recorder, ranking=odd).tokens
    begin = torch.full((*tokens.shape[:2], 1), written.limits.begin_id)
    before = torch.cat([begin, tokens[..., :-1]], -1)
    with torch.no_grad():
        written.model(written.images, before, passed)
    valid = (before != written.limits.end_id).flatten(1)
    assert recorder.maps.keys() == passed.maps.keys()
    for site, maps in passed.maps.items():
        found = recorder.maps[site].transpose(1, 2)[valid]
        torch.testing.assert_close(found, maps.transpose(1, 2)[valid], atol=1e-5, rtol=0)


def test_fewer_captions_than_are_to_be_chosen_among_are_said(written):
    class OneWay:
        def __call__(self, scores, tokens):
            left = torch.full_like(scores, float("-inf"))
            left[..., written.limits.end_id] = 0
            return left

    with pytest.raises(ConfigError, match=r"fewer than best_of=3 captions: choose among fewer"):
        written(BeamSearch(beams=3), rules=[OneWay()], ranking=odd)
    with pytest.raises(ConfigError, match=r"candidates=1: give from returned=2 to beams=4"):
        BeamSearch(beams=4, returned=2, candidates=1)
    assert written(BeamSearch(beams=3), rules=[MinLength(2, written.limits.end_id)], ranking=odd)
