"""Exact search for the nearest of many vectors, block by block: no index that may miss any."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 65_536  # vectors that are compared at once: 64 MB of 256 numbers each
QUERIES = 256  # queries that are compared with a block at once
# How far a product in float32 may be from the exact one, for vectors of length 1: many times what
# summing some thousand products loses.
SLACK = 1e-4


def nearest(
    queries: Float[Tensor, "Q E"], vectors: Float[Tensor, "N E"], top: int, block: int = BLOCK
) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
    """Return the K = min(top, N) vectors that are most similar to each query, best first.

    A matrix product in float32 finds those that may be among them, and what is returned is computed
    again in float64, vector by vector: it depends neither on the block that a vector is in nor on
    the other queries, and of equal vectors the first come first.

    Args:
        queries: of length 1.
        vectors: of length 1; may be a file that is mapped into memory, and larger than that.
        top: how many are wanted, 1 or more.
        block: how many are compared at once.

    Returns:
        The similarities, float32, and the places of the vectors.
    """
    top = min(top, len(vectors))
    if not len(queries) or not top:
        return torch.empty(len(queries), top), torch.empty(len(queries), top, dtype=torch.long)
    found = [best_of_chunk(chunk, vectors, top, block) for chunk in queries.split(QUERIES)]
    similarities, places = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(places)


def best_of_chunk(
    queries: Float[Tensor, "Q E"], vectors: Float[Tensor, "N E"], top: int, block: int
) -> tuple[Float[Tensor, "Q K"], Int[Tensor, "Q K"]]:
    """Return what `nearest` does, of queries that are compared with a block at once."""
    chosen = candidates(queries, vectors, top, block)
    pairs = [
        ranked(query, vectors, places, top) for query, places in zip(queries, chosen, strict=True)
    ]
    similarities, places = zip(*pairs, strict=True)
    return torch.stack(similarities), torch.stack(places)


def candidates(
    queries: Float[Tensor, "Q E"], vectors: Float[Tensor, "N E"], top: int, block: int
) -> list[Int[Tensor, "M"]]:
    """Return, for each query, the places of all that may be among its nearest, in their order."""
    least = torch.full((len(queries),), -torch.inf)  # what the last of the nearest has at least
    rows, columns, similar = [], [], []
    for start in range(0, len(vectors), block):
        scores = queries @ vectors[start : start + block].T
        if scores.shape[1] >= top:
            least = torch.maximum(least, scores.topk(top).values[:, -1])
        row, column = (scores >= (least - SLACK)[:, None]).nonzero(as_tuple=True)
        rows.append(row)
        columns.append(column + start)
        similar.append(scores[row, column])
    row, column, score = torch.cat(rows), torch.cat(columns), torch.cat(similar)
    still = score >= (least - SLACK)[row]  # of an early block more were kept than need be
    row, column = row[still], column[still]
    return [column[row == query] for query in range(len(queries))]


def ranked(
    query: Float[Tensor, "E"], vectors: Float[Tensor, "N E"], places: Int[Tensor, "M"], top: int
) -> tuple[Float[Tensor, "K"], Int[Tensor, "K"]]:
    """Return the best of the vectors at these places, compared in float64."""
    exact = (vectors[places].double() * query.double()).sum(-1).float()
    order = exact.sort(descending=True, stable=True).indices[:top]
    return exact[order], places[order]
