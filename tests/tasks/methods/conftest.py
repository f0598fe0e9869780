"""A captioner of a few thousand parameters, and a batch of captions of very different lengths."""

import pytest
import torch

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.blocks import BlockOptions
from mmattn.captioner import Captioner
from mmattn.patches import LinearPatches
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer

PAD, BEGIN, END, VOCABULARY = 0, 1, 2, 23
LENGTHS = [[5, 2], [1, 0], [7, 3], [4, 6]]  # tokens of each caption; 0: there is none


@pytest.fixture
def make_model():
    """Make a captioner whose words and pictures matter; the same weights each time."""

    def make(seed=0, **options):
        torch.manual_seed(seed)
        block = BlockOptions(heads=2, **options)
        vision = VisionTransformer((8, 8), LinearPatches(4, 16), 1, block)
        text = TextTransformer(VOCABULARY, 16, 2, block, max_length=10, context_dim=16)
        with torch.no_grad():
            for parameter in [*vision.parameters(), *text.parameters()]:
                parameter.add_(torch.randn_like(parameter) * 0.3)
        return Captioner(vision, text)

    return make


@pytest.fixture
def batch():
    """Four images with up to two captions each."""
    made = torch.Generator().manual_seed(3)
    shape = (len(LENGTHS), 2, max(map(max, LENGTHS)))
    tokens, labels = torch.full(shape, PAD), torch.full(shape, IGNORE)
    tokens[..., 0] = BEGIN
    for b, lengths in enumerate(LENGTHS):
        for n, length in enumerate(lengths):
            words = torch.randint(3, VOCABULARY, (length,), generator=made)
            tokens[b, n, 1:length] = words[: max(length - 1, 0)]
            labels[b, n, :length] = words
            if length:
                labels[b, n, length - 1] = END
    references = tuple(("a caption",) * sum(map(bool, lengths)) for lengths in LENGTHS)
    images = torch.rand(len(LENGTHS), 3, 8, 8, generator=made)
    keys = tuple(f"image-{b}" for b in range(len(LENGTHS)))
    return CaptionBatch(keys, images, tokens, labels, labels != IGNORE, references)


@pytest.fixture
def plain_losses():
    """Return -log p of every target, caption by caption: [(b, n, [losses])]."""

    def losses(model, batch):
        found = []
        for b, n in batch.valid.any(-1).nonzero().tolist():
            length = int(batch.valid[b, n].sum())
            scores = model(batch.images[b : b + 1], batch.tokens[b : b + 1, n : n + 1, :length])
            scores, targets = scores[0, 0].log_softmax(-1), batch.labels[b, n, :length]
            found.append((b, n, [-row[t] for row, t in zip(scores, targets, strict=True)]))
        return found

    return losses
