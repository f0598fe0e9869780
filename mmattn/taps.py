"""How an attention call reports what its kernel consumed to whoever was handed down to listen.

A `Listener` says which places it wants to hear of; what it does with a call is its own affair: a
`Recorder` keeps maps, other listeners keep statistics or gradients. The kernel's own call does not
change, so the model's output is the same to the last bit with and without a listener.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class AttentionCall(NamedTuple):
    """One call of an attention kernel: its very inputs, after normalisation and rotation.

    q: [B, H, T, K]; k and v: [B, G, S, K], one key/value head for H/G query heads; out: [B, H, T,
    K], what the kernel returned. mask: None, boolean (True = may attend) or a number added to each
    score, in any shape that broadcasts to [B, H, T, S]; causality is part of it. scale: what q·kᵀ
    was multiplied by; 1/√K if None.
    """

    q: Float[Tensor, "B H T K"]
    k: Float[Tensor, "B G S K"]
    v: Float[Tensor, "B G S K"]
    out: Float[Tensor, "B H T K"]
    mask: Tensor | None = None
    scale: float | None = None


class Listener(ABC):
    """Hears the attention calls of chosen sites.

    Args:
        sites: glob patterns of the sites to hear. Sites are named `vision.<layer>.self`,
            `text.<layer>.self` and `text.<layer>.cross`.
    """

    def __init__(self, sites: Iterable[str]):
        self.sites = (sites,) if isinstance(sites, str) else tuple(sites)
        if not self.sites:
            raise ValueError(
                "sites is empty: name at least one, or a pattern such as 'text.*.cross'"
            )
        self.met: dict[str, None] = {}  # the sites that ran, wanted or not, in order

    @abstractmethod
    def take(self, site: str, call: AttentionCall) -> None:
        """Do with one call of one site whatever this listener is for."""

    def at(self, stack: str, layer: int) -> "Scope":
        """Return this listener as layer `layer` of `stack` hands it to its attentions."""
        return Scope(self, f"{stack}.{layer}")

    def tap(self, site: str) -> "Tap | None":
        """Return where to send this site's calls, or None where nobody asked for them."""
        self.met[site] = None
        wanted = any(fnmatchcase(site, pattern) for pattern in self.sites)
        return Tap(self, site) if wanted else None

    def matching(self, pattern: str) -> list[str]:
        """Return the sites that ran and match `pattern`, in the order in which they ran.

        Raises ValueError where none does: an empty result would look like an answer.
        """
        found = [site for site in self.met if fnmatchcase(site, pattern)]
        if not found:
            raise ValueError(
                f"no attention ran at {pattern!r}; it ran at: {', '.join(self.met) or 'no site'}"
            )
        return found

    def heard(self) -> list[str]:
        """Return the wanted sites that ran, in order.

        Raises ValueError where one of the patterns matches none.
        """
        wanted = {site for pattern in self.sites for site in self.matching(pattern)}
        return [site for site in self.met if site in wanted]


class Scope:
    """A listener as one layer sees it."""

    def __init__(self, listener: Listener, prefix: str):
        self._listener, self._prefix = listener, prefix

    @torch.compiler.disable(reason="each layer has a name of its own: each would be compiled anew")
    def tap(self, name: str) -> "Tap | None":
        """Return where attention `name` ("self" or "cross") of this layer sends its calls."""
        return self._listener.tap(f"{self._prefix}.{name}")


class Tap:
    """The one line that an attention call knows of a listener."""

    def __init__(self, listener: Listener, site: str):
        self._listener, self._site = listener, site

    @torch.compiler.disable(reason="a listener works block by block: each would be in the graph")
    def record(self, call: AttentionCall) -> None:
        """Report one call, in the type that its kernel ran in.

        Autocast may have rounded q and k on their way into the kernel; it is off while the listener
        works, or it would round what that computes, too.
        """
        with torch.autocast(call.q.device.type, enabled=False):
            q, k, v = (x.to(call.out.dtype) for x in call[:3])
            self._listener.take(self._site, call._replace(q=q, k=k, v=v))
