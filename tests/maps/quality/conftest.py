"""A tiny captioner with random weights, and a batch for it; the grid is not square."""

import pytest
import torch

from mmattn.batch import CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

BEGIN = 0
CAPTIONS = [[4, 5, 6, 1], [7, 5, 1], [4, 5, 6, 1], [8, 9, 2, 3, 1]]


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(0)
    block = BlockOptions(heads=4, layer_scale=0.1)
    vision = VisionTransformer((8, 12), LinearPatches(4, 16), 1, block, registers=2)
    text = TextTransformer(11, 12, 2, block, max_length=8, context_dim=12)
    model = Captioner(vision, text)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.fixture
def batch() -> CaptionBatch:
    """Four images; the first and the third have the same caption."""
    images = torch.randn(4, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    empty = torch.zeros(4, 1, 1, dtype=torch.long)
    made = CaptionBatch(("a", "b", "c", "d"), images, empty, empty, empty > 0, (("x",),) * 4)
    return made.with_captions(CAPTIONS, BEGIN)
