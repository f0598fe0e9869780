"""The classifier: image, text or both to scores, with what is missing left out and not guessed."""

from dataclasses import replace

import pytest
import torch

from mmattn.batch import LabelBatch
from mmattn.blocks import BlockOptions
from mmattn.classifier import Classifier
from mmattn.fusion import CrossFusion, GatedFusion, MergedFusion, PooledFusion
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BLOCK = BlockOptions(heads=4)
V, T, B, U = 20, 6, 5, 3


def vision(dim: int = 16, **options) -> VisionTransformer:
    return VisionTransformer((8, 12), LinearPatches(4, dim), 2, BLOCK, **options)


def encoder(dim: int = 16) -> TextTransformer:
    return TextTransformer(V, dim, 2, BLOCK, max_length=T, causal=False)


FUSIONS = {
    "cross": lambda: CrossFusion(16, 1, BLOCK),
    "merged": lambda: MergedFusion(16, 1, BLOCK),
    "gated_text": lambda: GatedFusion("text", 16, 2, BLOCK),
    "gated_image": lambda: GatedFusion("image", 16, 2, BLOCK),
    "none": lambda: None,
}


def make(fusion: str = "cross", **options) -> Classifier:
    torch.manual_seed(0)
    parts = {"vision": vision(), "text": encoder(), "fusion": FUSIONS[fusion]()}
    model = Classifier({"answer": 4, "colour": 3}, **{**parts, **options}).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(0.5)
    return model


def batch(**changes) -> LabelBatch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([6, 3, 4, 2, 5])
    values = {
        "keys": tuple("abcde"),
        "images": torch.randn(U, 3, 8, 12, generator=generator, dtype=torch.double),
        "image_rows": torch.tensor([[0], [0], [1], [2], [1]]),
        "image_valid": None,
        "tokens": torch.randint(3, V, (B, T), generator=generator),
        "valid": torch.arange(T) < lengths[:, None],
        "targets": {},
    }
    return LabelBatch(**{**values, **changes})


def alone(one: LabelBatch, b: int) -> LabelBatch:
    """Example b with an image of its own and no padding."""
    length = int(one.valid[b].sum())
    assert one.images is not None
    return replace(
        one.select([b]),
        images=one.images[one.image_rows[b]],
        image_rows=torch.zeros(1, one.image_rows.shape[1], dtype=torch.long)
        + torch.arange(one.image_rows.shape[1]),
        tokens=one.tokens[b : b + 1, :length],
        valid=one.valid[b : b + 1, :length],
    )


@pytest.mark.parametrize("fusion", ["cross", "merged", "gated_text", "gated_image"])
def test_examples_that_share_an_image_are_as_each_alone(fusion):
    model, together = make(fusion), batch()
    scores = model(together)
    assert {name: tuple(found.shape) for name, found in scores.items()} == {
        "answer": (B, 4),
        "colour": (B, 3),
    }
    for b in range(B):
        own = model(alone(together, b))
        for head, found in scores.items():
            torch.testing.assert_close(own[head][0], found[b], rtol=0, atol=1e-12)


def test_an_image_is_encoded_once_for_all_its_texts():
    model, encoded = make(), []
    assert model.vision is not None
    model.vision.patches.register_forward_hook(lambda _, __, out: encoded.append(len(out)))
    model(batch())
    assert encoded == [U]


@pytest.mark.parametrize("fusion", ["cross", "merged", "gated_text"])
def test_two_images_are_told_apart(fusion):
    model = make(fusion, images=2)
    assert model.image_places is not None
    with torch.no_grad():
        model.image_places.normal_(generator=torch.Generator().manual_seed(4))
    rows = torch.tensor([[0, 1], [1, 0], [1, 2], [2, 2], [0, 2]])
    pairs = batch(image_rows=rows)
    scores = model(pairs)["answer"]
    turned = model(replace(pairs, image_rows=rows.flip(1)))["answer"]
    different = (scores - turned).abs().amax(1) > 1e-6
    assert different.tolist() == [True, True, True, False, True]
    for b in range(B):
        own = model(alone(pairs, b))["answer"]
        torch.testing.assert_close(own[0], scores[b], rtol=0, atol=1e-12)


def test_more_images_than_the_model_was_made_for_are_refused():
    with pytest.raises(ValueError, match=r"2 images an example.*made for 1: set model.images"):
        make()(batch(image_rows=torch.zeros(B, 2, dtype=torch.long)))


@pytest.mark.parametrize("fusion", ["cross", "merged", "gated_text", "gated_image"])
def test_a_missing_image_is_looked_at_by_nobody(fusion):
    model = make(fusion, may_miss={"image": 0.0})
    lacking = batch(
        image_valid=torch.tensor([[True], [False], [True], [False], [True]]),
        missing={"image": (1, 3), "text": ()},
    )
    assert lacking.images is not None
    scores = model(lacking)["answer"]
    other = model(replace(lacking, images=lacking.images.flip(0)))["answer"]
    without = [1, 3]
    torch.testing.assert_close(scores[without], other[without], rtol=0, atol=1e-12)
    assert (scores[[0, 2]] - other[[0, 2]]).abs().max() > 1e-6
    none = replace(lacking, images=None, image_valid=torch.zeros(B, 1, dtype=torch.bool))
    torch.testing.assert_close(model(none)["answer"][without], scores[without])


@pytest.mark.parametrize(("what", "named"), [("image", "d"), ("text", "b")])
def test_what_the_model_was_not_to_miss_is_named(what, named):
    missing = {"image": (3,), "text": (1,)}
    model = make(may_miss={other: 0.1 for other in missing if other != what})
    with pytest.raises(ValueError, match=rf"{named} has no {what}.*model.may_miss.{what}=0.1"):
        model(batch(missing=missing))


def test_modalities_are_withheld_as_often_as_asked_and_never_both():
    model = make(may_miss={"image": 0.3, "text": 0.2}).train()
    many = batch(
        keys=("x",) * 20000,
        image_rows=torch.zeros(20000, 1, dtype=torch.long),
        tokens=torch.zeros(20000, T, dtype=torch.long),
        valid=torch.ones(20000, T, dtype=torch.bool),
    )
    torch.manual_seed(0)
    seen, read = model._withheld(many)
    assert seen is not None
    without_image, without_text = ~seen[:, 0], read.sum(1) == 1
    assert abs(without_image.double().mean() - 0.3) < 0.01
    assert abs(without_text.double().mean() - 0.2) < 0.01
    assert not (without_image & without_text).any()
    assert read[:, 0].all()
    assert model.eval()._withheld(many)[0] is None


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_images_alone(pool):
    model = make("none", text=None, vision=vision(class_token=True), pool=pool)
    assert model.vision is not None
    found = model(batch(tokens=torch.zeros(B, 1).long(), valid=torch.ones(B, 1).bool()))
    tokens = model.vision(batch().images).tokens[batch().image_rows[:, 0]]
    summary = tokens.mean(1) if pool == "mean" else tokens[:, 0]
    torch.testing.assert_close(found["answer"], model.heads["answer"](summary))
    assert model.reads == (("image", "mean" if pool == "mean" else "first"),)


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_texts_alone_without_their_padding(pool):
    model, texts = make("none", vision=None, pool=pool), batch(images=None)
    assert model.text is not None
    found = model(texts)["answer"]
    for b in range(B):
        length = int(texts.valid[b].sum())
        hidden = model.text(texts.tokens[b : b + 1, :length])[0]
        summary = hidden.mean(0) if pool == "mean" else hidden[0]
        torch.testing.assert_close(found[b], model.heads["answer"](summary))


@pytest.mark.parametrize("fusion", ["cross", "merged", "gated_text"])
def test_words_are_read_at_their_first_token(fusion):
    model = make(fusion, word_heads=["colour"])
    starts = torch.tensor([[1, 3, 4], [1, 2, 0], [1, 2, 3], [1, 0, 0], [2, 3, 4]])
    words = batch(word_starts=starts)
    found = model(words)
    assert found["answer"].shape == (B, 4)
    assert found["colour"].shape == (B, 3, 3)
    hidden = model.fuse(words).text
    assert hidden is not None
    torch.testing.assert_close(found["colour"][4, 1], model.heads["colour"](hidden[4, 3]))


def test_texts_that_are_not_in_words_have_no_labels_of_words():
    with pytest.raises(ValueError, match="'colour' labels words"):
        make(word_heads=["colour"])(batch())


def test_widths_are_bridged():
    model = make(vision=vision(12), text=encoder(20))
    assert model(batch())["answer"].shape == (B, 4)


def test_selected_examples_are_as_before():
    model, together = make(may_miss={"image": 0.0, "text": 0.0}), batch(missing={"image": (3,)})
    some = together.select([3, 0])
    assert some.keys == ("d", "a")
    assert some.missing == {"image": (0,)}
    torch.testing.assert_close(model(some)["answer"], model(together)["answer"][[3, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": {}}, "needs a head"),
        ({"heads": {"answer": 0}}, "'answer' has no class"),
        ({"heads": {"type": 2}}, "cannot be called 'type'"),
        ({"heads": {"a.b": 2}}, "cannot be called 'a.b'"),
        ({"heads": {"answer": 2}, "word_heads": ["tag"]}, "word_heads names 'tag'"),
        ({"vision": None, "text": None, "fusion": None}, "image encoder, a text encoder, or both"),
        ({"fusion": None}, "give all three, or one"),
        ({"vision": None}, "give all three, or one"),
        ({"pool": "max"}, "pool is 'max'"),
        ({"text": None, "fusion": None, "pool": "class"}, "needs a class token"),
        ({"images": 0}, "images=0"),
        ({"may_miss": {"sound": 0.1}}, "may_miss names 'sound'"),
        ({"may_miss": {"image": 0.6, "text": 0.6}}, "together 1 at most"),
        ({"may_miss": {"image": 1.0}}, "0 to below 1"),
        ({"vision": None, "fusion": None, "may_miss": {"image": 0.1}}, "image and text"),
        ({"fusion": GatedFusion("text", 16, 3, BLOCK)}, "fusion.depth=3.*has depth=2"),
        ({"fusion": GatedFusion("image", 16, 2, BLOCK), "images": 2}, "several images apart"),
        ({"fusion": GatedFusion("image", 8, 2, BLOCK)}, "fusion.dim=8.*has dim=16"),
        (
            {"fusion": PooledFusion(16, 1, BLOCK, queries=2), "word_heads": ["answer"]},
            "no state for each word",
        ),
        (
            {"text": TextTransformer(V, 16, 1, BLOCK, max_length=T)},
            "is an encoder: causal=false",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, message):
    values = {"vision": vision(), "text": encoder(), "fusion": CrossFusion(16, 1, BLOCK)}
    values |= {"heads": {"answer": 4}, **options}
    with pytest.raises(ValueError, match=message):
        Classifier(**values)
