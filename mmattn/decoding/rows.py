"""Writing rows that go on each by itself: what greedy decoding and sampling share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.decoding.decoded import Decoded, Limits, Ranking
from mmattn.decoding.ensemble import AnyStepper, Encoded, Heard, Model, stepper_of
from mmattn.decoding.rules import Rule, obey
from mmattn.errors import ConfigError

# (scores [A, K, V] after the rules, the images [A] they are of, step) -> tokens [A, K]
Choice = Callable[[Float[Tensor, "A K V"], Int[Tensor, "A"], int], Int[Tensor, "A K"]]


@torch.no_grad()
def write_rows(
    model: Model,
    image: Encoded,
    rows: int,
    choose: Choice,
    limits: Limits,
    *,
    rules: Sequence[Rule] = (),
    listener: Heard = None,
    best: int | None = None,
    ranking: Ranking | None = None,
) -> Decoded:
    """Write `rows` captions of each image, a token at a time.

    Stops when every caption has ended or is as long as may be. A caption's score is the mean
    log-probability of its tokens, or what `ranking` gives it; the `best` ones are returned, all in
    the order of the rows if None. Raises ConfigError where the rules leave no token.
    """
    end_id, max_length = limits.end_id, limits.max_length
    stepper = stepper_of(model, image, rows, max_length, listener)
    images, device = len(stepper.images), stepper.images.device
    newest = torch.full((images, rows), limits.begin_id, device=device)
    going = torch.ones(images, rows, dtype=torch.bool, device=device)
    past = newest[..., None][..., :0]  # what was written, which only rules ask for
    steps: list[_Step] = []
    for step in range(max_length):
        logits = scores = stepper.step(newest).float()
        if rules:
            scores = obey(rules, logits, past)
            check_left(scores, going, step)
        chosen = choose(scores, stepper.images, step)
        log_prob = logits.log_softmax(-1).gather(-1, chosen[..., None])[..., 0]
        steps.append(_Step(stepper.images, chosen, log_prob))
        newest, going = chosen, going & (chosen != end_id)
        if not int(going.sum()):
            break
        if rules:
            past = torch.cat([past, newest[..., None]], -1)
        left = going.any(-1)
        if 2 * int(left.sum()) <= len(left):  # copying what is left has its price, too
            places = left.nonzero()[:, 0]
            stepper.keep(places)
            newest, going, past = newest[places], going[places], past[places]
    written = _written(steps, images, stepper.rows, end_id)
    if ranking is not None:
        written = written._replace(scores=ranking(written))
    return _ranked(written, best, stepper)


class _Step(NamedTuple):
    """What one step wrote: a token for each row of the images that were computed.

    A row that has ended writes on, for nobody, as long as another one of its image does not.
    """

    images: Int[Tensor, "A"]
    tokens: Int[Tensor, "A K"]
    log_probs: Float[Tensor, "A K"]


def _written(steps: Sequence[_Step], images: int, rows: int, end_id: int) -> Decoded:
    """Return what was written, in the order of the rows."""
    device = steps[0].tokens.device
    tokens = torch.full((images, rows, len(steps)), end_id, device=device)
    log_probs = torch.zeros(images, rows, len(steps), dtype=torch.float32, device=device)
    for place, step in enumerate(steps):
        tokens[step.images, :, place] = step.tokens
        log_probs[step.images, :, place] = step.log_probs
    ends = tokens == end_id
    after = ends.cumsum(-1) - ends.long() > 0
    tokens, log_probs = tokens.masked_fill(after, end_id), log_probs.masked_fill(after, 0.0)
    lengths = (tokens != end_id).sum(-1).add(1).clamp(max=len(steps))
    return Decoded(tokens, log_probs, log_probs.sum(-1) / lengths)


def _ranked(written: Decoded, best: int | None, stepper: AnyStepper) -> Decoded:
    """Return the best captions, best first, all as they come if None, and report how."""
    tokens, log_probs, scores = written
    images, rows, length = tokens.shape
    order = torch.arange(rows, device=tokens.device).expand(images, rows)
    if best is not None:
        order = scores.sort(dim=-1, descending=True, stable=True).indices[:, :best]
    places = order[..., None].expand(*order.shape, length)
    stepper.report(places)
    return Decoded(tokens.gather(1, places), log_probs.gather(1, places), scores.gather(1, order))


def check_left(scores: Float[Tensor, "A K V"], going: Bool[Tensor, "A K"], step: int) -> None:
    """Raise ConfigError where a caption that goes on may not go on with any token."""
    if bool((scores.amax(-1).isneginf() & going).any()):
        raise ConfigError(
            f"the rules forbid every token at place {step} of a caption: they contradict each other"
        )
