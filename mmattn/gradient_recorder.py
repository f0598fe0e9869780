"""Gradients in the attention weights, while the fused kernel that never shows its weights stays on.

The kernel returns O = P·V, so the chain rule gives the gradient of any loss in the weights from
what autograd passes to the kernel anyway: dL/dP = dL/dO·Vᵀ. Exact, for every layer and head, and
without the eager path that gradient-weighted maps are usually made with.
"""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.recorder import attention_weights, chosen, select
from mmattn.taps import AttentionCall, Listener


class GradientRecorder(Listener):
    """Keeps the weights P of chosen sites and, after each backward pass, the gradients dL/dP.

    Args:
        sites: glob patterns of the sites to hear.
        heads: the heads to keep; all of them if None.
        rows: the query rows to keep, negative ones counted from the last; all of them if None.

    Hand it to *one* forward pass of a model in evaluation mode: attention dropout would make the
    kernel use other weights than P. Then either run any backward pass, or `differentiate`, which
    leaves the parameters' `.grad` alone; `gradients(site)` belongs to the latest one. A part of the
    model that is frozen has no graph, so the graph is made to start at the kernel's output there.

    The recorder keeps the graph of its forward pass alive until `clear`, or until it goes away.
    """

    def __init__(
        self,
        sites: Iterable[str],
        heads: Iterable[int] | None = None,
        *,
        rows: Iterable[int] | None = None,
    ):
        super().__init__(sites)
        self.heads = None if heads is None else list(heads)
        self.rows = None if rows is None else list(rows)
        self._kept: dict[str, _Kept] = {}
        self._outputs: dict[str, Tensor] = {}
        self._output_gradients: dict[str, Tensor] = {}

    def take(self, site: str, call: AttentionCall) -> None:
        """Keep P and V of one call, and listen for the gradient of its output.

        Raises ValueError without a graph to differentiate, and where the site runs a second time.
        """
        if site in self._kept:
            raise ValueError(
                f"{site} ran twice: gradients belong to one forward pass. Call clear() before the "
                "next one, and run whole texts instead of decoding step by step"
            )
        if not torch.is_grad_enabled():
            raise ValueError(
                f"{site} ran under no_grad or inference_mode, where nothing can be differentiated: "
                "run the forward pass under torch.inference_mode(False) and torch.enable_grad()"
            )
        self._kept[site] = self._select(site, call)
        out = call.out if call.out.requires_grad else call.out.requires_grad_()
        # The hook knows a dictionary, not the recorder: no cycle keeps the graph alive.
        out.register_hook(partial(_keep, self._output_gradients, site))
        self._outputs[site] = out

    def differentiate(self, output: Tensor, cotangent: Tensor | None = None) -> None:
        """Run one backward pass from `output`, as far as the recorded sites and no further.

        `cotangent` is the gradient in `output`; it may be left out where that is one number. The
        graph stays, so that other outputs or cotangents can follow.
        """
        self.forget_gradients()
        outputs = list(self._outputs.values())
        torch.autograd.grad(output, outputs, cotangent, retain_graph=True, allow_unused=True)

    def weights(self, site: str) -> Float[Tensor, "B H T S"]:
        """Return P of a site: float32 at least, rows and heads as asked for, zero where masked.

        Raises ValueError for a site that was not recorded.
        """
        return self._recorded(site).weights

    def gradients(self, site: str) -> Float[Tensor, "B H T S"]:
        """Return dL/dP of the latest backward pass, in the shape of `weights`; zero where masked.

        Raises ValueError for a site that was not recorded, and where no backward pass reached it.
        """
        kept = self._recorded(site)
        if not self.reached(site):
            raise ValueError(
                f"no backward pass reached {site} yet: differentiate something that depends on it"
            )
        gradient = self._output_gradients[site]
        gradient = gradient if self.heads is None else gradient[:, self.heads]
        gradient = gradient if self.rows is None else gradient[:, :, self.rows]
        return weight_gradients(gradient, kept.values, kept.mask)

    def reached(self, site: str) -> bool:
        """Return whether the latest backward pass came by a site: if not, nothing depends on it."""
        return site in self._output_gradients

    def forget_gradients(self) -> None:
        """Forget the latest backward pass, so that what the next one misses is not answered."""
        self._output_gradients.clear()

    def clear(self) -> None:
        """Forget the forward pass; the recorder is as new."""
        self.met.clear()
        self._kept.clear()
        self._outputs.clear()
        self._output_gradients = {}  # the hooks of the old graph go on to write into the old one

    def _select(self, site: str, call: AttentionCall) -> "_Kept":
        total, mask = call.q.shape[1], call.mask
        heads = chosen("heads", self.heads, total, site)
        rows = chosen("rows", self.rows, call.q.shape[2], site)
        if mask is not None:
            mask = select(mask.expand(*call.q.shape[:3], call.k.shape[2]), heads, total, rows)
        q = select(call.q.detach(), heads, total, rows)
        k, v = (select(x.detach(), heads, total) for x in (call.k, call.v))
        return _Kept(attention_weights(q, k, mask, call.scale), v, mask)

    def _recorded(self, site: str) -> "_Kept":
        if site not in self._kept:
            ran = ", ".join(self._kept) or "none"
            raise ValueError(f"{site!r} is not a recorded site; recorded: {ran}")
        return self._kept[site]


class _Kept(NamedTuple):
    weights: Tensor  # [B, H, T, S]
    values: Tensor  # [B, G, S, K]
    mask: Tensor | None


def weight_gradients(
    out_gradient: Float[Tensor, "B H T K"],
    v: Float[Tensor, "B G S K"],
    mask: Tensor | None = None,
) -> Float[Tensor, "B H T S"]:
    """Return dL/dP = dL/dO·Vᵀ of O = P·V, in float32 at least.

    With G < H each value head serves H/G query heads. `mask` is boolean (True = may attend) or the
    number added to each score; a weight that is masked is no variable: its gradient is zero.
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    out_gradient, v = out_gradient.to(dtype), v.to(dtype)
    batch, heads, queries, width = out_gradient.shape
    groups = v.shape[1]
    rows = out_gradient.reshape(batch, groups, heads // groups * queries, width)
    with torch.autocast(v.device.type, enabled=False):
        gradients = (rows @ v.transpose(-2, -1)).view(batch, heads, queries, -1)
    if mask is None:
        return gradients
    allowed = mask if mask.dtype == torch.bool else mask > float("-inf")
    return gradients.masked_fill(~allowed, 0.0)


def _keep(gradients: dict[str, Tensor], site: str, gradient: Tensor) -> None:
    gradients[site] = gradient.detach()
