"""The decoder for one new token of every row: `TextTransformer`'s numbers, with fewer calls.

Decoding a small model is bound by the number of calls into torch, a large one by reading weights.
So what can be prepared is prepared once: one product for query, key and value, the order in which
oneDNN reads a weight (`products`), and plain functions in the place of modules. R rows are the K
rows (beams, samples) of each of B images.
"""

from collections.abc import Callable
from typing import cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.attention import Attention, KeyValues
from mmattn.blocks import ACTIVATIONS, Block, Residual
from mmattn.decoding.products import Product, on_cpu, packs, product
from mmattn.positions import Rotation, rotate, text_rotation
from mmattn.text import TextTransformer

Map = Callable[[Tensor], Tensor]
# `attend_step` leaves torch's fused kernel for at most so many queries of at least so many numbers.
FEW, LARGE = 8, 1 << 17


class OwnStep:
    """A self-attention for the newest tokens, with what stands around it in its block."""

    def __init__(self, block: Block, attention: Attention):
        self.attention = attention
        weight = torch.cat([attention.to_q.weight, attention.to_kv.weight])
        bias = None
        if attention.to_q.bias is not None and attention.to_kv.bias is not None:
            bias = torch.cat([attention.to_q.bias, attention.to_kv.bias])
        self.joint, self.out = product(weight, bias), product_of(attention.to_out)
        self.split = (attention.to_q.out_features, attention.to_kv.out_features)
        self.before = before(block, block.self_norm)
        self.after = after(block, block.self_residual, block.self_norm)

    def project(
        self, x: Float[Tensor, "R D"], images: int, rotation: Rotation | None
    ) -> tuple[Float[Tensor, "B H K W"], Float[Tensor, "2 B G K W"]]:
        """Return the queries of the rows of each image, and their new keys and values."""
        a = self.attention
        q, kv = self.joint(self.before(x)).split_with_sizes(self.split, -1)
        q = q.view(images, -1, a.heads, a.head_dim).transpose(1, 2)
        kv = kv.view(images, -1, 2, a.kv_heads, a.head_dim).permute(2, 0, 3, 1, 4)
        if rotation is None and isinstance(a.k_norm, nn.Identity):
            return q, kv
        k, v = kv.unbind(0)
        return rotate(a.q_norm(q), rotation), torch.stack([rotate(a.k_norm(k), rotation), v])

    def join(self, x: Float[Tensor, "R D"], out: Float[Tensor, "B H K W"]) -> Float[Tensor, "R D"]:
        """Return the residual stream with what was attended to."""
        return self.after(x, self.out(merged(out)))


class AcrossStep:
    """A cross-attention for the newest tokens; its keys and values are the image's."""

    def __init__(self, block: Block, attention: Attention):
        self.attention = attention
        self.query, self.out = product_of(attention.to_q), product_of(attention.to_out)
        self.before = before(block, block.cross_norm)
        self.after = after(block, block.cross_residual, block.cross_norm)

    def memory(self, context: Float[Tensor, "B S C"]) -> KeyValues:
        """Return the keys and values of images, those of a head in one piece.

        They are read at every step, and so as fast as memory allows. On a CPU each head's are
        projected to where they stay: putting them there afterwards takes as long again.
        """
        a = self.attention
        weight, bias = a.to_kv.weight.detach(), a.to_kv.bias
        if bias is None or not on_cpu(context, torch.float32):
            return KeyValues(*(x.contiguous() for x in a.kv(context)))
        context = a.context_norm(context)
        batch, length, width = context.shape
        heads = weight.view(2, a.kv_heads, a.head_dim, width).transpose(2, 3)
        biases = bias.detach().view(2, a.kv_heads, 1, a.head_dim)
        kv = context.new_empty(2, batch, a.kv_heads, length, a.head_dim)
        for part, head, added in zip(kv, heads, biases, strict=True):
            for image, of_image in zip(context, part, strict=True):
                image = image.expand(a.kv_heads, length, width)
                torch.baddbmm(added, image, head, out=of_image)
        return KeyValues(a.k_norm(kv[0]), kv[1])

    def project(self, x: Float[Tensor, "R D"], images: int) -> Float[Tensor, "B H K W"]:
        """Return the queries of the rows of each image."""
        a = self.attention
        q = self.query(self.before(x)).view(images, -1, a.heads, a.head_dim).transpose(1, 2)
        return q if isinstance(a.q_norm, nn.Identity) else a.q_norm(q)

    def join(self, x: Float[Tensor, "R D"], out: Float[Tensor, "B H K W"]) -> Float[Tensor, "R D"]:
        """Return the residual stream with what was attended to."""
        return self.after(x, self.out(merged(out)))


class MlpStep:
    """A feed-forward network, with what stands around it in its block."""

    def __init__(self, block: Block):
        self.up, self.down = product_of(block.mlp.up), product_of(block.mlp.down)
        self.activation = ACTIVATIONS.get(block.mlp.activation, gated)
        self.before = before(block, block.mlp_norm)
        self.after = after(block, block.mlp_residual, block.mlp_norm)

    def __call__(self, x: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """Return the residual stream with the network's output."""
        return self.after(x, self.down(self.activation(self.up(self.before(x)))))


class BlockStep:
    """One block of the decoder, in its parts; a part that the block lacks is None."""

    def __init__(self, block: Block):
        own, across = block.self_attention, block.cross_attention
        self.own = None if own is None else OwnStep(block, own)
        self.across = None if across is None else AcrossStep(block, across)
        self.mlp = MlpStep(block)


class DecoderStep:
    """All blocks and the output layer of a text transformer."""

    def __init__(self, text: TextTransformer):
        self.text = text
        self.blocks = [BlockStep(block) for block in cast("list[Block]", list(text.blocks))]
        self.norm = norm_of(text.norm)
        self.head = product(text.head_weight, text.head_bias)

    def memory(self, context: Float[Tensor, "B S C"]) -> list[KeyValues | None]:
        """Return `TextTransformer.memory`, as the steps read it fastest."""
        across = (block.across for block in self.blocks)
        return [None if one is None else one.memory(context) for one in across]

    def embed(self, tokens: Int[Tensor, "B K"], place: int) -> Float[Tensor, "R D"]:
        """Return the embeddings of tokens that all stand at one place of their texts."""
        return self.text.embed(tokens.flatten()[:, None], place)[:, 0]

    def rotation(self, place: int, device: torch.device) -> Rotation | None:
        """Return the rotation of that place, where positions are rotary."""
        if self.text.position != "rotary":
            return None
        return text_rotation(1, self.text.head_dim, place).to(device)

    def logits(self, x: Float[Tensor, "R D"]) -> Float[Tensor, "R V"]:
        """Return the scores of what follows."""
        return self.head(self.text.head_transform(self.norm(x)))


def product_of(layer: nn.Linear) -> Product:
    """Return the product of a linear layer."""
    return product(layer.weight, layer.bias)


def norm_of(module: nn.Module) -> Map:
    """Return a normalisation as a function."""
    if type(module) is not nn.LayerNorm:
        return module
    shape, weight, bias, eps = module.normalized_shape, module.weight, module.bias, module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


def before(block: Block, norm: nn.Module) -> Map:
    """Return what happens to a branch's input."""
    return norm_of(norm) if block.pre_norm else _as_is


def after(block: Block, residual: nn.Module, norm: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return how a branch's output joins the residual stream."""
    scale = cast(Residual, residual).scale
    if scale is None:
        add: Callable[[Tensor, Tensor], Tensor] = torch.add
    else:
        add = lambda x, branch: torch.addcmul(x, branch, scale)  # noqa: E731
    if block.pre_norm:
        return add
    normalise = norm_of(norm)
    return lambda x, branch: normalise(add(x, branch))


def attend_step(
    q: Float[Tensor, "B H K W"], kv: KeyValues, mask: Float[Tensor, "B 1 K S"] | None = None
) -> Float[Tensor, "B H K W"]:
    """Return what `attend` does; the mask is added to the scores.

    The fused CPU kernel is made for many queries: for the few of each image two plain products
    read large keys and values up to twice as fast.
    """
    k, v = kv
    batch, heads, rows, width = q.shape
    few = rows <= FEW and mask is None and heads == k.shape[1]
    near = k.is_contiguous() and on_cpu(q, torch.float32, torch.bfloat16)
    if not (few and near and k.numel() >= LARGE):
        grouped = heads != k.shape[1]
        mask = None if mask is None else mask.to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=grouped)
    q, k, v = (x.reshape(batch * heads, -1, width) for x in (q, k, v))
    scores = torch.baddbmm(q.new_empty(()), q, k.transpose(1, 2), beta=0, alpha=width**-0.5)
    return torch.bmm(scores.softmax(-1), v).view(batch, heads, rows, width)


def gated(x: Float[Tensor, "R I"]) -> Float[Tensor, "R half"]:
    """Return what SwiGLU lets through."""
    gate, x = x.chunk(2, dim=-1)
    return ACTIVATIONS["silu"](gate) * x


def merged(out: Float[Tensor, "B H K W"]) -> Float[Tensor, "R D"]:
    """Return the outputs of all heads side by side."""
    batch, heads, rows, width = out.shape
    return out.transpose(1, 2).reshape(batch * rows, heads * width)


def _as_is(x: Tensor) -> Tensor:
    return x


# What was made of a text transformer, and for which state of its weights. Copies of weights are
# kept as long as the transformer is, so that captioning many batches makes them once.
_MADE: WeakKeyDictionary[TextTransformer, tuple[tuple, DecoderStep]] = WeakKeyDictionary()


def decoder_step(text: TextTransformer) -> DecoderStep:
    """Return the decoder's step, made anew where a weight has changed since it was made.

    Of weights that are trained it is made anew each time: a fused optimiser changes them without
    counting their version.
    """
    parameters = list(text.parameters())
    if any(p.requires_grad for p in parameters):
        return DecoderStep(text)
    state = tuple((p.data_ptr(), p._version) for p in parameters)
    state += (packs(text.head_weight), text.head_weight.dtype)
    made = _MADE.get(text)
    if made is None or made[0] != state:
        made = _MADE[text] = (state, DecoderStep(text))
    return made[1]
