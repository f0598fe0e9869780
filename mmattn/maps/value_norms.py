"""How long the vector is that a token receives from each other one (Kobayashi et al. 2020).

A weight says how much of a value is taken, not how much there is to take: a large weight on a short
value moves nothing. The vector that query i gets from key j is Σ_h P_ij^h v_j^h W_o^h, with the
head's columns W_o^h of the output projection (section 3 of the paper, αf(x)).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.recorder import attention_weights
from mmattn.taps import AttentionCall, Listener


class ValueNorms(Listener):
    """Keeps the norms of what each token receives from each key, at the sites of a mapping.

    Args:
        projections: for each site the weight [D, H·K] of its output projection.
        per_head: keep the norms of every head, [B, H, T, S], instead of those of the sum of the
            heads, [B, 1, T, S].

    `norms[site]` is in the order in which the sites ran.
    """

    def __init__(self, projections: Mapping[str, Float[Tensor, "D HK"]], *, per_head: bool = False):
        super().__init__(projections)
        self.projections, self.per_head = dict(projections), per_head
        self.norms: dict[str, Float[Tensor, "B H T S"]] = {}

    @torch.no_grad()
    def take(self, site: str, call: AttentionCall) -> None:
        """Keep one call. Raises ValueError where the site runs a second time."""
        if site in self.norms:
            raise ValueError(f"{site} ran twice: value norms need one pass over whole texts")
        weights = attention_weights(call.q, call.k, call.mask, call.scale)
        vectors = projected_values(call.v, self.projections[site])
        if self.per_head:
            self.norms[site] = head_norms(weights, vectors)
        else:
            self.norms[site] = sum_norms(weights, vectors)[:, None]


def projected_values(
    v: Float[Tensor, "B G S K"], projection: Float[Tensor, "D HK"]
) -> Float[Tensor, "B H S D"]:
    """Return v_j^h W_o^h, what each head would write of each key at a weight of 1.

    In float32 at least. With G < H each value head serves H/G heads.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    heads = projection.shape[1] // v.shape[-1]
    by_head = projection.to(dtype).view(len(projection), heads, -1).permute(1, 2, 0)  # [H, K, D]
    return v.to(dtype).repeat_interleave(heads // v.shape[1], dim=1) @ by_head


def head_norms(
    weights: Float[Tensor, "B H T S"], vectors: Float[Tensor, "B H S D"]
) -> Float[Tensor, "B H T S"]:
    """Return ‖P_ij^h v_j^h W_o^h‖ = P_ij^h ‖v_j^h W_o^h‖ of each head."""
    return weights * vectors.norm(dim=-1)[:, :, None]


def sum_norms(
    weights: Float[Tensor, "B H T S"], vectors: Float[Tensor, "B H S D"]
) -> Float[Tensor, "B T S"]:
    """Return ‖Σ_h P_ij^h v_j^h W_o^h‖, without ever making the T·S vectors.

    With the Gram matrix G_j = V_j V_jᵀ [H, H] of a key's vectors, the square is p_ijᵀ G_j p_ij.
    """
    by_key = vectors.transpose(1, 2)  # [B, S, H, D]
    gram = by_key @ by_key.mT
    rows = weights.permute(0, 3, 2, 1)  # [B, S, T, H]
    square = ((rows @ gram) * rows).sum(-1)  # [B, S, T]
    return square.clamp(min=0).sqrt().mT
