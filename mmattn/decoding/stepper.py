"""One token further, for several rows of every image: the decoder's step, and the loop's cache."""

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention import Attention, KeyValues, attend
from mmattn.batch import ImageTokens
from mmattn.blocks import Block
from mmattn.captioner import Captioner
from mmattn.positions import Rotation, text_rotation
from mmattn.taps import AttentionCall, Listener


class Stepper:
    """Runs a captioner's decoder one token at a time for K rows (beams, samples) of B images.

    The rows of an image share its keys and values, as captions do in training: they are rows of
    the query. So do they share their cache: what all rows of an image wrote lies side by side in
    one buffer, and a mask says which of it is a row's own past. A row may go on from any other
    (`parents`), and nothing is copied.

    For maps, only queries are kept while decoding: `report` computes the weights of the captions
    that were chosen in the end, and of no other.

    Args:
        model: the captioner, in evaluation mode.
        image: the encoded images.
        rows: K.
        max_length: the most steps T.
        listener: whom `report` will tell of the attention, if anybody.
    """

    def __init__(
        self,
        model: Captioner,
        image: ImageTokens,
        rows: int,
        max_length: int,
        listener: Listener | None = None,
    ):
        self.text, self.rows, self.length = model.text, rows, 0
        self.memory = model.memory(image)
        self.blocks = cast("list[Block]", list(model.text.blocks))
        batch, device = len(image.tokens), image.tokens.device
        self.images = torch.arange(batch, device=device)  # whose rows are still computed
        self.max_length = max_length
        self.cache: dict[int, KeyValues] = {}  # by layer; made by the first step, whose type it has
        self.seen = torch.zeros(batch, rows, max_length * rows, dtype=torch.bool, device=device)
        self.listener, self._all_memory = listener, self.memory
        self._queries: dict[int, Tensor] = {}  # by layer

    def step(
        self, tokens: Int[Tensor, "B K"], parents: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K V"]:
        """Return the scores of what follows `tokens`.

        Row k goes on from the row `parents[:, k]` of the step before, from itself if None.
        """
        start, end = self.length * self.rows, (self.length + 1) * self.rows
        if parents is not None:
            self.seen = self.seen.gather(1, parents[..., None].expand_as(self.seen))
        self.seen[:, :, start:end] = torch.eye(self.rows, dtype=torch.bool, device=self.seen.device)
        mask = None if self.rows == 1 else self.seen[:, None, :, :end]
        x, rotation = self.text.embed(tokens.flatten()[:, None], self.length)[:, 0], None
        x = x.view(*tokens.shape, -1)
        if self.text.position == "rotary":
            rotation = text_rotation(1, self.text.head_dim, self.length).to(x.device)
        for layer, block in enumerate(self.blocks):
            x = self._block(layer, block, x, mask, rotation, (start, end))
        self.length += 1
        return self.text.logits(self.text.norm(x))

    def keep(self, images: Int[Tensor, "A"]) -> None:
        """Go on with some of the images only: places among those that are still computed."""
        self.images, self.seen = self.images[images], self.seen[images]
        self.memory = [kv and KeyValues(kv.k[images], kv.v[images]) for kv in self.memory]
        self.cache = {i: KeyValues(k[images], v[images]) for i, (k, v) in self.cache.items()}

    def report(self, paths: Int[Tensor, "B N T"]) -> None:
        """Tell the listener of the cross-attention by which N captions of each image were written.

        `paths[b, n, t]` is the row of step t that wrote token t of caption n. The call is that of
        one teacher-forced pass over the captions: N·T query rows for each image.
        """
        if self.listener is None:
            return
        rows = torch.arange(len(paths), device=paths.device)[:, None, None]
        times = torch.arange(paths.shape[-1], device=paths.device).expand_as(paths)
        for layer in self.text.cross_layers:
            kv, tap = self._all_memory[layer], self.listener.at("text", layer).tap("cross")
            if tap is None or kv is None:
                continue
            q = self._queries[layer][rows, times, paths].flatten(1, 2).transpose(1, 2)
            tap.record(AttentionCall(q, *kv, attend(q, *kv)))  # q: [B, H, N·T, K]

    def _block(
        self,
        layer: int,
        block: Block,
        x: Float[Tensor, "B K D"],
        mask: Bool[Tensor, "..."] | None,
        rotation: Rotation | None,
        place: tuple[int, int],
    ) -> Float[Tensor, "B K D"]:
        if block.self_attention is not None:
            start, end = place
            branch = block.self_norm(x) if block.pre_norm else x
            new = block.self_attention.kv(branch, rotation)
            if layer not in self.cache:
                self.cache[layer] = KeyValues(self._room(new.k), self._room(new.v))
            keys, values = self.cache[layer]
            keys[:, :, start:end], values[:, :, start:end] = new.k, new.v
            q = block.self_attention.queries(branch, rotation)
            out = attend(q, keys[:, :, :end], values[:, :, :end], mask)
            branch = merged(block.self_attention, out)
            x = block.join(x, branch, block.self_residual, block.self_norm)
        memory = self.memory[layer]
        if block.cross_attention is not None and memory is not None:
            branch = block.cross_norm(x) if block.pre_norm else x
            q = block.cross_attention.queries(branch)
            self._keep_queries(layer, q)
            branch = merged(block.cross_attention, attend(q, *memory))
            x = block.join(x, branch, block.cross_residual, block.cross_norm)
        branch = block.mlp(block.mlp_norm(x) if block.pre_norm else x)
        return block.join(x, branch, block.mlp_residual, block.mlp_norm)

    def _room(self, new: Float[Tensor, "B G K W"]) -> Float[Tensor, "B G TK W"]:
        """Return room for what all steps add."""
        return new.new_zeros(*new.shape[:2], self.max_length * self.rows, new.shape[-1])

    def _keep_queries(self, layer: int, q: Float[Tensor, "B H K W"]) -> None:
        """Keep the queries of a layer that is listened to, as [B, T, K, H, W] of all images."""
        if self.listener is None or self.listener.at("text", layer).tap("cross") is None:
            return
        if layer not in self._queries:
            shape = (len(q), self.max_length, self.rows, q.shape[1], q.shape[3])
            self._queries[layer] = q.new_zeros(shape)
        self._queries[layer][self.images, self.length] = q.transpose(1, 2)


def merged(attention: Attention, out: Float[Tensor, "B H K W"]) -> Float[Tensor, "B K D"]:
    """Return the output of all heads, projected."""
    return attention.to_out(out.transpose(1, 2).flatten(2))
