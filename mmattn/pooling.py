"""From an image's tokens to a fixed number of them: learned queries that attend to all."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mmattn.attention import Attention, make_norm
from mmattn.taps import Tap


class AttentionPooler(nn.Module):
    """Q learned queries that attend to an image's tokens (CoCa, Yu et al. 2022, section 3.2).

    Args:
        queries: number of queries Q, and of the tokens that come out.
        dim: width D of the queries and of the output.
        heads: heads of the attention.
        context_dim: width C of the image's tokens.
        norm: "layer" or "rms", of the queries and of the image's tokens.
        norm_eps: epsilon of both.
    """

    def __init__(
        self,
        queries: int,
        dim: int,
        heads: int,
        context_dim: int,
        *,
        norm: str = "layer",
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.dim, self.norm, self.norm_eps = dim, norm, norm_eps
        self.queries = nn.Parameter(torch.empty(queries, dim))
        self.query_norm = make_norm(norm, dim, norm_eps)
        self.attention = Attention(
            dim, heads, context_dim=context_dim, context_norm=norm, norm_eps=norm_eps
        )

    def forward(
        self, tokens: Float[Tensor, "B S C"], tap: Tap | None = None
    ) -> Float[Tensor, "B Q D"]:
        """Return what each query gathered of each image."""
        queries = self.query_norm(self.queries).expand(tokens.shape[0], -1, -1)
        return self.attention(queries, self.attention.kv(tokens), tap=tap)

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "queries": len(self.queries),
            "dim": self.dim,
            "heads": self.attention.heads,
            "context_dim": self.attention.to_kv.in_features,
            "norm": self.norm,
            "norm_eps": self.norm_eps,
        }
