"""Which attention maps to keep, and how to get them exactly while the fused kernel stays on.

The fused kernel never returns its weights. A `Recorder` handed down as an argument gets the very q
and k that the kernel consumed, after normalisation and rotation, and recomputes
softmax(q·kᵀ/√K) for the rows asked for. The kernel's own call does not change, so the model's
output is the same to the last bit with and without a recorder.
"""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmattn.taps import AttentionCall, Listener

MB = 1 << 20

# The memory that a block of weights may take while it is computed: what stays in a CPU's cache, and
# what keeps a GPU busy until the next block is launched.
BLOCK_BYTES = {"cpu": 4 * MB, "cuda": 32 * MB}


def attention_weights(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H T S"]:
    """Return softmax(scale·q·kᵀ), the weights that `attend` uses and does not show.

    `mask` is boolean, True where a query may attend, or a number added to each score; `scale` is
    1/√K if None. Computed in float32 at least, whatever the inputs are. A row that may attend to
    nothing is zero.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    batch, heads, queries, width = q.shape
    groups = k.shape[1]
    q = q.reshape(batch, groups, heads // groups * queries, width)
    # Scaled last: q and k of half precision are then exact also where a GPU multiplies in TF32.
    scores = (q @ k.transpose(-2, -1)).mul_(width**-0.5 if scale is None else scale)
    scores = scores.view(batch, heads, queries, -1)
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype != torch.bool:
        scores, mask = scores + mask.to(dtype), mask > float("-inf")
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)  # also turns the NaN of an all-masked row into zeros


def empty_rows(weights: Float[Tensor, "*B S"]) -> Bool[Tensor, "*B"]:
    """Return which rows of attention weights are of queries that may attend to nothing."""
    return (weights == 0).all(-1)


class Block(NamedTuple):
    """A part of a call's weights, and its place among all [B, chosen heads, chosen rows, S]."""

    images: slice
    heads: slice  # a single one
    rows: slice
    weights: Float[Tensor, "b 1 r S"]


def weight_blocks(
    call: AttentionCall, heads: Sequence[int], rows: Sequence[int], max_bytes: int | None = None
) -> Iterator[Block]:
    """Yield the attention weights of the chosen heads and query rows of a call, block by block.

    A block and all that is needed to compute it, casts to float32 included, take at most
    `max_bytes` (`BLOCK_BYTES` if None), unless a single row already takes more. `heads` and `rows`
    are not negative.
    """
    q, k, mask = call.q, call.k, call.mask
    if mask is not None:
        mask = mask.expand(*q.shape[:3], k.shape[2])
    max_bytes = max_bytes or block_bytes(q.device)
    queries_per_key_head = q.shape[1] // k.shape[1]
    for place, head in enumerate(heads):
        group = head // queries_per_key_head
        for images, some in _block_slices(q, k, len(rows), max_bytes):
            weights = attention_weights(
                _pick(q[images, head : head + 1], rows[some]),
                k[images, group : group + 1],
                None if mask is None else _pick(mask[images, head : head + 1], rows[some]),
                call.scale,
            )
            yield Block(images, slice(place, place + 1), some, weights)


def block_bytes(device: torch.device) -> int:
    """Return what a block may take where nothing else restricts it."""
    return BLOCK_BYTES.get(device.type, BLOCK_BYTES["cuda"])


def _block_slices(q: Tensor, k: Tensor, rows: int, max_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield the images and the rows of each block of one head."""
    (batch, _, keys, width), itemsize = k.shape, max(q.itemsize, 4)
    row = (5 * keys + 3 * width) * itemsize  # scores, copies, mask, the last block; and the query
    cast = 0 if k.itemsize == itemsize else keys * width * itemsize
    images_each = max(1, max_bytes // (cast + rows * row + 1))
    rows_each = max(1, min(rows, (max_bytes - cast) // row))
    for image in range(0, batch, images_each):
        for first in range(0, rows, rows_each):
            yield slice(image, image + images_each), slice(first, min(first + rows_each, rows))


def _pick(x: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the rows of x [b, h, T, K]: a view where they follow each other."""
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):
        return x[:, :, rows[0] : rows[0] + len(rows)]
    return x[:, :, list(rows)]


class Recorder(Listener):
    """Keeps the attention maps of chosen places during a forward pass.

    Args:
        sites: glob patterns of the places to record. Places are named `vision.<layer>.self`,
            `text.<layer>.self` and `text.<layer>.cross`.
        heads: the heads to keep; all of them if None.
        rows: the query rows of each call to keep, negative ones counted from the last; all of them
            if None. What is not asked for is not computed.
        dtype: what the maps are kept as; float32 if None (float64 for a float64 model).
        budget_mb: the most memory that the maps may take, in MB of 2^20 bytes.

    `maps[site]` is [rows, heads, queries, keys]. For cross-attention the queries are the N·T tokens
    of an image's N captions, in order; the keys are its P prefix tokens, then its S patches. Where
    a site runs several times (cached decoding), the calls' query rows follow each other, with
    missing later keys as zeros. A row that may attend to nothing is zero.
    """

    def __init__(
        self,
        sites: Iterable[str] = ("text.*.cross",),
        heads: Iterable[int] | None = None,
        *,
        rows: Iterable[int] | None = None,
        dtype: torch.dtype | None = None,
        budget_mb: float | None = None,
    ):
        super().__init__(sites)
        self.heads = None if heads is None else list(heads)
        self.rows = None if rows is None else list(rows)
        self.dtype, self.budget_mb = dtype, budget_mb
        self._calls: dict[str, list[Tensor]] = {}
        self._needed: dict[str, int] = {}  # bytes

    @torch.no_grad()
    def take(self, site: str, call: AttentionCall) -> None:
        """Recompute and keep the weights of one attention call."""
        heads = chosen("heads", self.heads, call.q.shape[1], site)
        rows = chosen("rows", self.rows, call.q.shape[2], site)
        shape = (call.q.shape[0], len(heads), len(rows), call.k.shape[2])
        dtype = self.dtype or torch.promote_types(call.q.dtype, torch.float32)
        self._needed[site] = self._needed.get(site, 0) + prod(shape) * dtype.itemsize
        if self._over_budget():  # what it takes in all is known at the end: go on counting
            self._calls.clear()
            return
        weights = call.q.new_empty(shape, dtype=dtype)
        # Beside what is kept, 5 % of it; less than a quarter of a full block would be slow.
        full = block_bytes(call.q.device)
        block = min(full, max(full // 4, sum(self._needed.values()) // 20))
        for images, head, some, found in weight_blocks(call, heads, rows, block):
            weights[images, head, some] = found
        self._calls.setdefault(site, []).append(weights)

    @property
    def maps(self) -> dict[str, Float[Tensor, "B H T S"]]:
        """The recorded maps by site, in the order in which the sites ran.

        Raises ValueError where one of the patterns matches no site that ran, and where the budget
        was too small.
        """
        sites = self.heard()
        if self._over_budget():
            raise ValueError(
                f"recording these {len(sites)} sites needs {sum(self._needed.values()) / MB:.1f} MB"
                f" and the budget is {self.budget_mb:g} MB: record fewer sites, heads or rows, use "
                "dtype=torch.float16, or raise budget_mb"
            )
        for site in sites:
            self._calls[site] = [_join_calls(self._calls[site])]
        return {site: self._calls[site][0] for site in sites}

    def stack(self, pattern: str) -> Float[Tensor, "L B H T S"]:
        """Return the maps of all recorded sites that match `pattern`, layer by layer.

        Raises ValueError where nothing matches: an empty result would look like an answer.
        """
        found = [maps for site, maps in self.maps.items() if fnmatchcase(site, pattern)]
        if not found:
            raise ValueError(f"nothing recorded at {pattern!r}; recorded: {', '.join(self._calls)}")
        return torch.stack(found)

    def clear(self) -> None:
        """Forget what was recorded."""
        self.met.clear()
        self._calls.clear()
        self._needed.clear()

    def _over_budget(self) -> bool:
        return self.budget_mb is not None and sum(self._needed.values()) > self.budget_mb * MB


def select_heads(
    call: AttentionCall, heads: list[int] | None, site: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return q, k and mask of the chosen heads; k has as many heads as q or fewer.

    Raises ValueError for a head that the site does not have.
    """
    q, k, mask = call.q, call.k, call.mask
    if heads is None:
        return q, k, mask
    check_indices("heads", heads, q.shape[1], site)
    groups = q.shape[1] // k.shape[1]
    if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
        mask = mask[:, heads]
    return q[:, heads], k[:, [head % q.shape[1] // groups for head in heads]], mask


def select_rows(
    q: Tensor, mask: Tensor | None, rows: list[int] | None, site: str
) -> tuple[Tensor, Tensor | None]:
    """Return the chosen query rows of q and mask.

    Raises ValueError for a row that the call does not have.
    """
    if rows is None:
        return q, mask
    check_indices("rows", rows, q.shape[2], site)
    if mask is not None and mask.dim() >= 2 and mask.shape[-2] > 1:
        mask = mask[..., rows, :]
    return q[:, :, rows], mask


def chosen(what: str, indices: list[int] | None, count: int, site: str) -> Sequence[int]:
    """Return the numbers from 0 of the chosen of `count` heads or rows, all of them if None.

    Raises ValueError for one that does not exist.
    """
    if indices is None:
        return range(count)
    check_indices(what, indices, count, site)
    return [index % count for index in indices]


def check_indices(what: str, indices: list[int], count: int, site: str) -> None:
    """Raise ValueError for an index outside -count .. count - 1."""
    wrong = [index for index in indices if not -count <= index < count]
    if wrong:
        raise ValueError(f"{what}={indices}, but {site} has {count} {what}: {wrong[0]} is not one")


def _join_calls(calls: list[Tensor]) -> Tensor:
    """Put the query rows of several calls under each other, padding keys that came later."""
    if len(calls) == 1:
        return calls[0]
    batch, heads = calls[0].shape[:2]
    other = next((call for call in calls if call.shape[:2] != (batch, heads)), None)
    if other is not None:
        raise ValueError(
            f"a site ran with {batch} x {heads} rows and heads, then with {other.shape[0]} x "
            f"{other.shape[1]}: clear() the recorder between passes"
        )
    rows, keys = sum(call.shape[2] for call in calls), max(call.shape[3] for call in calls)
    joined, row = calls[0].new_zeros(batch, heads, rows, keys), 0
    for call in calls:
        joined[:, :, row : row + call.shape[2], : call.shape[3]] = call
        row += call.shape[2]
    return joined
