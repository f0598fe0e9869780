"""Exact attention maps of models that are not ours: timm's, torch's own, Hugging Face's.

Such a model does not hand a listener down. Instead every call of torch's functions is seen while
the model runs, and those that are attention are told to the listener with the name of the module
that made them. The model is as it was afterwards, and the calls themselves do not change.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import FunctionType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mmattn.interop.attention_calls import explicit_call, fused_call
from mmattn.interop.running_modules import ForwardPass, RunningModules
from mmattn.interop.written_out import SOFTMAX, WrittenOut
from mmattn.recorder import Recorder
from mmattn.taps import AttentionCall, Listener

AnyListener = TypeVar("AnyListener", bound=Listener)
LOOKS_LIKE = re.compile("att(entio)?n", re.IGNORECASE)
UNREAD = "makes a softmax, but not one of q·kᵀ that then multiplies the values as it is"
SILENT = "ran without a call that can be seen"


@contextmanager
def listen(model: nn.Module, listener: AnyListener) -> Iterator[AnyListener]:
    """Tell `listener` of the attention calls that `model` makes inside `with`.

    A site is the dotted name of the innermost module of `model` whose forward makes the call, such
    as "blocks.0.attn"; the model itself goes by the name of its class. Seen are:

    - `scaled_dot_product_attention`, also inside `nn.MultiheadAttention` and torch's transformer
      layers. Their fast path of evaluation, one kernel that shows nothing, steps aside: outputs
      are then, to the bit, those of `torch.backends.mha.set_fastpath_enabled(False)`;
    - softmax(q·kᵀ)·v where it is written out, see `WrittenOut`.

    Outputs are otherwise the same to the last bit. What is compiled runs as it was written, and has
    the outputs of that (`torch.compiler.set_stance("force_eager")`): compiled code does not say
    which module is running.

    Maps are those before dropout. B is all dimensions before the heads (windows, say); H = 1 where
    a call has no heads. What attends to what is the module's affair: channels to channels in XCiT
    and in half of DaViT. A backward pass that runs checkpointed modules again is not heard.

    Raises:
        ValueError: on the way out, where a wanted pattern matches no site, or a module that works
            out attention weights in a way that cannot be followed: an empty or partial result would
            look like an answer. Not where the model itself raised. Also for TorchScript.
    """
    ear = _Ear(model, listener)
    with torch.compiler.set_stance("force_eager"), ear.modules, ear:
        yield listener
    ear.check()


@contextmanager
def record(
    model: nn.Module,
    sites: str | Iterable[str] = "*",
    heads: Iterable[int] | None = None,
    *,
    rows: Iterable[int] | None = None,
    dtype: torch.dtype | None = None,
    budget_mb: float | None = None,
) -> Iterator[Recorder]:
    """Record the attention maps of any timm, torch or Hugging Face model inside `with`.

        with record(model, "blocks.*.attn", rows=[0]) as recorder:
            model(images)
        recorder.maps["blocks.11.attn"]  # [B, H, 1, S]

    See `Recorder` for the arguments and what comes out, `listen` for what a site is, what is seen
    and what is raised. For the windows of Swin, see `mmattn.interop.windows`.
    """
    recorder = Recorder(sites, heads, rows=rows, dtype=dtype, budget_mb=budget_mb)
    with listen(model, recorder):
        yield recorder


class _Ear(TorchFunctionMode):
    """Sees every call of torch's functions, and tells a listener of those that are attention.

    Like every such mode it is off while it works on a call.
    """

    def __init__(self, model: nn.Module, listener: Listener):
        super().__init__()
        self.modules, self.listener = RunningModules(model, self._ended), listener
        self.written_out = WrittenOut()
        self.heard: dict[str, None] = {}  # sites, in order
        self.unread: dict[str, nn.Module] = {}  # made a softmax, and no attention call was seen
        self.silent: dict[str, nn.Module] = {}  # called attention, and nothing was seen
        self.elsewhere = 0  # calls outside of every module of the model
        self.ran = False

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:
                return _without_first_question(func)(*args, **kwargs)
        out = func(*args, **kwargs)
        running = self.modules.running
        if func is F.scaled_dot_product_attention:
            return self._tell(out, lambda: fused_call(out, *args, **kwargs))
        if not running:
            return out
        if product := self.written_out.follow(func, args, kwargs, out):
            heads = _heads(running[-1].module)
            return self._tell(out, lambda: explicit_call(*product, out, heads))
        if func in SOFTMAX and out.dim() >= 3:
            for forward in running:
                forward.softmax = True
        return out

    def _tell(self, out: Tensor, make: Callable[[], AttentionCall]) -> Tensor:
        """Report a call, and return what the model goes on with: `out`."""
        running = self.modules.running
        if not running:
            self.elsewhere += 1
            return out
        for forward in running:
            forward.attended = True
        site = running[-1].name
        self.heard[site] = None
        tap = self.listener.tap(site)
        if tap is None:
            return out
        # What the listener computes is not the model's, and not rounded as the model is.
        with torch._C.DisableTorchFunction(), torch.autocast(out.device.type, enabled=False):
            call = make()
            tap.record(call)
            # The same memory; a listener may have made the call's `out` the start of a graph.
            return out if out.dim() == 4 else call.out.reshape(out.shape)

    def _ended(self, forward: ForwardPass) -> None:
        self.ran = True
        if forward.attended:
            return
        if forward.softmax:
            self.unread.setdefault(forward.name, forward.module)
        elif LOOKS_LIKE.search(type(forward.module).__name__):
            self.silent.setdefault(forward.name, forward.module)

    def check(self) -> None:
        """Raise ValueError where the result would be empty, or lack what was asked for."""
        for pattern in self.listener.sites:
            for site, module in self.unread.items():
                name = f"{site.rpartition('.')[2]} {type(module).__name__}"
                if LOOKS_LIKE.search(name) and fnmatchcase(site, pattern):
                    raise ValueError(
                        f"{_complain(site, module, UNREAD)}, or name other sites than {pattern!r}"
                    )
            if not any(fnmatchcase(site, pattern) for site in self.heard):
                ran = ", ".join(self.heard) or "no site"
                raise ValueError(
                    f"no attention ran at {pattern!r}; it ran at: {ran}{self._reason()}"
                )

    def _reason(self) -> str:
        """Say why nothing was heard, as far as that is known."""
        if not self.ran:
            return f". No module of this {type(self.modules.model).__name__} ran inside the context"
        told = [_complain(*one, UNREAD) for one in _innermost(self.unread, self.heard)]
        told += [_complain(*one, SILENT) for one in _innermost(self.silent, self.heard)]
        if self.elsewhere:
            told.append(f"{self.elsewhere} calls came from outside of the model's modules")
        return "".join(f". {line}" for line in told[:3])


def _innermost(modules: dict[str, nn.Module], heard: Iterable[str]) -> list[tuple[str, nn.Module]]:
    """Return those that were never heard, without the modules around them."""
    quiet = [name for name in modules if name not in heard]
    return [
        (name, modules[name])
        for name in quiet
        if not any(other.startswith(f"{name}.") for other in quiet)
    ]


def _complain(site: str, module: nn.Module, why: str) -> str:
    return f"{site} ({type(module).__name__}) {why}: {_remedy(module)}"


def _without_first_question(function: Callable) -> Callable:
    """Return one of torch's Python functions without its first step, which asks for overrides.

    Called as it is while a mode is on, it would hand itself to the mode for ever; with the mode
    off, the calls inside it would not be seen.
    """
    assert isinstance(function, FunctionType)
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


def _heads(module: nn.Module) -> int | None:
    """Return how many heads torch's own attention lays side by side in the batch dimension."""
    return cast(int, module.num_heads) if isinstance(module, nn.MultiheadAttention) else None


def _remedy(module: nn.Module) -> str:
    if getattr(module, "fused_attn", None) is False:
        return (
            "set its fused_attn to True (for a whole model, timm.layers.set_fused_attn(True) before"
            " it is built)"
        )
    return (
        "if it can use scaled_dot_product_attention, choose that (in Hugging Face models, "
        "attn_implementation='sdpa')"
    )
