"""Every decoding method writes what its plain, uncached, one-image twin writes."""

import copy
import dataclasses
import itertools
import math
from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from mmattn.batch import ImageTokens
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.automaton import PhraseAutomaton
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.greedy import Greedy
from mmattn.decoding.required import RequiredPhrases
from mmattn.decoding.rules import (
    Forbidden,
    MinLength,
    NoEndAfter,
    NoRepeatNgram,
    Prefix,
    RepetitionPenalty,
)
from mmattn.decoding.sampling import Sampling
from mmattn.decoding.stepper import Stepper
from mmattn.decoding.words import Words
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END, VOCABULARY, LONGEST = 0, 1, 9, 9


@dataclass(frozen=True)
class Text:
    """What a row has written: its tokens, the model's log-probabilities, and its score so far."""

    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    score: float = 0.0

    @property
    def ended(self) -> bool:
        return self.tokens[-1:] == (END,)

    def add(self, token: int, log_prob: float, gain: float) -> "Text":
        return Text((*self.tokens, token), (*self.log_probs, log_prob), self.score + gain)

    def ranked(self, length_penalty: float) -> float:
        return self.score / len(self.tokens) ** length_penalty


KNOWN: dict[tuple, torch.Tensor] = {}  # many searches come by the same beginnings


@torch.no_grad()
def next_logits(model: Captioner, image, tokens) -> torch.Tensor:
    """Return the logits [V] after `tokens`, by a pass over all of them."""
    key = (model, image.data_ptr(), tuple(tokens))
    if key not in KNOWN:
        KNOWN[key] = model(image[None], torch.tensor([[[BEGIN, *tokens]]]))[0, 0, -1]
    return KNOWN[key]


def after(rules, scores, tokens) -> list[float]:
    written = torch.tensor([list(tokens)], dtype=torch.long)
    scores = scores[None]
    for rule in rules:
        scores = rule(scores, written)
    return scores[0].tolist()


def greedy(model, image, max_length, rules=()) -> Text:
    text = Text()
    while len(text.tokens) < max_length and not text.ended:
        logits = next_logits(model, image, text.tokens)
        scores = after(rules, logits, text.tokens)
        best = max(range(len(scores)), key=scores.__getitem__)
        log_prob = float(logits.log_softmax(-1)[best])
        text = text.add(best, log_prob, log_prob)
    return text


def sampled(model, image, max_length, uniforms, keep, rules=()) -> Text:
    """`keep` says of a list of probabilities which tokens are left; `uniforms` are one a step."""
    text = Text()
    while len(text.tokens) < max_length and not text.ended:
        logits = next_logits(model, image, text.tokens)
        scores = torch.tensor(after(rules, logits, text.tokens))
        left = keep(scores)
        wanted = uniforms[len(text.tokens)] * sum(left)
        token = next(t for t in range(len(left)) if sum(left[: t + 1]) > wanted)
        log_prob = float(logits.log_softmax(-1)[token])
        text = text.add(token, log_prob, log_prob)
    return text


def beam_search(model, image, max_length, options, rules=()) -> list[Text]:
    """Return the captions that a beam search returns, best first."""
    size = options.beams // options.groups
    running = [[Text()] for _ in range(options.groups)]
    finished: list[list[Text]] = [[] for _ in range(options.groups)]
    done = [False] * options.groups

    def rank(text: Text) -> float:
        return text.ranked(options.length_penalty)

    for length in range(1, max_length + 1):
        chosen: Counter[int] = Counter()
        for g in range(options.groups):
            candidates = []
            for text in running[g]:
                log_probs = next_logits(model, image, text.tokens).log_softmax(-1)
                gains = after(rules, log_probs, text.tokens)
                for token, gain in enumerate(gains):
                    gain -= options.diversity * chosen[token]
                    if gain > -math.inf:
                        candidates.append(text.add(token, float(log_probs[token]), gain))
            candidates.sort(key=lambda text: -text.score)
            ends = [t for t in candidates[:size] if t.ended or length == max_length]
            if not done[g]:
                finished[g] = sorted(finished[g] + ends, key=rank, reverse=True)[:size]
            running[g] = [t for t in candidates[: 2 * size] if not t.ended][:size]
            chosen.update(text.tokens[-1] for text in running[g])
            possible = max((rank(text) for text in running[g]), default=-math.inf)
            full = len(finished[g]) == size
            done[g] |= full and (options.early_stopping or possible <= rank(finished[g][-1]))
        if all(done):
            break
    return sorted((t for found in finished for t in found), key=rank, reverse=True)[
        : options.returned
    ]


BLOCKS = {
    "pre-norm": BlockOptions(heads=4, kv_heads=2),
    "post-norm, rms": BlockOptions(
        heads=4, pre_norm=False, norm="rms", qk_norm="rms", layer_scale=0.5, activation="swiglu"
    ),
}


def make_model(position="rotary", block="pre-norm", seed=0) -> Captioner:
    """A random captioner of 9 words that is seldom sure of the next one, and ends now and then."""
    torch.manual_seed(seed)
    options = BLOCKS[block]
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, options)
    text = TextTransformer(
        VOCABULARY,
        16,
        2,
        options,
        max_length=LONGEST,
        context_dim=16,
        position=position,
        tie_embeddings=False,
    )
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Captioner:
    return make_model()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(6, 3, 8, 12, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def decode(method, model, images, rules=(), listener=None, max_length=LONGEST):
    return method(model, model.encode(images), Limits(BEGIN, END, max_length), rules, listener)


def check(decoded, expected: list[list[Text]], score) -> None:
    """Compare what was decoded with what the plain twin wrote of each image."""
    longest = max(len(text.tokens) for texts in expected for text in texts)
    assert decoded.tokens.shape == (len(expected), len(expected[0]), longest)
    for b, texts in enumerate(expected):
        for n, text in enumerate(texts):
            tokens, log_probs = decoded.tokens[b, n].tolist(), decoded.log_probs[b, n].tolist()
            end = len(text.tokens)
            assert tokens == [*text.tokens, *[END] * (longest - end)]
            assert log_probs == pytest.approx([*text.log_probs, *[0] * (longest - end)], abs=1e-5)
            assert float(decoded.scores[b, n]) == pytest.approx(score(text), abs=1e-5)


SAYS = [b"", b"", b" a", b"b", b" b", b"a", b",", b" ab", b" c"]  # the tokens, as in GPT-2
WORDS = Words(SAYS, lambda text: [[SAYS.index(letter.encode()) for letter in text]])


def phrases(*texts: str) -> PhraseAutomaton:
    return PhraseAutomaton.of(WORDS, [texts], END)


RULES = {
    "none": (),
    "length": (MinLength(6, END),),
    "repetition": (RepetitionPenalty(1.8),),
    "bigrams": (NoRepeatNgram(2),),
    "words once": (NoRepeatNgram(1),),
    "endings": (NoEndAfter(phrases("a", "b", "abb"), LONGEST),),
    "prefix": (Prefix((4, 2)),),
    "forbidden": (Forbidden(phrases("ab", "ba", "b"), LONGEST),),
    "all": (
        *(RepetitionPenalty(1.3), NoRepeatNgram(4), Prefix((5,)), MinLength(3, END)),
        *(NoEndAfter(phrases("b"), LONGEST), Forbidden(phrases("ab"), LONGEST)),
    ),
}
BEAMS = {
    "one": BeamSearch(beams=1),
    "four": BeamSearch(beams=4, returned=4),
    "long": BeamSearch(beams=3, length_penalty=2.0, returned=2),
    "short": BeamSearch(beams=3, length_penalty=0.0, returned=3),
    "early": BeamSearch(beams=3, early_stopping=True, returned=3),
    "groups": BeamSearch(beams=6, groups=3, diversity=0.7, returned=6),
    "groups of one": BeamSearch(beams=3, groups=3, diversity=2.0, returned=3),
    "more than words": BeamSearch(beams=7, returned=5),
}


@pytest.mark.parametrize(
    ("kind", "rules"),
    [
        (kind, rules)
        for kind, rules in itertools.product(BEAMS, RULES)
        if kind in ("four", "groups") or rules in ("none", "all")
    ],
)
def test_beam_search(model, images, kind, rules):
    options, rules = BEAMS[kind], RULES[rules]
    expected = [beam_search(model, image, LONGEST, options, rules) for image in images]
    found = decode(options, model, images, rules)
    check(found, expected, lambda text: text.ranked(options.length_penalty))


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("block", BLOCKS)
def test_beam_search_of_other_models(images, position, block):
    model, options = make_model(position, block, seed=3), BEAMS["four"]
    expected = [beam_search(model, image, LONGEST, options) for image in images]
    found = decode(options, model, images)
    check(found, expected, lambda text: text.ranked(1.0))


@pytest.mark.parametrize("max_length", [1, 2, 5])
def test_beam_search_ends_at_its_maximum_length(model, images, max_length):
    options = BEAMS["four"]
    expected = [beam_search(model, image, max_length, options) for image in images]
    found = decode(options, model, images, max_length=max_length)
    check(found, expected, lambda text: text.ranked(1.0))


@pytest.mark.parametrize("rules", RULES)
def test_greedy_decoding(model, images, rules):
    expected = [[greedy(model, image, LONGEST, RULES[rules])] for image in images]
    found = decode(Greedy(), model, images, RULES[rules])
    check(found, expected, lambda text: sum(text.log_probs) / len(text.log_probs))


@torch.no_grad()
def encoded(model, images) -> ImageTokens:
    return model.encode(images)


def kept(options: Sampling):
    """Return what a list of scores leaves of the probabilities, by sorting them one by one."""

    def keep(scores: torch.Tensor) -> list[float]:
        weights = [math.exp(s / options.temperature) for s in scores.tolist()]
        ranked = sorted(range(len(weights)), key=lambda token: -weights[token])
        ranked = ranked[: options.top_k]
        total, nucleus = sum(weights[token] for token in ranked), []
        for token in ranked:
            nucleus.append(token)
            if sum(weights[token] for token in nucleus) / total >= options.top_p:
                break
        least = options.min_p * weights[ranked[0]]
        left = {token for token in nucleus if weights[token] >= least}
        return [weight if token in left else 0.0 for token, weight in enumerate(weights)]

    return keep


SAMPLINGS = {
    "plain": Sampling(samples=3),
    "sharp": Sampling(temperature=0.5, samples=2, seed=1),
    "flat": Sampling(temperature=3.0, samples=2, seed=2),
    "top-k": Sampling(top_k=3, samples=3),
    "nucleus": Sampling(top_p=0.6, samples=3, seed=4),
    "min-p": Sampling(min_p=0.2, samples=3),
    "all": Sampling(temperature=1.5, top_k=6, top_p=0.9, min_p=0.05, samples=2, seed=9),
    "more words than there are": Sampling(top_k=100, samples=1),
}


@pytest.mark.parametrize("rules", ["none", "all"])
@pytest.mark.parametrize("kind", SAMPLINGS)
def test_sampling(model, images, kind, rules):
    options = SAMPLINGS[kind]
    uniforms = options.uniforms(range(len(images)), LONGEST).tolist()
    expected = [
        [sampled(model, image, LONGEST, row, kept(options), RULES[rules]) for row in own]
        for image, own in zip(images, uniforms, strict=True)
    ]
    found = decode(options, model, images, RULES[rules])
    check(found, expected, lambda text: sum(text.log_probs) / len(text.log_probs))
    assert len({text.tokens for own in expected for text in own}) > 2  # something was drawn


def test_the_best_of_many_samples_are_returned_in_order(model, images):
    every = decode(Sampling(samples=8), model, images)
    best = decode(Sampling(samples=8, returned=3), model, images)
    scores, order = every.scores.sort(dim=-1, descending=True, stable=True)
    torch.testing.assert_close(best.scores, scores[:, :3])
    for b, places in enumerate(order[:, :3]):
        assert torch.equal(best.tokens[b], every.tokens[b, places])


def test_what_is_drawn_does_not_depend_on_the_batch(model, images):
    options = Sampling(samples=2, seed=5)
    whole = decode(options, model, images)
    with torch.no_grad():
        limits = Limits(BEGIN, END, LONGEST)
        alone = options(model, model.encode(images[4:5]), limits, places=[4])
    length = alone.tokens.shape[-1]
    assert torch.equal(alone.tokens[0], whole.tokens[4, :, :length])
    other = decode(Sampling(samples=2, seed=6), model, images)
    assert not torch.equal(other.tokens[..., :2], whole.tokens[..., :2])


METHODS = {
    "greedy": Greedy(),
    "beams": BEAMS["four"],
    "one of many beams": BEAMS["long"],
    "groups": BEAMS["groups"],
    "groups of one": BEAMS["groups of one"],
    "samples": SAMPLINGS["plain"],
    "nucleus": SAMPLINGS["nucleus"],
    "all cuts": SAMPLINGS["all"],
    "best samples": Sampling(samples=5, returned=2),
    "required": BeamSearch(
        beams=4, returned=3, required=RequiredPhrases.of(WORDS, ("ab|ba", "b"), END)
    ),
}


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("method", METHODS)
def test_the_attention_is_that_of_a_pass_over_what_was_written(model, images, method, count):
    recorder, whole = Recorder(["text.*.cross"]), Recorder(["text.*.cross"])
    tokens = decode(METHODS[method], model, images[:count], listener=recorder).tokens
    begin = torch.full((*tokens.shape[:2], 1), BEGIN)
    with torch.no_grad():
        model(images[:count], torch.cat([begin, tokens[..., :-1]], -1), whole)
    written = torch.cat([begin, tokens[..., :-1]], -1)
    valid = (written != END).flatten(1)  # what follows an end was written by nobody
    assert recorder.maps.keys() == whole.maps.keys()
    for site, maps in whole.maps.items():
        found = recorder.maps[site].transpose(1, 2)[valid]
        torch.testing.assert_close(found, maps.transpose(1, 2)[valid], atol=1e-5, rtol=0)


def test_listening_changes_nothing_and_only_wanted_layers_are_kept(model, images):
    recorder = Recorder(["text.1.cross"])
    plain, heard = (decode(BEAMS["four"], model, images, listener=x) for x in (None, recorder))
    assert all(torch.equal(a, b) for a, b in zip(plain, heard, strict=True))
    assert list(recorder.maps) == ["text.1.cross"]


def test_images_that_are_done_are_not_computed_any_more(model, images, monkeypatch):
    sizes, step = [], Stepper.step
    monkeypatch.setattr(
        Stepper,
        "step",
        lambda self, tokens, *rest: (sizes.append(len(tokens)), step(self, tokens, *rest))[1],
    )
    found = decode(Sampling(seed=3), model, images)
    lengths = (found.tokens[:, 0] != END).sum(-1)
    assert sizes[0] == 6
    assert sizes[-1] < 6
    assert all(size < 2 * int((lengths >= t).sum()) for t, size in enumerate(sizes) if t)
    for method in (BEAMS["early"], METHODS["required"]):
        sizes.clear()
        decode(dataclasses.replace(method, early_stopping=True), model, images)
        assert sizes[0] == 6
        assert sizes[-1] <= 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BeamSearch(beams=4, groups=3), "beams=4 do not divide into groups=3"),
        (lambda: BeamSearch(beams=2, returned=3), "returned=3, but beams=2"),
        (lambda: BeamSearch(diversity=-1.0), "diversity=-1.0"),
        (lambda: Sampling(temperature=0.0), "temperature above 0"),
        (lambda: Sampling(top_p=0.0), r"top_p in \(0, 1\]"),
        (lambda: Sampling(min_p=1.5), "min_p in"),
        (lambda: Sampling(samples=2, returned=3), "returned from 1 to samples"),
        (lambda: RepetitionPenalty(0.0), "repetition_penalty=0.0"),
        (lambda: NoRepeatNgram(0), "no_repeat_ngram=0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_rules_that_leave_nothing_are_refused(model, images):
    nothing = (lambda scores, written: torch.full_like(scores, -torch.inf),)
    with pytest.raises(ValueError, match="forbid every token at place 0"):
        decode(Sampling(), model, images, nothing)
    with pytest.raises(ValueError, match="fewer than returned=1"):
        decode(BeamSearch(), model, images, nothing)
    with pytest.raises(ValueError, match="max_length=0"):
        decode(BeamSearch(), model, images, max_length=0)


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_float32_whatever_the_default_type(model, images, method):
    model = copy.deepcopy(model).bfloat16()
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does for precision=bf16-true
    try:
        found = decode(METHODS[method], model, images.bfloat16())
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.log_probs.dtype == found.scores.dtype == torch.float32
