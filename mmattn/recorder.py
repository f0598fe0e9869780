"""Which attention maps to keep, and how to get them exactly while the fused kernel stays on.

The fused kernel never returns its weights. A `Recorder` handed down as an argument gets the very q
and k that the kernel consumed, after normalisation and rotation, and recomputes
softmax(q·kᵀ/√K) for the rows asked for. The kernel's own call does not change, so the model's
output is the same to the last bit with and without a recorder.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.taps import AttentionCall, Listener

MB = 1 << 20


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
    q = q * (width**-0.5 if scale is None else scale)
    q = q.reshape(batch, groups, heads // groups * queries, width)
    scores = (q @ k.transpose(-2, -1)).view(batch, heads, queries, -1)
    if mask is None:
        return scores.softmax(-1)
    if mask.dtype != torch.bool:
        scores, mask = scores + mask.to(dtype), mask > float("-inf")
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)  # also turns the NaN of an all-masked row into zeros


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
        q, k, mask = select_heads(call, self.heads, site)
        q, mask = select_rows(q, mask, self.rows, site)
        dtype = self.dtype or torch.promote_types(q.dtype, torch.float32)
        size = prod((*q.shape[:3], k.shape[2])) * dtype.itemsize
        self._needed[site] = self._needed.get(site, 0) + size
        if self._over_budget():  # what it takes in all is known at the end: go on counting
            self._calls.clear()
        else:
            weights = attention_weights(q, k, mask, call.scale).to(dtype)
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
        return {site: _join_calls(self._calls[site]) for site in sites}

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


def check_indices(what: str, indices: list[int], count: int, site: str) -> None:
    """Raise ValueError for an index outside -count .. count - 1."""
    wrong = [index for index in indices if not -count <= index < count]
    if wrong:
        raise ValueError(f"{what}={indices}, but {site} has {count} {what}: {wrong[0]} is not one")


def _join_calls(calls: list[Tensor]) -> Tensor:
    """Put the query rows of several calls under each other, padding keys that came later."""
    if len(calls) == 1:
        return calls[0]
    keys = max(call.shape[-1] for call in calls)
    padded = [torch.nn.functional.pad(call, (0, keys - call.shape[-1])) for call in calls]
    return torch.cat(padded, dim=2)
