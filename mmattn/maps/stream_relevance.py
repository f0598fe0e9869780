"""Relevance through attention between any number of streams (Chefer, Gur and Wolf 2021).

The paper keeps four matrices for two modalities: R^tt, R^ii, R^ti and R^it. Here they are the
blocks of one: R over the joint index set of all J tokens of all streams, of which row m says what
token m is made of. At first R = I (equations 1 and 2: I on the diagonal blocks, 0 elsewhere). An
attention call changes the rows of the stream s that asked and no other, by its Ā = E_h((∇P⊙P)⁺)
(equation 5). With r the tokens outside s, those of every other stream:

- s attends to itself: R^ss ← R^ss + Ā·R^ss (6) and R^sr ← R^sr + Ā·R^sr (7). Both are the same
  product with other columns, so R[s, :] ← R[s, :] + Ā·R[s, :].
- s attends to q: R^sr ← R^sr + (R̄^ss)ᵀ·Ā·R̄^qr (10) and R^ss ← R^ss + Ā·R^qs (11). The second is
  what comes back to s from what q has seen of it. With two streams r is q, and this is the paper's
  pair. With more (a pooler's tokens, which are of the patches; queries that look at two modalities
  at once) the keys bring along all that they are made of outside s.
- R̄ (8, 9): rows of R - I divided by their sums, plus I. The division is over the columns that the
  product uses: of R̄^ss those of s, of R̄^qr those of r, where I has a one for each token of q.

All products use R as it was before the call. Of the keys' rows that is R as it was when they were
projected: in co-attention both streams look at the other one as it was before the layer.

A stream that attends to one that never looked back has R^qs = 0: equation 11 adds nothing, R̄^qr is
R̄^qq, and what is left is the rule for decoders (`relevance.decoder_relevance`). One stream alone,
or a merged one, never leaves equation 6 (`relevance.self_relevance`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.maps.relevance import normalised


def attend_to_itself(
    relevance: Float[Tensor, "B J J"], stream: slice, attended: Float[Tensor, "B S S"]
) -> Float[Tensor, "B J J"]:
    """Return R after self-attention Ā of one stream (equations 6 and 7)."""
    return _added(relevance, stream, attended @ relevance[:, stream])


def attend_across(
    relevance: Float[Tensor, "B J J"],
    queries: slice,
    keys: slice,
    attended: Float[Tensor, "B S Q"],
    before: Float[Tensor, "B J J"],
) -> Float[Tensor, "B J J"]:
    """Return R after cross-attention Ā from one stream to another (equations 10 and 11).

    `before` is R as it was when the keys were projected; its rows of the keys are used.
    """
    known = before[:, keys]
    brought = torch.zeros_like(relevance[:, queries])
    brought[..., queries] = attended @ known[..., queries]
    rest = normalised_rows(known, keys, queries)  # zero in the columns of the queries
    own = normalised(relevance[:, queries, queries])
    return _added(relevance, queries, brought + own.mT @ (attended @ rest))


def normalised_rows(
    rows: Float[Tensor, "B Q J"], places: slice, without: slice
) -> Float[Tensor, "B Q J"]:
    """Return R̄ of the rows that stand at `places`, over all columns but those of `without`.

    A row that attention brought nothing is the token itself.
    """
    identity = torch.eye(rows.shape[-1], dtype=rows.dtype, device=rows.device)[places]
    brought = rows - identity
    brought[..., without] = 0
    total = brought.sum(-1, keepdim=True)
    return brought / total.where(total > 0, 1.0) + identity


def block_diagonal(attended: Float[Tensor, "BM Q K"], blocks: int) -> Float[Tensor, "B MQ MK"]:
    """Return the Ā of M = `blocks` attentions that do not meet as that of one over all of them."""
    if blocks == 1:
        return attended
    apart = attended.unflatten(0, (-1, blocks))
    batch, _, queries, keys = apart.shape
    joint = apart.new_zeros(batch, blocks, queries, blocks, keys)
    for m in range(blocks):
        joint[:, m, :, m] = apart[:, m]
    return joint.view(batch, blocks * queries, blocks * keys)


def _added(relevance: Tensor, rows: slice, brought: Tensor) -> Tensor:
    relevance = relevance.clone()
    relevance[:, rows] += brought
    return relevance
