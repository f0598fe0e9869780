"""Plain attention as a map of a decision: the rows that are read, on the patches."""

from dataclasses import replace

import pytest
import torch

from mmattn.batch import LabelBatch
from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.fusion import CoFusion, CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.maps.decision_attention import decision_attention
from mmattn.patches import LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.recorder import Recorder
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

D, KEYS, BLOCK = 16, 8, BlockOptions(heads=2)  # two prefix tokens and six patches
FUSIONS = {
    "cross": lambda: CrossFusion(D, 2, BLOCK),
    "co": lambda: CoFusion(D, 2, BLOCK),
    "merged": lambda: MergedFusion(D, 2, BLOCK),
    "pooled": lambda: PooledFusion(D, 2, BLOCK, queries=3),
    "gated_text": lambda: GatedFusion("text", D, 2, BLOCK),
}
SITES = {"merged": "fusion.both.1.self", "pooled": "fusion.queries.1.cross"}
every_fusion = pytest.mark.parametrize("name", FUSIONS)


def make(fusion, images=1, pooler=None) -> Classifier:
    torch.manual_seed(0)
    vision = VisionTransformer(
        (8, 12), LinearPatches(4, D), 2, BLOCK, class_token=True, registers=1, pooler=pooler
    )
    text = TextTransformer(9, D, 2, BLOCK, max_length=5, causal=False)
    may_miss = {"image": 0.0}
    parts = {"vision": vision, "text": text, "fusion": fusion}
    return Classifier({"a": 3}, **parts, images=images, may_miss=may_miss).double()


def make_batch(images=1) -> LabelBatch:
    generator = torch.Generator().manual_seed(1)
    return LabelBatch(
        keys=("a", "b", "c"),
        images=torch.randn(2, 3, 8, 12, generator=generator, dtype=torch.double),
        image_rows=torch.tensor([[0, 1], [0, 0], [1, 0]])[:, :images],
        image_valid=torch.tensor([[True], [True], [False]]).expand(-1, images),
        tokens=torch.randint(0, 9, (3, 5), generator=generator),
        valid=torch.arange(5) < torch.tensor([5, 3, 4])[:, None],
        targets={},
        missing={"image": (2,)},
    )


@every_fusion
@pytest.mark.parametrize("images", [1, 2])
def test_the_map_is_what_is_read_of_the_last_layer(name, images):
    model, batch = make(FUSIONS[name](), images), make_batch(images)
    maps = decision_attention(model, batch)
    assert maps.shape == (3, images, 2, 3)
    assert model.training
    assert not maps[2].any()
    recorder = Recorder(["*"])
    with torch.no_grad():
        model.eval()(batch, recorder)
    weights = recorder.maps[SITES.get(name, "fusion.text.1.cross")].mean(1)
    row = {"merged": images * KEYS, "pooled": slice(0, 3)}.get(name, 0)
    for b in (0, 1):
        read = weights[b, row].reshape(-1, weights.shape[-1]).mean(0)[: images * KEYS]
        expected = read.view(images, KEYS)[:, 2:]
        torch.testing.assert_close(maps[b].flatten(1), expected, atol=1e-12, rtol=0)


def test_a_pooler_is_followed_to_the_patches():
    model, batch = make(FUSIONS["cross"](), pooler=AttentionPooler(3, D, 2, D)), make_batch()
    maps = decision_attention(model, batch)
    recorder = Recorder(["*"])
    with torch.no_grad():
        model.eval()(batch, recorder)
    across = recorder.maps["fusion.text.1.cross"].mean(1)[:, 0]
    pool = recorder.maps["vision.pool"].mean(1)
    for b, image in ((0, 0), (1, 0)):
        expected = sum(across[b, q] * pool[image, q, 2:] for q in range(3))
        torch.testing.assert_close(maps[b, 0].flatten(), expected, atol=1e-12, rtol=0)
    assert not maps[2].any()


@every_fusion
def test_without_any_image_the_map_is_zero(name):
    none = replace(make_batch(), images=None, image_valid=torch.zeros(3, 1, dtype=torch.bool))
    maps = decision_attention(make(FUSIONS[name]()), replace(none, missing={"image": (0, 1, 2)}))
    assert maps.shape == (3, 1, 2, 3)
    assert not maps.any()


def test_a_summary_that_does_not_attend_to_the_image_has_no_such_map():
    model = make(GatedFusion("image", D, 2, BLOCK))
    with pytest.raises(ValueError, match="the image attends to the text"):
        decision_attention(model, make_batch())
    alone = Classifier({"a": 3}, vision=make(FUSIONS["cross"]()).vision)
    with pytest.raises(ValueError, match="there is no fusion"):
        decision_attention(alone, make_batch())
