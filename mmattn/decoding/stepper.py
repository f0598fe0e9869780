"""One token further, for several rows of every image: the decoder's step, and the loop's cache."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.attention import KeyValues
from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.decoding.rules import NEVER
from mmattn.decoding.step import attend_step, decoder_step
from mmattn.taps import AttentionCall, Listener, Tap


class Stepper:
    """Runs a captioner's decoder one token at a time for K rows (beams, samples) of B images.

    The rows of an image share its keys and values, as captions do in training: they are rows of
    the query. So do they share their cache: what all rows of an image wrote lies side by side in
    one buffer, and a mask says which of it is a row's own past. A row may go on from any other
    (`parents`), and nothing is copied.

    For maps, only what the calls of attention had is kept while decoding: `report` tells of those
    that wrote the captions which were chosen in the end, and of no other.

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
        self.memory = self.decoder.memory(image.tokens)
        batch, device = len(image.tokens), image.tokens.device
        self.images = torch.arange(batch, device=device)  # whose rows are still computed
        self.max_length = max_length
        # By layer [2, B, G, T·K, W]: the keys and values of what all rows wrote.
        self.cache: dict[int, Tensor] = {}
        # What is added to a row's scores: 0 where it may look, else -inf.
        self.seen = torch.full((batch, rows, max_length * rows), NEVER, device=device)
        self.own = torch.eye(rows, device=device).log()
        self._all_memory = self.memory
        self._computed: list[Tensor] = []  # the images of each step
        # By layer that is listened to, the queries and outputs of each step, [A, H, K, W].
        self._calls: dict[int, list[tuple[Tensor, Tensor]]] = {}
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
        self._computed.append(self.images)
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
        if not self.taps:
            return
        of_image = self._places()[:, None, : paths.shape[-1]].expand_as(paths)

        def chosen(calls: tuple[Tensor, ...]) -> Float[Tensor, "B H NT K"]:
            return torch.cat(calls)[of_image, :, paths].flatten(1, 2).transpose(1, 2)

        for layer, tap in self.taps.items():
            kv = self._all_memory[layer]
            assert kv is not None
            q, out = (chosen(calls) for calls in zip(*self._calls[layer], strict=True))
            tap.record(AttentionCall(q, *kv, out))

    def _places(self) -> Int[Tensor, "B T"]:
        """Return where each step has each image, if all steps' images stand one after another."""
        images, start = len(self._computed[0]), 0
        places = torch.zeros(images, len(self._computed), dtype=torch.long, device=self.seen.device)
        for step, computed in enumerate(self._computed):
            places[computed, step] = torch.arange(
                start, start + len(computed), device=places.device
            )
            start += len(computed)
        return places

    def _mask(
        self, parents: Int[Tensor, "B K"] | None, start: int, end: int
    ) -> Float[Tensor, "B 1 K end"] | None:
        """Return what hides from each row what its image's other rows wrote; None: nothing does."""
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
        cache.narrow(3, start, end - start).copy_(new)
        written = cache.narrow(3, 0, end)
        return KeyValues(written[0], written[1])

    def _across(self, layer: int, q: Float[Tensor, "B H K W"]) -> Float[Tensor, "B H K W"]:
        """Attend to the image, and keep what a listener wants to know."""
        kv = self.memory[layer]
        assert kv is not None
        out = attend_step(q, kv)
        if layer in self.taps:
            self._calls.setdefault(layer, []).append((q, out))
        return out
