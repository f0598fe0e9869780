"""Which attention maps to keep, and how to get them exactly while the fused kernel stays on.

The fused kernel never returns its weights. A `Recorder` handed down as an argument gets the very q
and k that the kernel consumed, after normalisation and rotation, and recomputes
softmax(q·kᵀ/√K) for the rows asked for. The kernel's own call does not change, so the model's
output is the same to the last bit with and without a recorder.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def attention_weights(
    q: Float[Tensor, "B H T K"],
    k: Float[Tensor, "B G S K"],
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "B H T S"]:
    """Return softmax(q·kᵀ/√K), the weights that `attend` uses and does not show.

    Computed in float32 at least, whatever the inputs are. A row that may attend to nothing is zero.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(dtype), k.to(dtype)
    batch, heads, queries, width = q.shape
    groups = k.shape[1]
    q = (q * width**-0.5).reshape(batch, groups, heads // groups * queries, width)
    scores = (q @ k.transpose(-2, -1)).view(batch, heads, queries, -1)
    if mask is None:
        return scores.softmax(-1)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return weights.masked_fill(~mask, 0.0)  # also turns the NaN of an all-masked row into zeros


class Recorder:
    """Keeps the attention maps of chosen places during a forward pass.

    Args:
        sites: glob patterns of the places to record. Places are named `vision.<layer>.self`,
            `text.<layer>.self` and `text.<layer>.cross`.
        heads: the heads to keep; all of them if None.

    `maps[site]` is [rows, heads, queries, keys] in float32 (float64 for a float64 model). For
    cross-attention the queries are the N·T tokens of an image's N captions, in order; the keys are
    its P prefix tokens, then its S patches. Where a site runs several times (cached decoding), the
    calls' query rows follow each other, with missing later keys as zeros.
    """

    def __init__(
        self, sites: Iterable[str] = ("text.*.cross",), heads: Iterable[int] | None = None
    ):
        self.sites = tuple(sites)
        self.heads = None if heads is None else list(heads)
        self._calls: dict[str, list[Tensor]] = {}

    def at(self, stack: str, layer: int) -> "Scope":
        """Return this recorder as layer `layer` of `stack` hands it to its attentions."""
        return Scope(self, f"{stack}.{layer}")

    def tap(self, site: str) -> "Tap | None":
        """Return where to send this site's q and k, or None where nobody asked for it."""
        wanted = any(fnmatchcase(site, pattern) for pattern in self.sites)
        return Tap(self, site) if wanted else None

    def keep(self, site: str, weights: Float[Tensor, "B H T S"]) -> None:
        """Store one call's weights."""
        self._calls.setdefault(site, []).append(weights)

    @property
    def maps(self) -> dict[str, Float[Tensor, "B H T S"]]:
        """The recorded maps by site, in the order in which the sites ran."""
        return {site: _join_calls(calls) for site, calls in self._calls.items()}

    def stack(self, pattern: str) -> Float[Tensor, "L B H T S"]:
        """Return the maps of all sites that match `pattern`, layer by layer.

        Raises ValueError where nothing matches: an empty result would look like an answer.
        """
        found = [maps for site, maps in self.maps.items() if fnmatchcase(site, pattern)]
        if not found:
            raise ValueError(
                f"nothing recorded at {pattern!r}; recorded: {', '.join(self._calls) or 'nothing'}"
            )
        return torch.stack(found)

    def clear(self) -> None:
        """Forget what was recorded."""
        self._calls.clear()


class Scope:
    """A recorder as one layer sees it."""

    def __init__(self, recorder: Recorder, prefix: str):
        self._recorder, self._prefix = recorder, prefix

    def tap(self, name: str) -> "Tap | None":
        """Return where attention `name` ("self" or "cross") of this layer sends its q and k."""
        return self._recorder.tap(f"{self._prefix}.{name}")


class Tap:
    """The one line that an attention call knows of a recorder."""

    def __init__(self, recorder: Recorder, site: str):
        self._recorder, self._site = recorder, site

    @torch.no_grad()
    def record(self, q: Tensor, k: Tensor, mask: Tensor | None) -> None:
        """Recompute and keep the weights of one attention call."""
        heads = self._recorder.heads
        if heads is not None:
            groups = q.shape[1] // k.shape[1]
            q, k = q[:, heads], k[:, [head // groups for head in heads]]
            if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
                mask = mask[:, heads]
        self._recorder.keep(self._site, attention_weights(q, k, mask))


def _join_calls(calls: list[Tensor]) -> Tensor:
    """Put the query rows of several calls under each other, padding keys that came later."""
    if len(calls) == 1:
        return calls[0]
    keys = max(call.shape[-1] for call in calls)
    padded = [torch.nn.functional.pad(call, (0, keys - call.shape[-1])) for call in calls]
    return torch.cat(padded, dim=2)
