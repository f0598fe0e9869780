"""Captions with words that must appear: the search equals a plain twin, which reads texts.

The twin knows no automaton: what a caption has, and what it needs, it finds by regular expressions
in the text that the tokens make, and by trying all continuations.
"""

import itertools
import math
import re
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch

from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.decoding.beam import BeamSearch
from mmattn.decoding.decoded import Limits
from mmattn.decoding.required import RequiredPhrases
from mmattn.decoding.rules import MinLength, NoRepeatNgram, Prefix, RepetitionPenalty
from mmattn.decoding.words import Words
from mmattn.errors import ConfigError
from mmattn.patches import LinearPatches
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN, END, LONGEST = 0, 1, 7
# What tokens say where a space begins a word, as in GPT-2, and where one ends it, as in CLIP.
VOCABULARIES = {
    "space first": ("", "", " a", "b", " b", " ab", ",", "a", " c", "c", " "),
    "space last": ("", "", "a ", "b", "b ", "ab ", ", ", "a", "c "),
}


def words(vocabulary: str) -> Words:
    pieces = VOCABULARIES[vocabulary]

    def ways(text: str) -> list[list[int]]:
        rest, tokens = f" {text}" if vocabulary == "space first" else f"{text} ", []
        while rest:
            fitting = [t for t, piece in enumerate(pieces) if piece and rest.startswith(piece)]
            tokens.append(max(fitting, key=lambda t: len(pieces[t])))
            rest = rest[len(pieces[tokens[-1]]) :]
        return [tokens]

    return Words([piece.encode() for piece in pieces], ways)


@cache
def pattern(phrases: str) -> re.Pattern[str]:
    """One that is found where a word begins."""
    return re.compile(f"(?<![a-z])({phrases})")


@dataclass(frozen=True)
class Phrases:
    """What the definition of `RequiredPhrases` says, by regular expressions."""

    pieces: tuple[str, ...]
    groups: tuple[str, ...]

    @cache  # noqa: B019
    def found(self, group: str, text: str) -> bool:
        """A phrase is found once something follows that is no letter; the end writes a comma."""
        whole = [f"{p[:-1]}" if p[-1] == "*" else f"{p}[^a-z]" for p in group.split("|")]
        return bool(pattern("|".join(whole)).search(text))

    @cache  # noqa: B019
    def ready(self, group: str, text: str) -> bool:
        return bool(pattern(f"({group.replace('*', '')}) *\\Z").search(text))

    @cache  # noqa: B019
    def begun(self, text: str) -> bool:
        phrases = [p for group in self.groups for p in group.replace("*", "").split("|")]
        starts = [p[:n] for p in phrases for n in range(1, len(p) + 1)]
        return bool(pattern(f"({'|'.join(starts)})\\Z").search(text)) or any(
            self.ready(group, text) for group in self.groups
        )

    def lacking(self, text: str) -> list[str]:
        return [group for group in self.groups if not self.found(group, text)]

    def steps(self, group: str, text: str) -> int:
        tail = text if len(text) < 7 else f"z{text[-6:]}"  # no phrase is as long
        return fewest(self.pieces, group, tail)

    def cost(self, group: str) -> int:
        return worst(self, group)

    @cache  # noqa: B019
    def needed(self, text: str) -> int:
        lacking = self.lacking(text)
        most = max((self.cost(g) - self.steps(g, text) for g in lacking), default=0)
        ready = sum(self.cost(g) for g in lacking if self.ready(g, text))
        return sum(self.cost(g) for g in lacking) - max(most, ready)


def written_by(phrases: Phrases, group: str, text: str) -> bool:
    return phrases.ready(group, text) or phrases.found(group, text)


@cache
def fewest(pieces: tuple[str, ...], group: str, text: str) -> int:
    """How many tokens write a phrase that the text does not have yet."""
    phrases = Phrases(pieces, (group,))
    for count in range(5):
        for more in itertools.product(filter(None, pieces), repeat=count):
            if written_by(phrases, group, text + "".join(more)):
                return count
    raise AssertionError((group, text))


@cache
def worst(phrases: Phrases, group: str) -> int:
    """The most that `fewest` says of any text, if what the text ends in is to stay."""
    pieces = list(filter(None, phrases.pieces))
    costs = []
    for text in map("".join, itertools.product(pieces, repeat=2)):
        if written_by(phrases, group, text):
            continue
        ready = [g for g in phrases.groups if phrases.ready(g, text)]
        stay = [t for t in pieces if all(phrases.found(g, text + t) for g in ready)]
        costs.append(1 + min(phrases.steps(group, text + t) for t in stay))
    return max(costs)


@dataclass(frozen=True)
class Text:
    """What a row has written: its tokens, what they say, and its score so far."""

    tokens: tuple[int, ...] = ()
    says: str = ""
    log_probs: tuple[float, ...] = ()
    score: float = 0.0

    @property
    def ended(self) -> bool:
        return self.tokens[-1:] == (END,)

    def add(self, token: int, says: str, log_prob: float, gain: float) -> "Text":
        log_probs = (*self.log_probs, log_prob)
        return Text((*self.tokens, token), self.says + says, log_probs, self.score + gain)

    def ranked(self, length_penalty: float) -> float:
        return self.score / len(self.tokens) ** length_penalty


@cache
@torch.no_grad()
def log_probs_after(model: Captioner, image, texts) -> torch.Tensor:
    """Return the log-probabilities [K, V] after K texts, by a pass over all of them."""
    tokens = torch.tensor([[[BEGIN, *tokens] for tokens in texts]])
    return model(image[None], tokens)[0, :, -1].log_softmax(-1)


def obeying(rules, scores: torch.Tensor, tokens) -> list[float]:
    scores = scores[None]
    for rule in rules:
        scores = rule(scores, torch.tensor([list(tokens)], dtype=torch.long))
    return scores[0].tolist()


def candidates(text: Text, log_probs, phrases: Phrases, rules, chosen, left, size) -> list[Text]:
    """Return the best tokens by which the text needs less, and the best others."""
    nearer, others = [], []
    for token, gain in enumerate(obeying(rules, log_probs, text.tokens)):
        says = "," if token == END else phrases.pieces[token]
        new = text.add(token, says, float(log_probs[token]), gain - chosen.count(token))
        needed = phrases.needed(new.says)
        if gain == -math.inf or needed > (0 if token == END else left):
            continue
        found = phrases.lacking(new.says) != phrases.lacking(text.says)
        before = text.says if token == END else new.says  # the end begins nothing
        near = needed < phrases.needed(text.says) and (found or phrases.begun(before))
        (nearer if near else others).append(new)
    best = [sorted(texts, key=lambda t: -t.score)[: 2 * size] for texts in (nearer, others)]
    return best[0] + best[1]


def in_turn(texts: list[Text], phrases: Phrases, size: int) -> list[Text]:
    """Return the best of every bank, then the second of every bank, and so on."""
    banks: dict[int, list[Text]] = {}
    for text in texts:
        banks.setdefault(phrases.needed(text.says), []).append(text)
    rounds = itertools.zip_longest(*(banks[need] for need in sorted(banks)))
    return [text for one in rounds for text in one if text is not None][:size]


def search(model, image, max_length, options: BeamSearch, phrases: Phrases, rules) -> list[Text]:
    """Return the captions that the search returns, best first."""
    size = options.beams // options.groups
    running = [[Text()] for _ in range(options.groups)]
    finished: list[list[Text]] = [[] for _ in range(options.groups)]
    done = [False] * options.groups

    def rank(text: Text) -> float:
        return text.ranked(options.length_penalty)

    for length in range(1, max_length + 1):
        chosen: list[int] = []
        left = max_length - length
        for g in range(options.groups):
            rows = log_probs_after(model, image, tuple(text.tokens for text in running[g]))
            found = [
                new
                for text, row in zip(running[g], rows, strict=True)
                for new in candidates(text, row, phrases, rules, chosen, left, size)
            ]
            found.sort(key=lambda text: -text.score)
            complete = [text for text in found if phrases.needed(text.says) == 0][:size]
            ends = [text for text in complete if text.ended or not left]
            if not done[g]:
                finished[g] = sorted(finished[g] + ends, key=rank, reverse=True)[:size]
            running[g] = in_turn([t for t in found if not t.ended], phrases, size)
            chosen += [text.tokens[-1] for text in running[g]] if options.diversity else []
            possible = max((rank(text) for text in running[g]), default=-math.inf)
            full = len(finished[g]) == size
            done[g] |= full and (options.early_stopping or possible <= rank(finished[g][-1]))
        if all(done):
            break
    best = sorted((t for texts in finished for t in texts), key=rank, reverse=True)
    return best[: options.returned]


def make_model(size: int, position: str = "rotary", seed: int = 0, ends: float = 0) -> Captioner:
    """A random captioner that is seldom sure of the next token; `ends` makes it end more often."""
    torch.manual_seed(seed)
    block = BlockOptions(heads=2)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block)
    text = TextTransformer(
        size, 16, 2, block, max_length=LONGEST, context_dim=16, position=position, head_bias=True
    )
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.25)
        text.head_bias[END] += ends
    return model.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))


REQUIRED = {
    "a word": ("ab",),
    "a longer word": ("abc",),
    "two words": ("ab", "c"),
    "a phrase": ("a b c",),
    "overlapping": ("a b", "b c"),
    "one in another": ("b", "a b"),
    "alternatives": ("abc|c", "ba|b c"),
    "a beginning": ("b*", "c"),
}
SEARCHES = {
    "two": BeamSearch(beams=2, returned=2),
    "four": BeamSearch(beams=4, returned=3),
    "long": BeamSearch(beams=3, length_penalty=2.0, returned=2),
    "early": BeamSearch(beams=3, early_stopping=True, returned=3),
    "groups": BeamSearch(beams=4, groups=2, diversity=1.0, returned=3),
}
RULES = {
    "none": (),
    "some": (RepetitionPenalty(1.3), NoRepeatNgram(3), MinLength(4, END)),
}


def check(model, images, vocabulary, groups, options, rules, max_length=LONGEST) -> None:
    phrases = Phrases(VOCABULARIES[vocabulary], groups)
    required = RequiredPhrases.of(words(vocabulary), groups, END)
    assert required.costs.tolist() == [phrases.cost(group) for group in groups]
    method, limits = replace(options, required=required), Limits(BEGIN, END, max_length)
    with torch.no_grad():
        found = method(model, model.encode(images), limits, rules)
    for b, image in enumerate(images.unbind()):
        expected = search(model, image, max_length, options, phrases, rules)
        assert len(expected) == options.returned
        for n, text in enumerate(expected):
            assert not phrases.lacking(f"{text.says},")
            end = len(text.tokens)
            written, log_probs = found.tokens[b, n].tolist(), found.log_probs[b, n, :end].tolist()
            assert written == [*text.tokens, *[END] * (len(written) - end)]
            assert log_probs == pytest.approx(text.log_probs, abs=1e-5)
            ranked = text.ranked(options.length_penalty)
            assert float(found.scores[b, n]) == pytest.approx(ranked, abs=1e-5)


@pytest.mark.parametrize("groups", REQUIRED)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_search_equals_its_twin(images, vocabulary, groups):
    model = make_model(len(VOCABULARIES[vocabulary]))
    check(model, images, vocabulary, REQUIRED[groups], SEARCHES["two"], ())


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("kind", SEARCHES)
def test_every_kind_of_beam_search(images, kind, rules):
    model = make_model(len(VOCABULARIES["space first"]), seed=1, ends=1.5)
    check(model, images, "space first", REQUIRED["overlapping"], SEARCHES[kind], RULES[rules])


@pytest.mark.parametrize("position", ["learned", "sinusoidal"])
@pytest.mark.parametrize("batch", [1, 2])
def test_other_models_and_batches(images, position, batch):
    model = make_model(len(VOCABULARIES["space last"]), position, seed=2)
    groups = REQUIRED["alternatives"]
    check(model, images[:batch], "space last", groups, SEARCHES["long"], ())


@pytest.mark.parametrize(("groups", "enough"), [("a word", 1), ("a phrase", 3), ("two words", 2)])
def test_captions_that_have_room_for_nothing_else(images, groups, enough):
    model, groups = make_model(len(VOCABULARIES["space first"])), REQUIRED[groups]
    check(model, images, "space first", groups, BeamSearch(beams=2), (), max_length=enough)
    required = RequiredPhrases.of(words("space first"), groups, END)
    with pytest.raises(ConfigError, match=f"takes {enough} tokens, .* and max_length={enough - 1}"):
        required.check(enough - 1)


@pytest.mark.parametrize(
    ("group", "before", "nearer"),
    [
        ("c", "a ", ["c "]),
        ("c", "a", []),  # "ac " only ends the word: a part of no phrase, though less is needed then
        ("a*", "b ", ["a ", "ab ", "a"]),  # "ab " writes past the phrase
        ("a b", "a ", ["b", "b "]),
        ("a b", "a", []),  # "a" and then a space does not exist, and "ab" begins no phrase
    ],
)
def test_tokens_of_phrases_are_candidates_by_themselves(group, before, nearer):
    pieces = VOCABULARIES["space last"]
    required = RequiredPhrases.of(words("space last"), (group,), END)
    written = torch.tensor([[pieces.index(before)]])
    scores, tokens = required.candidates(torch.zeros(1, len(pieces)), written, 1, 5)
    assert scores.shape == tokens.shape == (1, 2)
    scores, tokens = required.candidates(torch.zeros(1, len(pieces)), written, len(pieces), 5)
    size = scores.shape[-1] - len(pieces)  # those by which less is needed stand first
    found = {pieces[t] for t in tokens[0, :size][scores[0, :size] == 0].tolist()}
    assert found == set(nearer)
    others = set(tokens[0, size:][scores[0, size:] == 0].tolist())
    assert others == {t for t in range(len(pieces)) if t != END and pieces[t] not in nearer}


@pytest.mark.parametrize("kind", SEARCHES)
def test_where_every_caption_has_them_it_is_plain_beam_search(images, kind):
    model, options = make_model(len(VOCABULARIES["space first"])), SEARCHES[kind]
    required = RequiredPhrases.of(words("space first"), ("c", "a|c"), END)
    image, limits, rules = model.encode(images), Limits(BEGIN, END, LONGEST), [Prefix((8, 6))]
    plain = options(model, image, limits, rules)
    found = replace(options, required=required)(model, image, limits, rules)
    for one, other in zip(plain, found, strict=True):
        assert torch.equal(one, other)


def test_rules_that_leave_no_way_are_named(images):
    model = make_model(len(VOCABULARIES["space first"]))
    required = RequiredPhrases.of(words("space first"), ("ab",), END)
    rules = [Prefix((8, 6) * 4)]
    with pytest.raises(ConfigError, match="fewer than returned=1"):
        BeamSearch(required=required)(model, model.encode(images), Limits(0, 1, LONGEST), rules)


def test_one_beam_a_group_is_refused():
    required = RequiredPhrases.of(words("space first"), ("ab",), END)
    with pytest.raises(ConfigError, match="two beams a group"):
        BeamSearch(beams=1, required=required)
    with pytest.raises(ConfigError, match="beams=3 and groups=3"):
        BeamSearch(beams=3, groups=3, required=required)


def test_a_word_that_not_every_text_lets_begin_is_refused():
    pieces = [b"", b"", b"a", b"b", b"a "]  # behind "b" nothing parts words without a letter
    vocabulary = Words(pieces, lambda text: [[4]])
    with pytest.raises(ConfigError, match="required='a': after some words no token"):
        RequiredPhrases.of(vocabulary, ("a",), END)


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_attention_is_that_of_a_pass_over_what_was_written(images, beams, batch):
    model, images = make_model(len(VOCABULARIES["space first"])), images[:batch]
    required = RequiredPhrases.of(words("space first"), REQUIRED["two words"], END)
    search = BeamSearch(beams=beams, returned=2, required=required)
    recorder, whole = Recorder(["text.*.cross"]), Recorder(["text.*.cross"])
    limits = Limits(BEGIN, END, LONGEST)
    tokens = search(model, model.encode(images), limits, listener=recorder).tokens
    read = torch.cat([torch.full_like(tokens[..., :1], BEGIN), tokens[..., :-1]], -1)
    with torch.no_grad():
        model(images, read, whole)
    written = (read != END).flatten(1)
    assert recorder.maps.keys() == whole.maps.keys()
    for site, maps in whole.maps.items():
        found = recorder.maps[site].transpose(1, 2)[written]
        torch.testing.assert_close(found, maps.transpose(1, 2)[written], atol=1e-5, rtol=0)
