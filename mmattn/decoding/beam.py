"""Beam search, and diverse beam search where the beams are in groups."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.decoding.decoded import Decoded, Limits, Ranking
from mmattn.decoding.ensemble import AnyStepper, Encoded, Heard, Model, stepper_of
from mmattn.decoding.hypotheses import Beams, Candidates, Finished, Hypothesis, stacked
from mmattn.decoding.required import RequiredPhrases
from mmattn.decoding.rules import NEVER, Rule, obey
from mmattn.errors import ConfigError


@dataclass(frozen=True)
class BeamSearch:
    """Beam search as Hugging Face's `generate` defines it, and diverse beam search.

    A caption is ranked by the sum of its tokens' log-probabilities over length^length_penalty, the
    end token counted. At every step the K best continuations that do not end go on; one that ends
    is kept where it is among the K best. An image is done when K captions have ended and none that
    goes on could, at its present length, rank above the worst of them.

    With `groups` > 1 each group of beams/groups rows searches by itself, and a token that earlier
    groups chose at the same step costs `diversity` for each time (Vijayakumar et al. 2018, with
    Hamming diversity).

    Args:
        beams: K, all groups together.
        groups: how many groups.
        diversity: nats that a token costs for each row of an earlier group that chose it.
        length_penalty: above 0 favours long captions, below 0 short ones.
        early_stopping: an image is done as soon as K captions have ended.
        returned: how many captions of each image, the best of all groups.
        required: what every caption must hold; a group then shares its rows among captions that
            have more of it and less, see `RequiredPhrases`.
        candidates: how many captions of each image, the best of all groups, the call's `ranking`
            chooses among; `beams` if None.

    Raises:
        ConfigError: for numbers that do not fit each other.
    """

    beams: int = 4
    groups: int = 1
    diversity: float = 0.0
    length_penalty: float = 1.0
    early_stopping: bool = False
    returned: int = 1
    required: RequiredPhrases | None = None
    candidates: int | None = None

    def __post_init__(self):
        if self.beams < 1 or self.groups < 1 or self.beams % self.groups:
            raise ConfigError(
                f"beams={self.beams} do not divide into groups={self.groups}: give a multiple"
            )
        if not 1 <= self.returned <= self.beams:
            raise ConfigError(
                f"returned={self.returned}, but beams={self.beams}: give from 1 to so many"
            )
        if not self.returned <= (self.candidates or self.beams) <= self.beams:
            raise ConfigError(
                f"candidates={self.candidates}: give from returned={self.returned} to "
                f"beams={self.beams}"
            )
        if not self.diversity >= 0:
            raise ConfigError(f"diversity={self.diversity}: give 0 or more")
        if self.required and self.beams < 2 * self.groups:
            raise ConfigError(
                f"required={self.required.texts} with beams={self.beams} and groups={self.groups}: "
                "words that must appear take two beams a group at least, better one a token more"
            )

    @torch.no_grad()
    def __call__(
        self,
        model: Model,
        image: Encoded,
        limits: Limits,
        rules: Sequence[Rule] = (),
        listener: Heard = None,
        ranking: Ranking | None = None,
    ) -> Decoded:
        """Write captions of encoded images.

        Args:
            model: in evaluation mode; several captioners write together (see `Captioners`).
            image: the encoded images; of several captioners as each of them encoded them.
            limits: where texts begin and end.
            rules: on what may follow, applied to log-probabilities.
            listener: hears the cross-attention by which the captions were written; of several
                captioners each has its own.
            ranking: what the `candidates` are ranked by, in place of their log-probabilities.

        Raises:
            ConfigError: where the rules leave fewer captions than are to be returned, or chosen
                among, or what is required has no room in `limits`.
        """
        if self.required:
            self.required.check(limits.max_length)
        stepper = stepper_of(model, image, self.beams, limits.max_length, listener)
        device = stepper.images.device
        finished = _Search(self, stepper, limits, rules).run()
        end_id = limits.end_id
        if ranking is not None:
            found = self.best(finished, "best_of", self.candidates or self.beams)
            scores = ranking(stacked(found, end_id, device)[0]).tolist()
            finished = [
                [replace(h, score=score) for h, score in zip(*of_image, strict=True)]
                for of_image in zip(found, scores, strict=True)
            ]
        decoded, paths = stacked(self.best(finished, "returned", self.returned), end_id, device)
        stepper.report(paths)
        return decoded

    def best(
        self, finished: Sequence[Sequence[Hypothesis]], name: str, most: int
    ) -> list[list[Hypothesis]]:
        """Return the best captions of each image. Raises ConfigError where it has fewer."""
        best = [sorted(found, key=lambda h: -h.score)[:most] for found in finished]
        if any(len(found) < most for found in best):
            raise ConfigError(
                f"the rules leave an image with fewer than {name}={most} captions: "
                f"{'choose among' if name == 'best_of' else 'return'} fewer, search with more "
                "beams, or ask for less"
            )
        return best


class _Search:
    """One search: the groups' beams, and what has ended."""

    def __init__(
        self,
        options: BeamSearch,
        stepper: AnyStepper,
        limits: Limits,
        rules: Sequence[Rule],
    ):
        self.options, self.stepper, self.limits, self.rules = options, stepper, limits, rules
        self.size = options.beams // options.groups
        self.required = options.required and options.required.on(stepper.images.device)
        images = len(stepper.images)
        self.ids = list(range(images))  # the images that are still computed
        self.done = [[False] * options.groups for _ in range(images)]
        self.finished = [
            [Finished(self.size) for _ in range(options.groups)] for _ in range(images)
        ]

    def run(self) -> list[list[Hypothesis]]:
        """Return what has ended, for each image."""
        options, device = self.options, self.stepper.images.device
        images = len(self.ids)
        newest = torch.full((images, options.beams), self.limits.begin_id, device=device)
        groups = [Beams.start(images, self.size, device) for _ in range(options.groups)]
        parents = None
        for _ in range(self.limits.max_length):
            log_probs = self.stepper.step(newest, parents).float().log_softmax(-1)
            counts = torch.zeros_like(log_probs[:, 0]) if options.diversity else None
            for g, beams in enumerate(groups):
                part = slice(g * self.size, (g + 1) * self.size)
                groups[g] = self.advance(g, beams, log_probs[:, part], counts)
                if counts is not None:
                    going = groups[g].scores.isfinite().to(counts.dtype)
                    counts.scatter_add_(-1, groups[g].tokens[..., -1], going)
            left = self.unfinished()
            if not left:
                break
            if 2 * len(left) <= len(self.ids):  # copying what is left has its price, too
                places = torch.tensor(left, device=device)
                self.stepper.keep(places)
                groups = [beams.keep(places) for beams in groups]
                self.ids = [self.ids[place] for place in left]
            newest = torch.cat([beams.tokens[..., -1] for beams in groups], 1)
            parents = torch.cat([beams.path[..., -1] for beams in groups], 1)
        return [[h for group in groups for h in group.found] for groups in self.finished]

    def advance(
        self,
        group: int,
        beams: Beams,
        log_probs: Float[Tensor, "A K V"],
        counts: Float[Tensor, "A V"] | None,
    ) -> Beams:
        """Choose what goes on in one group, and keep what ends."""
        left = self.limits.max_length - beams.tokens.shape[-1] - 1
        ranked = obey(self.rules, log_probs, beams.tokens)
        if counts is not None:
            ranked = ranked - self.options.diversity * counts[:, None]
        values, tokens = self.best_of_rows(ranked, beams, left)
        most = tokens.shape[-1]
        values = (values + beams.scores[..., None]).flatten(1)
        count = values.shape[1] if self.required else min(2 * self.size, values.shape[1])
        scores, best = values.topk(count, dim=-1)
        parents, tokens = best // most, tokens.flatten(1).gather(1, best)
        row = torch.arange(len(parents), device=parents.device)[:, None]
        spoken = log_probs[row, parents, tokens]
        candidates = Candidates(parents, tokens, spoken, scores)
        ends = tokens == self.limits.end_id
        kept, going = self.shares(beams, candidates, ends, left)
        self.collect(group, beams, candidates, kept)
        # One that ended has no way on.
        candidates = candidates._replace(scores=scores.masked_fill(ends, NEVER)).at(going)
        following = beams.extend(candidates, first=group * self.size)
        self.close(group, following)
        return following

    def best_of_rows(
        self, ranked: Float[Tensor, "A K V"], beams: Beams, left: int
    ) -> tuple[Float[Tensor, "A K C"], Int[Tensor, "A K C"]]:
        """Return the scores of each row's best tokens, and the tokens."""
        most = min(2 * self.size, ranked.shape[-1])
        if self.required:
            return self.required.candidates(ranked, beams.tokens, most, left)
        return ranked.topk(most, dim=-1)

    def shares(
        self, beams: Beams, candidates: Candidates, ends: Bool[Tensor, "A C"], left: int
    ) -> tuple[Bool[Tensor, "A C"], Int[Tensor, "A K"]]:
        """Return which candidates are kept as captions, and the places of those that go on."""
        kept = ends if left else torch.ones_like(ends)
        if self.required:
            written = beams.extend(candidates).tokens
            return self.required.shares(candidates.scores, written, kept, self.size)
        among = torch.arange(ends.shape[-1], device=ends.device) < self.size
        going = ends.to(torch.uint8).sort(dim=-1, stable=True).indices[:, : self.size]
        return kept & among & candidates.scores.isfinite(), going

    def collect(
        self, group: int, beams: Beams, candidates: Candidates, kept: Bool[Tensor, "A C"]
    ) -> None:
        """Keep the captions that ended, of images that are not done."""
        places = [
            (place, rank)
            for place, rank in kept.nonzero().tolist()
            if not self.done[self.ids[place]][group]
        ]
        if not places:
            return
        ended = beams.extend(candidates, first=group * self.size)
        length = ended.tokens.shape[-1]
        for place, rank in places:
            self.finished[self.ids[place]][group].add(
                Hypothesis(
                    float(ended.scores[place, rank]) / length**self.options.length_penalty,
                    tuple(ended.tokens[place, rank].tolist()),
                    tuple(ended.log_probs[place, rank].tolist()),
                    tuple(ended.path[place, rank].tolist()),
                )
            )

    def close(self, group: int, following: Beams) -> None:
        """Find the images of which no caption that goes on will be among the best."""
        length = following.tokens.shape[-1]
        possible = (following.scores.amax(-1) / length**self.options.length_penalty).tolist()
        for place, image in enumerate(self.ids):
            finished = self.finished[image][group]
            if finished.cannot_improve(possible[place], self.options.early_stopping):
                self.done[image][group] = True

    def unfinished(self) -> list[int]:
        """Return the places of the images that are not done."""
        return [place for place, image in enumerate(self.ids) if not all(self.done[image])]
