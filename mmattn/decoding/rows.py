"""Writing rows that go on each by itself: what greedy decoding and sampling share."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.rules import Rule, obey
from mmattn.decoding.stepper import Stepper
from mmattn.taps import Listener

# (scores [A, K, V] after the rules, the images [A] they are of, step) -> tokens [A, K]
Choice = Callable[[Float[Tensor, "A K V"], Int[Tensor, "A"], int], Int[Tensor, "A K"]]


@torch.no_grad()
def write_rows(
    model: Captioner,
    image: ImageTokens,
    rows: int,
    choose: Choice,
    limits: Limits,
    *,
    rules: Sequence[Rule] = (),
    listener: Listener | None = None,
    best: int | None = None,
) -> Decoded:
    """Write `rows` captions of each image, a token at a time.

    Stops when every caption has ended or is as long as may be. A caption's score is the mean
    log-probability of its tokens; the `best` ones are returned, all in the order of the rows if
    None. Raises ValueError where the rules leave no token.
    """
    end_id, max_length = limits.end_id, limits.max_length
    stepper, device = Stepper(model, image, rows, max_length, listener), image.tokens.device
    images = len(image.tokens)
    tokens = torch.full((images, rows, max_length), end_id, device=device)
    log_probs = torch.zeros(images, rows, max_length, dtype=torch.float32, device=device)
    lengths = torch.zeros(images, rows, dtype=torch.long, device=device)
    newest = torch.full((images, rows), limits.begin_id, device=device)
    for step in range(max_length):
        ids = stepper.images
        logits = stepper.step(newest).float()
        scores = obey(rules, logits, tokens[ids, :, :step])
        check_left(scores, newest, end_id, step)
        chosen = choose(scores, ids, step)
        log_prob = logits.gather(-1, chosen[..., None])[..., 0] - logits.logsumexp(-1)
        ended = (newest == end_id) & (step > 0)
        newest = chosen.masked_fill(ended, end_id)
        tokens[ids, :, step], log_probs[ids, :, step] = newest, log_prob.masked_fill(ended, 0.0)
        lengths[ids] += ~ended
        left = (newest != end_id).any(-1)
        going = int(left.sum())
        if not going:
            break
        if 2 * going <= len(left):  # copying what is left has its price, too
            places = left.nonzero()[:, 0]
            stepper.keep(places)
            newest = newest[places]
    scores = log_probs.sum(-1) / lengths
    order = torch.arange(rows, device=device).expand(images, rows)
    if best is not None:
        order = scores.sort(dim=-1, descending=True, stable=True).indices[:, :best]
    places = order[..., None].expand(*order.shape, stepper.length)
    stepper.report(places)
    return Decoded(tokens.gather(1, places), log_probs.gather(1, places), scores.gather(1, order))


def check_left(scores: Tensor, newest: Tensor, end_id: int, step: int) -> None:
    """Raise ValueError where a caption that goes on may not go on with any token."""
    stuck = scores.amax(-1).isneginf() & ((newest != end_id) | (step == 0))
    if bool(stuck.any()):
        raise ValueError(
            f"the rules forbid every token at place {step} of a caption: they contradict each other"
        )
