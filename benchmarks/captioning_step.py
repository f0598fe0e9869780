"""The captioner of the benchmarks, a batch for it, and a training step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mmattn import BlockOptions, Captioner, TextTransformer, VisionTransformer
from mmattn.patches import LinearPatches
from mmattn.taps import Listener

CAPTIONS, IGNORE = 5, -100
Data = tuple[Tensor, Tensor, Tensor]  # pixels [B, 3, H, W], tokens and labels [B, 5, T]


@dataclass(frozen=True)
class Sizes:
    """Of encoder and decoder; the decoder is as wide as the encoder where it has no width."""

    dim: int
    heads: int
    encoder: int
    decoder: int
    vocabulary: int
    image: int = 224
    patch: int = 16
    text_dim: int | None = None
    text_heads: int | None = None


SIZES = {
    "tiny": Sizes(dim=32, heads=2, encoder=1, decoder=1, vocabulary=300, image=32, patch=8),
    "small": Sizes(dim=192, heads=3, encoder=6, decoder=4, vocabulary=8_000),
    "base": Sizes(dim=768, heads=12, encoder=12, decoder=12, vocabulary=50_257),
    "large": Sizes(1024, 16, 24, 12, vocabulary=50_257, text_dim=768, text_heads=12),
}


def our_model(s: Sizes) -> Captioner:
    block = BlockOptions(heads=s.heads)
    patches = LinearPatches(s.patch, s.dim)
    vision = VisionTransformer((s.image, s.image), patches, s.encoder, block, class_token=True)
    own = BlockOptions(heads=s.text_heads or s.heads)
    width = s.text_dim or s.dim
    text = TextTransformer(s.vocabulary, width, s.decoder, own, max_length=64, context_dim=s.dim)
    return Captioner(vision, text)


def batch(images: int, s: Sizes, device: str) -> Data:
    """Return a batch; lengths are like Flickr8k's."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(images, 3, s.image, s.image, generator=generator)
    lengths = torch.randn(images, CAPTIONS, generator=generator) * 3.8 + 11.8
    lengths = lengths.round().clamp(5, 30).long() + 1  # words, and the end token
    longest = int(lengths.max())
    tokens = torch.randint(3, s.vocabulary, (images, CAPTIONS, longest + 1), generator=generator)
    valid = torch.arange(longest) < lengths[..., None]
    labels = tokens[..., 1:].masked_fill(~valid, IGNORE)
    return pixels.to(device), tokens[..., :-1].to(device), labels.to(device)


def optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def loss_of(model: Captioner, data: Data, listener: Listener | None = None) -> Tensor:
    images, tokens, labels = data
    keep = labels != IGNORE
    hidden = model.decode(model.encode(images, listener), tokens, listener)
    return F.cross_entropy(model.logits(hidden[keep]), labels[keep])


def our_step(model: Captioner, data: Data, listening: Callable[[], Listener] | None = None):
    optimizer = optimiser(model)

    def step() -> None:
        loss_of(model, data, None if listening is None else listening()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def under(dtype: torch.dtype, device: str, step: Callable[[], None]) -> Callable[[], None]:
    """Return the step under autocast to `dtype`, or as it is for float32."""

    def cast() -> None:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            step()

    return cast
