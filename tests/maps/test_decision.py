"""Relevance of decisions with the fused kernel on equals a slow twin's, through every fusion."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmattn import attention as attention_module
from mmattn.batch import LabelBatch
from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.fusion import CoFusion, CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.gradient_recorder import GradientRecorder
from mmattn.maps.decision import decision_relevance
from mmattn.maps.relevance import attention_gradient, decoder_relevance, self_relevance
from mmattn.maps.single_examples import single_examples
from mmattn.patches import LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

D, PREFIX, GRID, TOKENS, QUERIES, VOCABULARY = 16, 2, (2, 3), 6, 3, 20
KEYS = PREFIX + GRID[0] * GRID[1]
BLOCK = BlockOptions(heads=4, kv_heads=2)
FUSIONS = {
    "cross": lambda: CrossFusion(D, 2, BLOCK),
    "co": lambda: CoFusion(D, 2, BLOCK),
    "merged": lambda: MergedFusion(D, 2, BLOCK),
    "pooled": lambda: PooledFusion(D, 2, BLOCK, queries=QUERIES),
    "gated_text": lambda: GatedFusion("text", D, 2, BLOCK),
    "gated_image": lambda: GatedFusion("image", D, 2, BLOCK),
}
# The attention calls of each model in the order in which they run: who asked whom. `i` image, `t`
# text, `q` queries, `b` image and text as one. Where a "|" stands, keys and values are projected.
PROGRAMS = {
    "cross": "ii ii tt tt | tt ti | tt ti",
    "co": "ii ii tt tt | ii it tt ti | ii it tt ti",
    "merged": "ii ii tt tt | bb | bb",
    "pooled": "ii ii tt tt | qq qb | qq qb",
    "gated_text": "ii ii | ti tt | ti tt",
    "gated_image": "tt tt | it ii | it ii",
    "image": "ii ii",
    "image_class": "ii ii",
    "text": "tt tt",
    "text_mean": "tt tt",
}
READS = {
    "co": ["t first", "i mean"],
    "merged": ["b text"],
    "pooled": ["q mean"],
    "gated_image": ["i mean"],
    "image": ["i mean"],
    "image_class": ["i first"],
    "text_mean": ["t mean"],
}
every_model = pytest.mark.parametrize("name", PROGRAMS)
every_fusion = pytest.mark.parametrize("name", FUSIONS)


def make(name: str, pooler: AttentionPooler | None = None, **options) -> Classifier:
    torch.manual_seed(0)
    vision = VisionTransformer(
        (8, 12), LinearPatches(4, D), 2, BLOCK, class_token=True, registers=1, pooler=pooler
    )
    text = TextTransformer(VOCABULARY, D, 2, BLOCK, max_length=TOKENS, causal=False)
    if name in FUSIONS:
        options = {"may_miss": {"image": 0.0, "text": 0.0}, "fusion": FUSIONS[name](), **options}
    pool = "class" if name in ("image_class", "text") else "mean"
    model = Classifier(
        {"answer": 4, "colour": 3},
        vision=None if name.startswith("text") else vision,
        text=None if name.startswith("image") else text,
        pool=pool,
        **options,
    )
    with torch.no_grad():  # weights far from uniform and gates open, so that errors would show
        for key, parameter in model.named_parameters():
            if "attention.to_q.weight" in key or "attention.to_kv.weight" in key:
                parameter.mul_(3)
            elif key.endswith("_gate"):
                parameter.fill_(0.7)
            elif key == "image_places":
                parameter.normal_()
    return model.double().eval()


def make_batch(images: int = 1, **changes) -> LabelBatch:
    """Five examples of three images. The third has no image where `lacking`, the fourth no text."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.tensor([[0, 1], [0, 2], [1, 0], [2, 1], [1, 1]])[:, :images]
    lengths = torch.tensor([6, 3, 4, 2, 5])
    values = {
        "keys": tuple("abcde"),
        "images": torch.randn(3, 3, 8, 12, generator=generator, dtype=torch.double),
        "image_rows": rows,
        "image_valid": None,
        "tokens": torch.randint(3, VOCABULARY, (5, TOKENS), generator=generator),
        "valid": torch.arange(TOKENS) < lengths[:, None],
        "targets": {},
    }
    return LabelBatch(**{**values, **changes})


def lacking(batch: LabelBatch) -> LabelBatch:
    """The batch without the image of the third example and without the text of the fourth."""
    there = torch.ones_like(batch.image_rows, dtype=torch.bool)
    there[2] = False
    valid = batch.valid.clone()
    valid[3, 1:] = False
    return replace(batch, image_valid=there, valid=valid, missing={"image": (2,), "text": (3,)})


def one(batch: LabelBatch, b: int) -> LabelBatch:
    """Example b with images of its own."""
    ((_, alone),) = single_examples(batch.select([b]), 1)
    return alone


class Eager:
    """One example, with attention as an explicit softmax whose weights autograd can see."""

    def __init__(self, monkeypatch, model, batch, head="answer", choice=None, word=None):
        self.weights: list[torch.Tensor] = []
        with monkeypatch.context() as patch:
            patch.setattr(attention_module, "attend", self.attend)
            scores = model(batch)[head][0]
        scores = scores if word is None else scores[word]
        self.choice = int(scores.argmax()) if choice is None else choice
        self.probability = float(scores.detach().softmax(-1)[self.choice])
        gradients = torch.autograd.grad(scores[self.choice], self.weights, allow_unused=True)
        self.attended = [  # of each call [rows of images or texts, T, S]
            np.zeros((len(p), *p.shape[2:]))
            if g is None
            else (p * g).clamp(min=0).mean(1).detach().numpy()
            for p, g in zip(self.weights, gradients, strict=True)
        ]

    def attend(self, q, k, v, mask=None, *, causal=False, dropout=0.0):
        assert not causal
        assert not dropout
        serves = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(serves, 1), v.repeat_interleave(serves, 1)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e30)
        weights = scores.softmax(-1)
        weights = weights if mask is None else weights * mask
        self.weights.append(weights)
        return weights @ v


def bar(relevance):
    """Equations 8 and 9, row by row, a row without relevance left as it is."""
    brought = relevance - np.eye(*relevance.shape)
    return np.eye(*relevance.shape) + np.array(
        [row / row.sum() if row.sum() > 0 else row for row in brought]
    )


class Paper:
    """R as the paper writes it: a matrix for every pair of streams, for one example."""

    def __init__(self, sizes: dict[str, int]):
        self.r = {
            (a, b): np.eye(n) if a == b else np.zeros((n, m))
            for a, n in sizes.items()
            for b, m in sizes.items()
        }
        self.before = dict(self.r)

    def own(self, s, attended):  # equations 6 and 7
        for a, b in self.r:
            if a == s:
                self.r[a, b] = self.r[a, b] + attended @ self.r[a, b]

    def across(self, s, q, attended):  # equations 10 and 11
        own, back = self.r[s, s], self.before[q, s]
        self.r[s, q] = self.r[s, q] + bar(own).T @ attended @ bar(self.before[q, q])
        self.r[s, s] = own + attended @ back

    def merge(self):
        """Make one stream `b` of image and text, which have not met yet."""
        image, text = self.r.pop(("i", "i")), self.r.pop(("t", "t"))
        n, m = len(image), len(text)
        assert not self.r.pop(("i", "t")).any()
        assert not self.r.pop(("t", "i")).any()
        both = np.block([[image, np.zeros((n, m))], [np.zeros((m, n)), text]])
        for a, b in list(self.r):
            if a != b:
                del self.r[a, b]
        self.r["b", "b"] = both
        if ("q", "q") in self.r:
            size = len(self.r["q", "q"])
            self.r["q", "b"], self.r["b", "q"] = np.zeros((size, n + m)), np.zeros((n + m, size))


def blocks(attended):
    """The Ā of several images that do not meet, as one matrix."""
    count, queries, keys = attended.shape
    joint = np.zeros((count * queries, count * keys))
    for m, each in enumerate(attended):
        joint[m * queries : (m + 1) * queries, m * keys : (m + 1) * keys] = each
    return joint


def followed(name, attended, images) -> Paper:
    """Play a model's program with the paper's rules."""
    program = PROGRAMS[name].split()
    sizes = {"i": images * KEYS, "t": TOKENS}
    paper = Paper(sizes | ({"q": QUERIES} if name == "pooled" else {}))
    calls = iter(attended)
    for step in program:
        if step == "|":
            if "b" in PROGRAMS[name] and ("b", "b") not in paper.r:
                paper.merge()
            paper.before = dict(paper.r)
        elif step[0] == step[1]:
            paper.own(step[0], blocks(next(calls)))
        else:
            paper.across(step[0], step[1], blocks(next(calls)))
    assert next(calls, None) is None
    return paper


def expected(name, attended, batch, word=None):
    """The relevance of image tokens [M, P + S] and of text tokens [T] for one example."""
    images = batch.image_rows.shape[1]
    paper, parts = followed(name, attended, images), []
    seen = np.ones(images * KEYS, dtype=bool)
    if batch.image_valid is not None:
        seen = batch.image_valid[0].numpy().repeat(KEYS)
    valid = {"i": seen, "t": batch.valid[0].numpy(), "q": np.ones(QUERIES, dtype=bool)}
    for read in READS.get(name, ["t first"]):
        s, how = read.split()
        rows = {b: r - np.eye(*r.shape) * (a == b) for (a, b), r in paper.r.items() if a == s}
        place = {"text": images * KEYS, "first": 0, "mean": None}[how]
        if word is not None:
            place = int(batch.word_starts[0, word]) + (images * KEYS if s == "b" else 0)
        if place is not None:
            parts.append({b: r[place] for b, r in rows.items()})
        elif valid[s].any():
            parts.append({b: r[valid[s]].mean(0) for b, r in rows.items()})
        else:
            parts.append({b: np.zeros(r.shape[1]) for b, r in rows.items()})
    total = {b: sum(part[b] for part in parts) / len(parts) for b in parts[0]}
    if "b" in total:
        total["i"], total["t"] = np.split(total["b"], [images * KEYS])
    nothing = {"i": np.zeros(images * KEYS), "t": np.zeros(TOKENS)}
    total = nothing | total
    text = np.zeros(TOKENS) if batch.missing.get("text") else total["t"]
    return total["i"].reshape(images, KEYS), text


def check_example(name, found, b, eager, batch, word=None):
    image, text = expected(name, eager.attended, batch, word)
    largest = 0.0
    if found.image is not None:
        maps = found.image[b].flatten(1).numpy()
        np.testing.assert_allclose(maps, image[:, PREFIX:], atol=1e-10, rtol=0)
        largest = max(largest, float(np.abs(maps).max()))
    if found.text is not None:
        np.testing.assert_allclose(found.text[b].numpy(), text, atol=1e-10, rtol=0)
        largest = max(largest, float(found.text[b].abs().max()))
    assert int(found.classes[b]) == eager.choice
    assert float(found.probability[b]) == pytest.approx(eager.probability, abs=1e-12)
    return largest


@every_model
def test_relevance_is_that_of_the_slow_twin(name, monkeypatch):
    model, batch = make(name), make_batch()
    found = decision_relevance(model, batch, "answer")
    assert (found.image is None) == name.startswith("text")
    assert (found.text is None) == name.startswith("image")
    for b in range(5):
        alone = one(batch, b)
        eager = Eager(monkeypatch, model, alone)
        assert check_example(name, found, b, eager, alone) > 1e-5


@every_fusion
def test_missing_images_and_texts_have_exactly_no_relevance(name, monkeypatch):
    model, batch = make(name), lacking(make_batch())
    found = decision_relevance(model, batch, "answer")
    assert found.image is not None
    assert found.text is not None
    assert not found.image[2].any()
    assert not found.text[3].any()
    assert not found.text[~batch.valid].any()
    for b in range(5):
        check_example(name, found, b, Eager(monkeypatch, model, one(batch, b)), one(batch, b))


@every_fusion
def test_a_batch_without_any_image_is_explained_by_its_texts(name):
    model, batch = make(name), make_batch()
    without = torch.zeros(5, 1, dtype=torch.bool)
    none = replace(batch, images=None, image_valid=without, missing={"image": tuple(range(5))})
    found = decision_relevance(model, none, "answer")
    masked = decision_relevance(model, replace(none, images=batch.images), "answer")
    assert found.image is not None
    assert found.image.shape == (5, 1, *GRID)
    assert not found.image.any()
    torch.testing.assert_close(found.text, masked.text, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["cross", "co", "merged", "pooled", "gated_text"])
def test_two_images_have_a_map_each(name, monkeypatch):
    model, batch = make(name, images=2), make_batch(images=2)
    assert batch.image_rows.shape == (5, 2)
    there = torch.ones(5, 2, dtype=torch.bool)
    there[1, 1] = False
    batch = replace(batch, image_valid=there)
    found = decision_relevance(model, batch, "answer", at_once=2)
    assert found.image is not None
    assert found.image.shape == (5, 2, *GRID)
    assert not found.image[1, 1].any()
    for b in range(5):
        alone = one(batch, b)
        check_example(name, found, b, Eager(monkeypatch, model, alone), alone)


def test_another_class_of_another_head_can_be_asked_for(monkeypatch):
    model, batch = make("co"), make_batch()
    classes = torch.tensor([2, 0, 1, 1, 2])
    found = decision_relevance(model, batch, "colour", classes)
    assert torch.equal(found.classes, classes)
    for b in range(5):
        alone = one(batch, b)
        eager = Eager(monkeypatch, model, alone, "colour", int(classes[b]))
        check_example("co", found, b, eager, alone)
    shares = decision_relevance(model, batch, "colour", classes, kind="multi").probability
    own = model(batch)["colour"].sigmoid().gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(shares, own.detach())


@pytest.mark.parametrize("name", ["cross", "co", "merged", "gated_text", "text"])
def test_a_word_is_explained_by_what_its_first_token_saw(name, monkeypatch):
    model = make(name, word_heads=["answer"])
    batch = make_batch(
        word_starts=torch.tensor([[1, 3, 4], [1, 2, 0], [1, 3, 0], [1, 0, 0], [1, 3, 4]])
    )
    word = torch.tensor([2, 1, 1, 0, 2])
    found = decision_relevance(model, batch, "answer", word=word, kind="words")
    for b in range(5):
        alone, own = one(batch, b), int(word[b])
        eager = Eager(monkeypatch, model, alone, word=own)
        if name == "text":
            paper = followed("text", eager.attended, 1)
            row = (paper.r["t", "t"] - np.eye(TOKENS))[int(alone.word_starts[0, own])]
            np.testing.assert_allclose(found.text[b].numpy(), row, atol=1e-10, rtol=0)
        else:
            check_word(name, found, b, eager, alone, own)


def check_word(name, found, b, eager, alone, word):
    """As `check_example`; of co-attention the image's own summary is not read."""
    reads = READS.get(name)
    READS[name] = [read for read in reads or ["t first"] if read[0] != "i"]
    try:
        assert check_example(name, found, b, eager, alone, word) > 1e-6
    finally:
        READS.pop(name)
        if reads is not None:
            READS[name] = reads


def recorded(model, batch):
    """Ā of every site of one pass, by its name."""
    recorder = GradientRecorder(["*"])
    scores = model(batch, recorder)["answer"]
    recorder.differentiate(scores.amax(-1).sum())
    return {
        site: attention_gradient(recorder.weights(site), recorder.gradients(site))
        for site in recorder.met
    }


def eye(size):
    return torch.eye(size, dtype=torch.double).expand(1, -1, -1)


def test_merged_is_the_rule_of_pure_self_attention():
    model, batch = make("merged"), one(make_batch(), 0)
    found, attended = decision_relevance(model, batch, "answer"), recorded(model, batch)
    parts = [
        self_relevance([attended[f"{stack}.{i}.self"] for i in range(2)], eye(size))[0]
        for stack, size in (("vision", KEYS), ("text", TOKENS))
    ]
    start = torch.block_diag(*parts)[None]
    both = self_relevance([attended[f"fusion.both.{i}.self"] for i in range(2)], start)
    row = (both - eye(KEYS + TOKENS))[0, KEYS]
    torch.testing.assert_close(found.image[0, 0].flatten(), row[PREFIX:KEYS], atol=1e-12, rtol=0)
    torch.testing.assert_close(found.text[0], row[KEYS:], atol=1e-12, rtol=0)


def test_cross_is_the_rule_of_encoder_and_decoder():
    """The text's encoder is a decoder's first layers, without cross-attention of their own."""
    model, batch = make("cross"), one(make_batch(), 0)
    found, attended = decision_relevance(model, batch, "answer"), recorded(model, batch)
    image = self_relevance([attended[f"vision.{i}.self"] for i in range(2)], eye(KEYS))
    nothing = torch.zeros(1, TOKENS, KEYS, dtype=torch.double)
    layers = [(attended[f"text.{i}.self"], nothing) for i in range(2)]
    layers += [
        (attended[f"fusion.text.{i}.self"], attended[f"fusion.text.{i}.cross"]) for i in (0, 1)
    ]
    row = decoder_relevance(layers, image)[0, 0, PREFIX:]
    assert row.max() > 1e-5
    torch.testing.assert_close(found.image[0, 0].flatten(), row, atol=1e-12, rtol=0)


def test_co_attention_looks_at_the_other_stream_as_it_was():
    """Were the text given the image of after its update, it would hear of itself at once."""
    model, batch = make("co"), one(make_batch(), 0)
    attended = recorded(model, batch)
    paper = Paper({"i": KEYS, "t": TOKENS})
    for site in ("vision.0.self", "vision.1.self"):
        paper.own("i", attended[site][0].numpy())
    paper.before = dict(paper.r)
    paper.across("i", "t", attended["fusion.image.0.cross"][0].numpy())
    own = paper.r["t", "t"].copy()
    paper.across("t", "i", attended["fusion.text.0.cross"][0].numpy())
    assert np.array_equal(paper.r["t", "t"], own)  # equation 11 with R^it of before: zero


@every_model
def test_examples_are_explained_in_parts_of_any_size_and_alone(name):
    model, batch = make(name), make_batch()
    whole = decision_relevance(model, batch, "answer", at_once=100)
    for at_once in (1, 2):
        parts = decision_relevance(model, batch, "answer", at_once=at_once)
        for a, b in zip(vars(parts).values(), vars(whole).values(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    for b in range(5):
        alone = one(batch, b)
        length = int(batch.valid[b].sum())
        bare = replace(alone, tokens=alone.tokens[:, :length], valid=alone.valid[:, :length])
        own = decision_relevance(model, bare, "answer")
        if whole.image is not None:
            torch.testing.assert_close(own.image[0], whole.image[b], atol=1e-12, rtol=0)
        if whole.text is not None:
            torch.testing.assert_close(own.text[0], whole.text[b, :length], atol=1e-12, rtol=0)
            assert not whole.text[b, length:].any()


@every_fusion
def test_images_that_are_shared_are_as_copies_of_their_own(name):
    model, batch = make(name), make_batch()
    ((_, copies),) = single_examples(batch, 5)
    assert len(copies.images) == 5
    shared, own = (decision_relevance(model, each, "answer") for each in (batch, copies))
    assert torch.equal(shared.image, own.image)
    assert torch.equal(shared.text, own.text)


@pytest.mark.parametrize("name", ["cross", "gated_image"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_may_be_off_and_nothing_is_touched(name, mode):
    model, batch = make(name), make_batch()
    expected = decision_relevance(model, batch, "answer")
    model.train()
    model.requires_grad_(False)
    model.heads.requires_grad_(True)
    for parameter in model.heads.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = deepcopy(model)
    with mode():
        made = replace(
            batch,
            images=batch.images + 0,
            tokens=batch.tokens + 0,
            valid=batch.valid & True,
            image_rows=batch.image_rows + 0,
        )
        found = decision_relevance(model, made, "answer")
    torch.testing.assert_close(found.image, expected.image, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.text, expected.text, atol=1e-12, rtol=0)
    assert all(module.training for module in model.modules())
    for a, b in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad == b.requires_grad
        assert (a.grad is None) == (not a.requires_grad)
        assert a.grad is None or torch.equal(a.grad, torch.ones_like(a))
    assert not found.image.requires_grad
    assert not found.probability.requires_grad


def test_cached_features_are_explained_as_their_images(monkeypatch):
    model, batch = make("cross"), make_batch()
    expected = decision_relevance(model, batch, "answer")
    monkeypatch.setattr(VisionTransformer, "project", lambda self, features: features)
    features = model.vision.patches(batch.images).detach()
    cached = replace(batch, images=features, cached=True)
    found = decision_relevance(model, cached, "answer")
    torch.testing.assert_close(found.image, expected.image, atol=1e-12, rtol=0)


def test_relevance_goes_through_a_pooler_to_the_patches(monkeypatch):
    """Patches p, a pooler's two tokens i that ask them, and the text t that asks those."""
    pooler = AttentionPooler(2, D, 4, D)
    model, batch = make("cross", pooler=pooler), make_batch()
    found = decision_relevance(model, batch, "answer")
    assert found.image.shape == (5, 1, *GRID)
    for b in range(5):
        eager = Eager(monkeypatch, model, one(batch, b))
        v0, v1, pool, t0, t1, s0, c0, s1, c1 = (a[0] for a in eager.attended)
        patches = (np.eye(KEYS) + v1) @ (np.eye(KEYS) + v0)
        of_pooled = pool @ bar(patches)  # R^ip; R^ii stays I
        rest = np.concatenate([np.eye(2), of_pooled], 1)  # what the keys are made of: i, then p
        text = (np.eye(TOKENS) + t1) @ (np.eye(TOKENS) + t0)
        row = np.zeros((TOKENS, 2 + KEYS))
        brought = of_pooled / np.where(of_pooled.sum(1) > 0, of_pooled.sum(1), 1)[:, None]
        rest = np.concatenate([np.eye(2), brought], 1)
        for own, across in ((s0, c0), (s1, c1)):
            row, text = row + own @ row, text + own @ text
            row = row + bar(text).T @ across @ rest
        maps = found.image[b, 0].flatten().numpy()
        np.testing.assert_allclose(maps, row[0, 2 + PREFIX :], atol=1e-10, rtol=0)
        assert maps.max() > 1e-6


def test_words_add_up_their_pieces():
    tokenizer = CaptionTokenizer.train(["does it carry the mark acute?"] * 3, 275)
    torch.manual_seed(0)
    model = make("cross")
    text = TextTransformer(tokenizer.vocab_size, D, 1, BLOCK, max_length=40, causal=False)
    model = Classifier(
        {"answer": 2},
        vision=model.vision,
        text=text,
        fusion=CrossFusion(D, 1, BLOCK),
        may_miss={"text": 0.0},
    ).double()
    ids = [tokenizer.begin_id, *tokenizer.encode("does it carry"), tokenizer.end_id]
    tokens = torch.tensor([ids, ids])
    valid = torch.ones_like(tokens, dtype=torch.bool)
    valid[1, 1:] = False
    batch = make_batch().select([0, 1])
    batch = replace(batch, tokens=tokens, valid=valid, missing={"text": (1,)})
    found = decision_relevance(model, batch, "answer")
    words, none = found.words(tokenizer)
    assert none == []
    assert [word.text for word, _ in words] == ["does", "it", "carry"]
    assert len(words[0][0].tokens) > 1
    for word, worth in words:
        own = sum(float(found.text[0, 1 + t]) for t in word.tokens)
        assert worth == pytest.approx(own, rel=1e-9)
    total = float(found.text[0, 1:-1].sum())
    assert sum(worth for _, worth in words) == pytest.approx(total, rel=1e-9)
    with pytest.raises(ValueError, match="reads no text"):
        decision_relevance(make("image"), make_batch(), "answer").words(tokenizer)


def test_float32_bf16_and_autocast_have_relevance_too():
    model, batch = make("cross"), make_batch()
    expected = decision_relevance(model, batch, "answer")
    single = replace(batch, images=batch.images.float())
    found = decision_relevance(model.float(), single, "answer")
    torch.testing.assert_close(found.image, expected.image.float(), atol=1e-5, rtol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        cast = decision_relevance(model, single, "answer", expected.classes)
    half = decision_relevance(
        model.bfloat16(), replace(batch, images=batch.images.bfloat16()), "answer", expected.classes
    )
    for each in (cast, half):
        assert each.image.dtype == torch.float32
        alike = torch.cosine_similarity(each.image.flatten(), found.image.flatten(), dim=0)
        assert float(alike) > 0.95


def test_what_there_is_not_is_said():
    model, batch = make("cross"), make_batch()
    with pytest.raises(ValueError, match="no head 'mood': the heads are answer, colour"):
        decision_relevance(model, batch, "mood")
    with pytest.raises(ValueError, match="class 3 of 'colour': its classes are 0 to 2"):
        decision_relevance(model, batch, "colour", torch.tensor([0, 1, 2, 3, 0]))
    with pytest.raises(ValueError, match="at_once=0: at least one example"):
        decision_relevance(model, batch, "answer", at_once=0)
    with pytest.raises(ValueError, match="labels the whole, not words"):
        decision_relevance(model, batch, "answer", word=torch.zeros(5, dtype=torch.long))
    words = make("cross", word_heads=["answer"])
    with pytest.raises(ValueError, match="labels every word: say with `word`"):
        decision_relevance(words, batch, "answer")
    split = replace(batch, word_starts=torch.tensor([[1, 2], [1, 0], [1, 2], [1, 0], [1, 2]]))
    with pytest.raises(ValueError, match="b has 1 words: there is no word 1"):
        decision_relevance(words, split, "answer", word=torch.ones(5, dtype=torch.long))
