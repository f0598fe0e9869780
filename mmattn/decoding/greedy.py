"""Greedy decoding: at every step the most probable token."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner


class Decoded(NamedTuple):
    """What a decoding method returns for B images.

    tokens: [B, T] without the begin token; after a caption's end token every entry is the end
    token. log_probs: [B, T], the log-probability of each token, 0 after the end token.
    """

    tokens: Int[Tensor, "B T"]
    log_probs: Float[Tensor, "B T"]


@torch.no_grad()
def greedy(
    model: Captioner, image: ImageTokens, *, begin_id: int, end_id: int, max_length: int
) -> Decoded:
    """Decode one caption for each image with a key/value cache.

    Stops when every caption has ended, or after `max_length` tokens, the end token included.
    Raises ValueError where `max_length` leaves no room for a token.
    """
    if max_length < 1:
        raise ValueError(f"max_length={max_length}: a caption has at least one token")
    memory = model.memory(image)
    batch, device = len(image.tokens), image.tokens.device
    newest = torch.full((batch, 1), begin_id, dtype=torch.long, device=device)
    ended = torch.zeros(batch, dtype=torch.bool, device=device)
    cache, tokens, log_probs = None, [], []
    for _ in range(max_length):
        hidden, cache = model.text.extend(newest, cache, memory)
        chosen, log_prob = most_probable(model.logits(hidden[:, -1]), ended, end_id)
        tokens.append(chosen)
        log_probs.append(log_prob)
        ended = ended | (chosen == end_id)
        if bool(ended.all()):
            break
        newest = chosen[:, None]
    return Decoded(torch.stack(tokens, 1), torch.stack(log_probs, 1))


def most_probable(
    logits: Float[Tensor, "B V"], ended: Bool[Tensor, "B"], end_id: int
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """Return each row's best token and its log-probability; ended rows repeat the end token."""
    logits = logits.float()
    best, token = logits.max(-1)
    log_prob = best - logits.logsumexp(-1)  # one reduction instead of a softmax over V columns
    return token.masked_fill(ended, end_id), log_prob.masked_fill(ended, 0.0)
