"""A classifier's architecture goes to plain values and back, whatever it reads and however."""

import json
from typing import Any

import pytest
import torch

from mmattn.architecture import FUSIONS, construct_classifier, describe
from mmattn.batch import LabelBatch
from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.errors import CheckpointError
from mmattn.fusion import CoFusion, CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BLOCK = BlockOptions(heads=2, mlp_ratio=2.0, activation="swiglu", norm="rms")
HEADS = {"answer": 4, "colour of it": 3}


def vision(dim: int = 8) -> VisionTransformer:
    return VisionTransformer((8, 12), LinearPatches(4, dim), 2, BLOCK, class_token=True)


def text(dim: int = 8) -> TextTransformer:
    return TextTransformer(20, dim, 2, BLOCK, max_length=6, causal=False)


def both(fusion, **options) -> Classifier:
    return Classifier(HEADS, vision=vision(), text=text(), fusion=fusion, **options)


CLASSIFIERS = {
    "image": lambda: Classifier(HEADS, vision=vision(12), pool="class", dropout=0.1),
    "text": lambda: Classifier(HEADS, text=text(), word_heads=["colour of it"]),
    "cross": lambda: both(CrossFusion(16, 1, BLOCK), may_miss={"image": 0.1, "text": 0.0}),
    "co": lambda: both(CoFusion(8, 2, BLOCK), word_heads=["answer"]),
    "merged": lambda: both(MergedFusion(8, 1, BLOCK), images=2),
    "gated, text": lambda: both(GatedFusion("text", 8, 2, BLOCK, every=2)),
    "gated, image": lambda: both(GatedFusion("image", 8, 2, BLOCK)),
    "pooled": lambda: both(PooledFusion(8, 2, BLOCK, queries=3)),
}


@pytest.fixture(params=CLASSIFIERS)
def model(request) -> Classifier:
    torch.manual_seed(0)
    return CLASSIFIERS[request.param]().eval()


def plain_values(model: Classifier) -> dict[str, Any]:
    """What a file would hold."""
    return json.loads(json.dumps(describe(model)))


def batch(model: Classifier) -> LabelBatch:
    generator = torch.Generator().manual_seed(1)
    rows = torch.tensor([[0, 1], [1, 0], [2, 2]])[:, : model.images]
    return LabelBatch(
        keys=tuple("abc"),
        images=torch.randn(3, 3, 8, 12, generator=generator),
        image_rows=rows,
        image_valid=None,
        tokens=torch.randint(3, 20, (3, 6), generator=generator),
        valid=torch.arange(6) < torch.tensor([6, 3, 4])[:, None],
        targets={},
        word_starts=torch.tensor([[1, 3], [1, 2], [1, 1]]),
    )


@torch.no_grad()
def test_from_plain_values_and_weights_comes_the_same_model(model):
    values = plain_values(model)
    before = json.dumps(values)
    again = construct_classifier(values).eval()
    assert json.dumps(values) == before  # the caller keeps what was described
    assert describe(again) == describe(model) == values
    again.load_state_dict(model.state_dict())
    wanted, found = model(batch(model)), again(batch(model))
    assert wanted.keys() == found.keys() == HEADS.keys()
    assert all(torch.equal(found[head], scores) for head, scores in wanted.items())


def test_every_fusion_has_a_name():
    kinds = {plain_values(make())["fusion"]["kind"] for make in list(CLASSIFIERS.values())[2:]}
    assert kinds == set(FUSIONS)


class OtherFusion(CrossFusion):
    """Somebody's own."""


class OtherClassifier(Classifier):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: both(OtherFusion(8, 1, BLOCK)), "the fusion is a OtherFusion: only cross, co, "),
        (
            lambda: OtherClassifier(HEADS, text=text()),
            r"the classifier is a .*\.OtherClassifier: only Classifier itself",
        ),
    ],
)
def test_what_is_not_this_librarys_own_is_refused_by_name(make, said):
    with pytest.raises(CheckpointError, match=said):
        describe(make())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("vision", ..., "^model has no section 'vision'$"),
        ("fusion", ..., "^model has no section 'fusion'$"),
        ("fusion", 3, "^model has no section 'fusion'$"),
        ("fusion", None, "^model: a fusion is for an image and a text encoder"),
        ("fusion.kind", "sum", "^fusion.kind is 'sum'; known: cross, co, merged, gated, pooled"),
        ("fusion.kind", ..., "^fusion.kind is None"),
        ("fusion.queries", 3, "^fusion.queries: this version of mmattn has no such setting"),
        ("fusion.block", ..., "^fusion has no section 'block'$"),
        ("fusion.block.later", 3, "^fusion.block.later: this version"),
        ("fusion.depth", 0, "^fusion: fusion.depth=0: image and text meet in one block"),
        ("heads", [4], "^model has no section 'heads'$"),
        ("heads", {}, "^model: a classifier needs a head"),
        ("word_heads", ["size"], "^model: word_heads names 'size'; the heads are"),
        ("text.causal", True, "^model: a classifier's text is an encoder"),
        ("later", 1, "^model.later: this version of mmattn has no such setting"),
        ("pool", "max", "^model: pool is 'max'"),
    ],
)
def test_values_that_do_not_fit_are_one_message(set_at, path, value, said):
    values = plain_values(CLASSIFIERS["cross"]())
    set_at(values, path, value)
    with pytest.raises(CheckpointError, match=said):
        construct_classifier(values)
