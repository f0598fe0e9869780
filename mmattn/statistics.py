"""What every head does, in a few numbers: exact, for whole batches, and without keeping a map.

Each block of a call's weights is computed, measured and forgotten. The fused kernel could give the
same sums without a map, from three more calls (the entropy from its log-sum-exp and P·K, masses and
moments from P times indicators and coordinates, the keys' means from a call with queries and keys
swapped); measured, these take two to three times as long as the blocks, cannot give a Euclidean
distance, and rest on private functions (`benchmarks/capture.py`).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.recorder import weight_blocks
from mmattn.taps import AttentionCall, Listener


@dataclass(frozen=True)
class HeadStatistics:
    """Means over images and query rows, for the H heads of L sites of one kind; [L, H] each.

    Attributes:
        sites: their names, layer by layer.
        entropy: of a row, in nats.
        normalised_entropy: of a row, over the logarithm of the number of keys it may attend to.
        prefix_mass: what a row gives to the prefix tokens of an image; 0 where keys are text.
        register_mass: what of it goes to the registers.
        padding_mass: what a row gives to the padding of a text; 0 where keys are an image.
        distance: what the weights span, see `StatisticsRecorder`.
        sink: the largest mean attention on one key: for each image, the mean over rows, and of
            these the largest (the α of Gu et al. 2025, for the key where it is largest).
        information: nats that a row tells about its query: for each image, the entropy of the mean
            row less the mean entropy of the rows. Zero where all queries get the same row.

    NaN stands where nothing was counted, such as an entropy over its bound where rows have one key.
    """

    sites: tuple[str, ...]
    entropy: Float[Tensor, "L H"]
    normalised_entropy: Float[Tensor, "L H"]
    prefix_mass: Float[Tensor, "L H"]
    register_mass: Float[Tensor, "L H"]
    padding_mass: Float[Tensor, "L H"]
    distance: Float[Tensor, "L H"]
    sink: Float[Tensor, "L H"]
    information: Float[Tensor, "L H"]

    def sink_heads(self, threshold: float = 0.3) -> Bool[Tensor, "L H"]:
        """Return the heads of which one key gets more than `threshold` of all attention.

        0.3 is the threshold of Gu et al. 2025 (arXiv:2410.10781).
        """
        return self.sink > threshold

    def dead_heads(self, threshold: float = 0.01) -> Bool[Tensor, "L H"]:
        """Return the heads that give every query nearly the same row, so nearly the same output.

        `threshold` is in nats of `information`, which is the mean Kullback-Leibler divergence of
        the rows from their mean. By Pinsker's inequality the total variation between a row and the
        mean row is at most √(threshold/2) in the mean: 0.07 for 0.01. A uniform head is dead, and
        so is one that always looks at one key.
        """
        return self.information < threshold


STATISTICS = tuple(field.name for field in fields(HeadStatistics) if field.name != "sites")


class StatisticsRecorder(Listener):
    """Measures what every head of the chosen sites does; calls add up until `clear`.

    Args:
        sites: glob patterns of the sites to hear.
        grid: (h, w), the patches of an image.
        prefix: number P of the prefix tokens before them.
        registers: how many of the prefix tokens, the last ones, are registers.

    Set `valid` to `batch.valid` before a pass, so that the rows of padding do not count, and what
    goes to padding is measured; rows that may attend to nothing never count.

    A site's name says what its keys are. `….cross`: an image, attended to by text; `distance` is
    the map's spread, the root of its second central moment in patches. `text.….self`: text;
    `distance` is the mean of |i - j| between query and key, in tokens. Any other: an image,
    attended to by itself; `distance` is the mean Euclidean distance between the patches of query
    and key (Dosovitskiy et al. 2021, fig. 7), in patches. For images, distances are those of the
    weights on patches, renormalised.

    `sums[site]` is [2, statistics, H]: sums, and how much was counted. They may be added to those
    of another recorder, or reduced over processes; `statistics` divides the one by the other.
    """

    def __init__(
        self,
        sites: Iterable[str] = ("*",),
        *,
        grid: tuple[int, int],
        prefix: int,
        registers: int = 0,
    ):
        super().__init__(sites)
        if registers > prefix:
            raise ValueError(f"registers={registers}, but there are only prefix={prefix} tokens")
        self.grid, self.prefix, self.registers = grid, prefix, registers
        self.valid: Bool[Tensor, "*R T"] | None = None
        self.sums: dict[str, Float[Tensor, "2 F H"]] = {}
        self._distances: dict[tuple[int, int, bool], Tensor] = {}  # the same for every layer

    @torch.no_grad()
    def take(self, site: str, call: AttentionCall) -> None:
        """Measure one call and forget it.

        Raises ValueError where its sizes are not those of `grid` and `prefix`, or of `valid`.
        """
        keys = self._keys(site, call)
        allowed = count_keys(call)
        counted = allowed > 0
        if is_text(site) and self.valid is not None:
            counted = counted & self._valid_rows(site, call)[:, None]
        sums = summarise(measure(call, keys, counted), counted, allowed)
        # Long sums need more than float32, which is the most that Apple's GPUs have.
        sums = sums if sums.device.type == "mps" else sums.double()
        self.sums[site] = self.sums[site] + sums if site in self.sums else sums

    def statistics(self) -> dict[str, HeadStatistics]:
        """Return the means so far, by kind of site: "vision.*.self", "text.*.cross" and so on.

        Raises ValueError where one of the patterns matches no site that ran.
        """
        kinds: dict[str, list[str]] = {}
        for site in self.heard():
            kinds.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "*", site), []).append(site)
        return {kind: self._means(sites) for kind, sites in kinds.items()}

    def clear(self) -> None:
        """Forget what was measured."""
        self.met.clear()
        self.sums.clear()

    def _means(self, sites: list[str]) -> HeadStatistics:
        sums, counts = torch.stack([self.sums[site] for site in sites], dim=2)
        means = dict(zip(STATISTICS, sums / counts, strict=True))
        return HeadStatistics(tuple(sites), **means)

    def _keys(self, site: str, call: AttentionCall) -> "Keys":
        """Say what a site's keys are."""
        rows, count = call.q.shape[2], call.k.shape[2]
        if is_text(site) and not is_cross(site):
            padding = None if self.valid is None else ~self._valid_rows(site, call)
            if padding is not None and count != rows:
                raise ValueError(f"{site} has {count} keys and valid is of {rows} tokens: unset it")
            return Keys(0, 0, padding, self._between(rows, count, call.q, text=True), None)
        h, w = self.grid
        if count != self.prefix + h * w or (not is_cross(site) and rows != count):
            raise ValueError(
                f"{site} has {rows} queries and {count} keys, but prefix={self.prefix} and "
                f"grid={self.grid} make {self.prefix + h * w}: give those of the image"
            )
        if is_cross(site):
            return Keys(self.prefix, self.registers, None, None, self.grid)
        distances = self._between(rows, count, call.q, text=False)
        return Keys(self.prefix, self.registers, None, distances, None)

    def _between(self, rows: int, keys: int, like: Tensor, *, text: bool) -> Float[Tensor, "T S"]:
        """Return the distances between queries and keys, as `Keys` wants them."""
        found = self._distances.get((rows, keys, text))
        if found is None or found.device != like.device or found.dtype != at_least_float32(like):
            if text:
                found = token_distances(rows, keys, like)
            else:
                found = patch_distances(self.grid, self.prefix, like)
            self._distances[rows, keys, text] = found
        return found

    def _valid_rows(self, site: str, call: AttentionCall) -> Bool[Tensor, "B T"]:
        """Return `valid` as the rows of this call: a text each, or N texts of an image in a row."""
        assert self.valid is not None
        batch, rows = call.q.shape[0], call.q.shape[2]
        if self.valid.numel() != batch * rows:
            raise ValueError(
                f"{site} has {batch} x {rows} query rows, but valid is {tuple(self.valid.shape)}: "
                "set it to the batch's own before each pass"
            )
        return self.valid.reshape(batch, rows).to(call.q.device)


class Keys(NamedTuple):
    """What a call's keys are: P prefix tokens, the last of them registers, and the rest.

    padding: True where a key is none; distances: between each query and each key, NaN for a query
    that has no place, 0 for a key that has none; None where it is the spread over the patches of
    `grid` that is measured.
    """

    prefix: int
    registers: int
    padding: Bool[Tensor, "B S"] | None
    distances: Float[Tensor, "T S"] | None
    grid: tuple[int, int] | None


class Measured(NamedTuple):
    """What is measured of each row; and, of each key, the sum of what the counted rows give it."""

    entropy: Float[Tensor, "B H T"]
    prefix: Float[Tensor, "B H T"]
    registers: Float[Tensor, "B H T"]
    padding: Float[Tensor, "B H T"]
    distance: Float[Tensor, "B H T"]
    received: Float[Tensor, "B H S"]


def measure(call: AttentionCall, keys: Keys, counted: Bool[Tensor, "B H T"]) -> Measured:
    """Measure every row of a call, block by block."""
    (batch, count, rows), dtype = call.q.shape[:3], at_least_float32(call.q)

    def zeros(size: int) -> Tensor:
        return call.q.new_zeros(batch, count, size, dtype=dtype)

    measured = Measured(*(zeros(rows) for _ in range(5)), received=zeros(call.k.shape[2]))
    shares = counted.to(dtype)[..., None, :]
    for images, heads, some, weights, scores in weight_blocks(call, range(count), range(rows)):
        at = images, heads, some
        measured.entropy[at] = entropy_of_scores(scores, weights)
        if keys.prefix:
            measured.prefix[at] = weights[..., : keys.prefix].sum(-1)
        if keys.registers:
            first = keys.prefix - keys.registers
            measured.registers[at] = weights[..., first : keys.prefix].sum(-1)
        if keys.padding is not None:
            measured.padding[at] = (weights * keys.padding[images, None, None]).sum(-1)
        if keys.grid is not None:
            measured.distance[at] = spread(weights[..., keys.prefix :].unflatten(-1, keys.grid))
        elif keys.distances is not None:
            mass = weights[..., keys.prefix :].sum(-1)
            measured.distance[at] = (weights * keys.distances[some]).sum(-1) / mass
        measured.received[images, heads] += (shares[images, heads, :, some] @ weights)[..., 0, :]
    return measured


def summarise(
    measured: Measured, counted: Bool[Tensor, "B H T"], allowed: Int[Tensor, "B H T"]
) -> Float[Tensor, "2 F H"]:
    """Return the sum of each statistic over images and rows, and how many were counted.

    In the order of `STATISTICS`: first those of rows, then sink and information, those of images.
    """
    bound = allowed.to(measured.entropy.dtype).log()
    rows = torch.stack([measured.entropy, measured.entropy / bound, *measured[1:5]])
    on = counted & ~rows.isnan()
    sums, counts = rows.where(on, 0.0).sum(-1), on.sum(-1)  # [6, B, H]
    mean_row = measured.received / counts[0, ..., None]
    images = torch.stack([mean_row.amax(-1), entropy(mean_row) - sums[0] / counts[0]])
    on = ~images.isnan()
    sums = torch.cat([sums, images.where(on, 0.0)]).sum(1)
    return torch.stack([sums, torch.cat([counts, on]).sum(1)])


def entropy(weights: Float[Tensor, "*B S"]) -> Float[Tensor, "*B"]:
    """Return -Σ P·ln P of each row, in nats; 0·ln 0 is 0."""
    tiny = torch.finfo(weights.dtype).tiny
    return -(weights + tiny).log_().mul_(weights).sum(-1)


def entropy_of_scores(
    scores: Float[Tensor, "*B S"], weights: Float[Tensor, "*B S"]
) -> Float[Tensor, "*B"]:
    """Return the entropy of weights P = softmax(s), in nats: ln Σ exp(s) - Σ P·s.

    The largest weight tells ln Σ exp(s) = max s - ln max P, so no logarithm of all P is needed.
    """
    total = scores.amax(-1) - weights.amax(-1).log()
    return total - torch.linalg.vecdot(weights, scores)


def spread(maps: Float[Tensor, "*B h w"]) -> Float[Tensor, "*B"]:
    """Return the root of each map's second central moment, in patches; a map need not sum to 1."""
    variances = []
    for marginal in (maps.sum(-1), maps.sum(-2)):
        marginal = marginal / marginal.sum(-1, keepdim=True)
        places = torch.arange(marginal.shape[-1], device=maps.device).to(maps.dtype)
        centre = (marginal * places).sum(-1, keepdim=True)
        variances.append((marginal * (places - centre).square()).sum(-1))
    return (variances[0] + variances[1]).sqrt()


def patch_distances(grid: tuple[int, int], prefix: int, like: Tensor) -> Float[Tensor, "N N"]:
    """Return the distances between N = P + S keys, in patches, as `Keys` wants them."""
    sides = (torch.arange(side, device=like.device, dtype=at_least_float32(like)) for side in grid)
    y, x = (places.flatten() for places in torch.meshgrid(*sides, indexing="ij"))
    between = torch.hypot(y[:, None] - y, x[:, None] - x)
    distances = torch.nn.functional.pad(between, (prefix, 0, prefix, 0))
    distances[:prefix] = torch.nan
    return distances


def token_distances(rows: int, keys: int, like: Tensor) -> Float[Tensor, "T S"]:
    """Return |i - j| between the last `rows` of `keys` tokens and all of them."""
    places = torch.arange(keys, device=like.device, dtype=at_least_float32(like))
    return (places[keys - rows :, None] - places).abs()


def count_keys(call: AttentionCall) -> Int[Tensor, "B H T"]:
    """Return how many keys each row may attend to."""
    rows, keys, mask = call.q.shape[:3], call.k.shape[2], call.mask
    if mask is None:
        return torch.full((), keys, device=call.q.device).expand(rows)
    allowed = mask if mask.dtype == torch.bool else mask > float("-inf")
    return allowed.expand(*mask.shape[:-1], keys).sum(-1).expand(rows)


def at_least_float32(x: Tensor) -> torch.dtype:
    """Return the type that weights of x are computed in."""
    return torch.promote_types(x.dtype, torch.float32)


def is_cross(site: str) -> bool:
    """Return whether a site's queries are text and its keys an image."""
    return site.endswith(".cross")


def is_text(site: str) -> bool:
    """Return whether a site's queries are text."""
    return site.startswith("text.") or is_cross(site)
