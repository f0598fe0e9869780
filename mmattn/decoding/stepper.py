"""One token further, for several rows of every image: the decoder's step, and the loop's cache."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.attention import KeyValues, attend
from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.decoding.step import attend_step, decoder_step
from mmattn.taps import AttentionCall, Listener, Tap


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
        self.decoder, self.rows, self.length = decoder_step(model.text), rows, 0
        # Read at every step: in one piece for each head, that is as fast as memory allows.
        self.memory = [
            kv and KeyValues(*(x.contiguous() for x in kv)) for kv in model.memory(image)
        ]
        batch, device = len(image.tokens), image.tokens.device
        self.images = torch.arange(batch, device=device)  # whose rows are still computed
        self.max_length = max_length
        # By layer [2, B, G, T·K, W]: the keys and values of what all rows wrote.
        self.cache: dict[int, Tensor] = {}
        self.seen = torch.zeros(batch, rows, max_length * rows, dtype=torch.bool, device=device)
        self.own = torch.eye(rows, dtype=torch.bool, device=device)
        self._all_memory = self.memory
        self._queries: dict[int, Tensor] = {}  # by layer that is listened to
        self.taps: dict[int, Tap] = {}
        if listener is not None:
            found = {i: listener.at("text", i).tap("cross") for i in model.text.cross_layers}
            self.taps = {i: tap for i, tap in found.items() if tap is not None}

    def step(
        self, tokens: Int[Tensor, "B K"], parents: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K V"]:
        """Return the scores of what follows `tokens`.

        Row k goes on from the row `parents[:, k]` of the step before, from itself if None.
        """
        start, end = self.length * self.rows, (self.length + 1) * self.rows
        mask, images = self._mask(parents, start, end), len(tokens)
        x = self.decoder.embed(tokens, self.length)
        rotation = self.decoder.rotation(self.length, x.device)
        for layer, block in enumerate(self.decoder.blocks):
            if block.own is not None:
                q, new = block.own.project(x, images, rotation)
                kv = self._extend(layer, new, start, end)
                x = block.own.join(x, attend_step(q, kv, mask))
            if block.across is not None:
                q = block.across.project(x, images)
                x = block.across.join(x, self._across(layer, q))
            x = block.mlp(x)
        self.length += 1
        return self.decoder.logits(x).view(images, self.rows, -1)

    def keep(self, images: Int[Tensor, "A"]) -> None:
        """Go on with some of the images only: places among those that are still computed."""
        self.images, self.seen = self.images[images], self.seen[images]
        self.memory = [kv and KeyValues(kv.k[images], kv.v[images]) for kv in self.memory]
        self.cache = {layer: cache[:, images] for layer, cache in self.cache.items()}

    def report(self, paths: Int[Tensor, "B N T"]) -> None:
        """Tell the listener of the cross-attention by which N captions of each image were written.

        `paths[b, n, t]` is the row of step t that wrote token t of caption n. The call is that of
        one teacher-forced pass over the captions: N·T query rows for each image.
        """
        rows = torch.arange(len(paths), device=paths.device)[:, None, None]
        times = torch.arange(paths.shape[-1], device=paths.device).expand_as(paths)
        for layer, tap in self.taps.items():
            kv = self._all_memory[layer]
            assert kv is not None
            q = self._queries[layer][rows, times, paths].flatten(1, 2).transpose(1, 2)
            tap.record(AttentionCall(q, *kv, attend(q, *kv)))  # q: [B, H, N·T, K]

    def _mask(
        self, parents: Int[Tensor, "B K"] | None, start: int, end: int
    ) -> Bool[Tensor, "B 1 K end"] | None:
        """Return what each row may see of what all rows of its image wrote, None for everything."""
        if self.rows == 1:
            return None
        if parents is not None:
            self.seen = self.seen.gather(1, parents[..., None].expand_as(self.seen))
        self.seen[:, :, start:end] = self.own
        return self.seen[:, None, :, :end]

    def _extend(
        self, layer: int, new: Float[Tensor, "2 B G K W"], start: int, end: int
    ) -> KeyValues:
        """Put the newest keys and values of a layer beside those before; return all of them."""
        if layer not in self.cache:
            _, batch, heads, _, width = new.shape
            self.cache[layer] = new.new_zeros(2, batch, heads, self.max_length * self.rows, width)
        cache = self.cache[layer]
        cache[:, :, :, start:end] = new
        return KeyValues(*cache[:, :, :, :end].unbind(0))

    def _across(self, layer: int, q: Float[Tensor, "B H K W"]) -> Float[Tensor, "B H K W"]:
        """Attend to the image; keep the queries as [B, T, K, H, W] of all images."""
        kv = self.memory[layer]
        assert kv is not None
        if layer in self.taps:
            if layer not in self._queries:
                shape = (len(q), self.max_length, self.rows, q.shape[1], q.shape[3])
                self._queries[layer] = q.new_zeros(shape)
            self._queries[layer][self.images, self.length] = q.transpose(1, 2)
        return attend_step(q, kv)
