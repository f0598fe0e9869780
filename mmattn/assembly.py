"""A model of weights that are at hand, without the time of drawing random ones first."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmattn.architecture import construct
from mmattn.captioner import Captioner
from mmattn.errors import CheckpointError, UserError, one_line
from mmattn.weights import load_exactly

M = TypeVar("M", bound=nn.Module)

# What initialisations do to a parameter in place, random or behind something random.
DRAWING = {
    *("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"),
    *("xavier_uniform_", "xavier_normal_", "orthogonal_", "erfinv_"),
    *("mul_", "div_", "add_", "clamp_"),
}


class WithoutDrawing(TorchFunctionMode):
    """Leaves parameters as they were allocated.

    torch's meta device would do that too, but it also takes the buffers that are computed in a
    constructor and are in no state dict, and timm's backbones have such.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run one torch function, unless it draws a parameter."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWING:
            drawn = args[0] if args else kwargs.get("tensor")
            if isinstance(drawn, nn.Parameter):
                return drawn
        return func(*args, **kwargs)


def skeleton(architecture: Mapping[str, Any], source: str) -> Captioner:
    """Build a captioner of which every weight must still be loaded; see `bare`."""
    return bare(construct, architecture, source)


def bare(
    build: Callable[[Mapping[str, Any]], M], architecture: Mapping[str, Any], source: str
) -> M:
    """Build a model of which every weight must still be loaded, in evaluation mode.

    torch's random numbers go on as if it had not been built.

    Args:
        build: `construct`, `construct_classifier` or `construct_joint` of `mmattn.architecture`.
        architecture: what `describe` of the same says.
        source: what to call it in messages.

    Raises:
        CheckpointError: for an architecture that cannot be built.
    """
    try:
        with torch.random.fork_rng(devices=[]), WithoutDrawing():
            return build(architecture).eval()
    except UserError as error:
        raise CheckpointError(f"{source}: {one_line(error)}") from error
    except Exception as error:  # of a width of zero, or of 10^12, in whatever constructor
        raise CheckpointError(
            f"{source}: this architecture cannot be built ({one_line(error)})"
        ) from error


def assembled(architecture: Mapping[str, Any], state: dict[str, Tensor], source: str) -> Captioner:
    """Build a captioner with these weights, in evaluation mode.

    Args:
        architecture: see `mmattn.architecture.describe`.
        state: every weight by its name; their numbers are copied.
        source: what to call both in messages.

    Raises:
        CheckpointError: for an architecture that cannot be built, or weights of another one.
    """
    model = skeleton(architecture, source)
    load_exactly(model, state, source)
    return model
