"""The card can be read by the hub's own library, and its figures add up."""

import pytest
import torch
from huggingface_hub import ModelCard

from mmattn.backbones import TimmPatches
from mmattn.blocks import BlockOptions
from mmattn.data.preprocessing import Preprocessing
from mmattn.model_folder import captioner_card
from mmattn.model_folder.format import write_folder
from mmattn.patches import LinearPatches
from mmattn.pooling import AttentionPooler
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer


def written(bundle, place, **options):
    return (write_folder(bundle, place / "model", **options) / "README.md").read_text()


def table(card, title):
    """The rows of the table below a title, as cells."""
    section = card.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return rows[2:]


def pooled():
    block = BlockOptions(heads=2)
    patches, pooler = LinearPatches(8, 8), AttentionPooler(3, 6, 2, 8)
    return VisionTransformer((16, 24), patches, 1, block, class_token=True, pooler=pooler)


def backbone():
    patches = TimmPatches("mobilenetv2_035", 8, (32, 32))
    return VisionTransformer((32, 32), patches, 2, BlockOptions(heads=2))


def test_the_hubs_library_reads_its_head(folder):
    data = ModelCard.load(folder / "README.md").data.to_dict()
    assert data == {
        "library_name": "mmattn",
        "pipeline_tag": "image-to-text",
        "tags": ["mmattn", "image-captioning", "attention-maps"],
    }


@pytest.mark.parametrize("vision", [lambda: None, pooled, backbone])
@pytest.mark.parametrize(
    "text", [{}, {"tie_embeddings": False, "head_transform": True, "head_bias": True}]
)
def test_the_parameters_of_the_parts_add_up(make_bundle, tmp_path, vision, text):
    bundle = make_bundle(vision(), **text)
    rows = table(written(bundle, tmp_path), "Architecture")
    numbers = {part: int(number.replace(",", "")) for part, _, number in rows}
    total = numbers.pop("all")
    assert total == sum(numbers.values()) == sum(p.numel() for p in bundle.model.parameters())
    assert all(numbers.values())
    assert ("output layer" in numbers) == bool(text)


def test_it_says_what_the_parts_are(make_bundle, tmp_path):
    card = written(make_bundle(pooled()), tmp_path)
    rows = {part: what for part, what, _ in table(card, "Architecture")}
    assert rows["patch embedding"] == "linear, 16 x 24 pixels to 2 x 3 tokens"
    assert rows["vision transformer"] == (
        "1 block of width 8, 2 heads, learned positions, 1 further token"
    )
    assert rows["pooling"] == "attention of 3 queries, width 6"
    assert rows["all"] == "stored as float32"


def test_a_backbone_is_named(make_bundle, tmp_path):
    card = written(make_bundle(backbone()), tmp_path, dtype=torch.bfloat16)
    rows = {part: what for part, what, _ in table(card, "Architecture")}
    assert rows["patch embedding"].startswith("timm mobilenetv2_035, 32 x 32 pixels to ")
    assert rows["vision transformer"].startswith("2 blocks of width 8")
    assert rows["all"] == "stored as bfloat16"


def test_the_source_is_one_line(bundle, tmp_path):
    bundle.source = "trained on\n# Flowers"
    assert "\nSource: trained on # Flowers.\n" in written(bundle, tmp_path)
    bundle.source = ""
    assert "Source:" not in written(bundle, tmp_path)


@pytest.mark.parametrize(
    ("resize", "crop", "said"),
    [
        ((16, 16), None, "RGB, resized to 16 x 16 pixels (bicubic), in [0, 1], minus the mean"),
        (
            *(20, (16, 16)),
            "shorter side resized to 20 pixels (bicubic), the middle 16 x 16 pixels cut out, in [0",
        ),
        (
            None,
            None,
            "RGB, in [0, 1], minus the mean (0.5, 0.25, 0.1), over the standard deviation",
        ),
    ],
)
def test_it_says_how_pictures_are_prepared(bundle, tmp_path, resize, crop, said):
    mean, std = (0.5, 0.25, 0.1), (1.0, 1.0, 1.0)
    bundle.preprocessing = Preprocessing((16, 16), resize, crop, "bicubic", mean, std)
    assert said in written(bundle, tmp_path)


def test_only_what_a_test_measured_of_these_weights_is_shown(bundle, tmp_path):
    results = {
        **{"test/fonts/cider": 9.4512345, "attention/pointing": 0.5, "test/loss": float("inf")},
        **{"train/seconds": 60.0, "val/cider": 3.0},
    }
    card = written(bundle, tmp_path, results=results)
    assert table(card, "Measured") == [["attention/pointing", "0.5"], ["test/fonts/cider", "9.451"]]


@pytest.mark.parametrize("results", [None, {}, {"train/seconds": 3.0}])
def test_without_a_test_nothing_is_claimed(bundle, tmp_path, results):
    assert "## Measured" not in written(bundle, tmp_path, results=results)


def test_it_is_honest_about_limits_and_says_how_to_load_it(folder):
    card = (folder / "README.md").read_text()
    for part in ("mmattn.load(", "## Limitations", "No licence is stated here", "wrong"):
        assert part in card
    files = [cells[0].strip("`") for cells in table(card, "Files")]
    assert sorted(files) == sorted(path.name for path in folder.iterdir())


def test_the_title_tells_the_size(make_bundle):
    small = make_bundle().model
    number = sum(p.numel() for p in small.parameters())
    assert captioner_card.title(small) == f"Image captioner, {number:,} parameters"
    block = BlockOptions(heads=2)
    text = TextTransformer(201_000, 8, 1, block, max_length=12, context_dim=8)
    assert (
        captioner_card.title(make_bundle(text=text).model) == "Image captioner, 1.61 M parameters"
    )
