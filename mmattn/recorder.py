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
BLOCK_BYTES = {"cpu": 4 * MB, "cuda": 256 * MB}


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
    return weights_of_scores(*attention_scores(q, k, mask, scale))


def attention_scores(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    mask: Tensor | None,
    scale: float | None,
) -> tuple[Float[Tensor, "B H T S"], Tensor | None]:
    """Return scale·q·kᵀ, plus what `mask` adds, and where a query may attend, None for everywhere.

    A score that is masked is the least finite number: its weight is still zero.
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
        return scores, None
    if mask.dtype != torch.bool:
        scores, mask = scores + mask.to(dtype), mask > float("-inf")
    return scores.masked_fill_(~mask, torch.finfo(dtype).min), mask


def weights_of_scores(
    scores: Float[Tensor, "B H T S"], allowed: Tensor | None
) -> Float[Tensor, "B H T S"]:
    """Return the weights of scores; zeros in a row that may attend to nothing."""
    weights = scores.softmax(-1)
    return weights if allowed is None else weights.masked_fill_(~allowed, 0.0)


def empty_rows(weights: Float[Tensor, "*B S"]) -> Bool[Tensor, "*B"]:
    """Return which rows of attention weights are of queries that may attend to nothing."""
    return (weights == 0).all(-1)


class Block(NamedTuple):
    """A part of a call's weights, and its place among all [B, chosen heads, chosen rows, S]."""

    images: slice
    heads: slice
    rows: slice
    weights: Float[Tensor, "b h r S"]
    scores: Float[Tensor, "b h r S"]  # whose softmax they are


def weight_blocks(
    call: AttentionCall,
    heads: Sequence[int],
    rows: Sequence[int],
    max_bytes: int | None = None,
    joint_bytes: int | None = None,
) -> Iterator[Block]:
    """Yield the attention weights of the chosen heads and query rows of a call, block by block.

    A block and all that is needed to compute it, casts to float32 included, take at most
    `max_bytes` (`BLOCK_BYTES` if None), unless a single row already takes more. Heads share a block
    as far as that takes at most `joint_bytes` (`max_bytes` if None). `heads` and `rows` are not
    negative.
    """
    q, k, mask = call.q, call.k, call.mask
    mask = None if mask is None else mask.expand(*q.shape[:3], k.shape[2])
    sizes = len(heads), len(rows), max_bytes or block_bytes(q.device), joint_bytes
    for images, few, some in _block_slices(call, *sizes):
        scores, allowed = attention_scores(
            select(q[images], heads[few], q.shape[1], rows[some]),
            select(k[images], heads[few], q.shape[1]),
            None if mask is None else select(mask[images], heads[few], q.shape[1], rows[some]),
            call.scale,
        )
        yield Block(images, few, some, weights_of_scores(scores, allowed), scores)


def block_bytes(device: torch.device) -> int:
    """Return what a block may take where nothing else restricts it."""
    return BLOCK_BYTES.get(device.type, BLOCK_BYTES["cuda"])


def _block_slices(
    call: AttentionCall, heads: int, rows: int, max_bytes: int, joint_bytes: int | None
) -> Iterator[tuple[slice, slice, slice]]:
    """Yield the images, heads and rows of each block: heads are parted first, then images."""
    joint_bytes = max_bytes if joint_bytes is None else joint_bytes
    q, k = call.q, call.k
    (batch, key_heads, keys, width), itemsize = k.shape, max(q.itemsize, 4)
    row = (5 * keys + 3 * width) * itemsize  # scores, copies, mask, the last block; and the query
    copied = k.itemsize < itemsize or key_heads < q.shape[1]
    copy = keys * width * itemsize if copied else 0
    one = copy + rows * row  # one head of one image
    heads_each = max(1, min(heads, joint_bytes // (batch * one)))
    images_each = max(1, min(batch, max_bytes // one))
    rows_each = max(1, min(rows, (max_bytes - copy) // row))
    for images in _parts(batch, images_each):
        for few in _parts(heads, heads_each):
            for some in _parts(rows, rows_each):
                yield images, few, some


def _parts(count: int, each: int) -> list[slice]:
    return [slice(first, min(first + each, count)) for first in range(0, count, each)]


def select(
    x: Float[Tensor, "B G T ..."] | Bool[Tensor, "B G T ..."],
    heads: Sequence[int],
    of: int,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Return what chosen ones of `of` query heads use of x: of its heads, and of its rows.

    Each of x's G heads serves `of`/G query heads. A view of x where heads and rows follow each
    other.
    """
    shared = of // x.shape[1]
    x = _pick(x, 1, [head // shared for head in heads])
    return x if rows is None else _pick(x, 2, rows)


def _pick(x: Tensor, dim: int, indices: Sequence[int]) -> Tensor:
    if list(indices) == list(range(indices[0], indices[0] + len(indices))):
        return x.narrow(dim, indices[0], len(indices))
    return x.index_select(dim, torch.tensor(indices, device=x.device))


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
        # Beside what is kept, 5 % of it; less than a quarter of a full block would be slow. A GPU
        # has more memory than time for so many small steps.
        full, beyond = block_bytes(call.q.device), sum(self._needed.values()) // 20
        block = min(full, max(full // 4, beyond))
        joint = beyond if call.q.device.type == "cpu" else block
        for part in weight_blocks(call, heads, rows, block, joint):
            weights[part.images, part.heads, part.rows] = part.weights
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
