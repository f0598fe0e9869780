"""Another library's tensors, taken out one by one: none is missed, misshaped or left over."""

from torch import Tensor

from mmattn.errors import CheckpointError


class NamedWeights:
    """A state dict that is being used up; messages say the names that its file has.

    Args:
        state: tensors by their names; it is not changed.
        source: the folder or file, for messages.
    """

    def __init__(self, state: dict[str, Tensor], source: str):
        self.left, self.source = dict(state), source

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def take(self, name: str, *shape: int) -> Tensor:
        """Return a tensor and cross it off; in float32, in which models are computed here.

        Raises CheckpointError where it is missing, of another shape, or not of real numbers.
        """
        if name not in self.left:
            raise CheckpointError(f"{self.source}: the weights lack {name}")
        tensor = self.left.pop(name)
        if tuple(tensor.shape) != shape:
            raise CheckpointError(
                f"{self.source}: {name} is {tuple(tensor.shape)}, but by the configuration it is "
                f"{shape}"
            )
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{self.source}: {name} is {tensor.dtype}; quantised weights are not supported"
            )
        return tensor.float()

    def take_module(self, name: str, new: str, *shape: int) -> dict[str, Tensor]:
        """Return a layer's weight, of this shape, and its bias by the layer's new name."""
        return {
            f"{new}.weight": self.take(f"{name}.weight", *shape),
            f"{new}.bias": self.take(f"{name}.bias", shape[0]),
        }

    def drop(self, *names: str) -> None:
        """Cross off tensors that change no output, where they are there."""
        for name in names:
            self.left.pop(name, None)

    def drop_below(self, *beginnings: str) -> None:
        """Cross off all tensors whose names begin so: they change no output."""
        self.drop(*(name for name in self.left if name.startswith(beginnings)))

    def refuse_rest(self) -> None:
        """Raise CheckpointError where a tensor was not used: the outputs would differ silently."""
        if rest := sorted(self.left):
            shown = ", ".join(rest[:4]) + (" …" if len(rest) > 4 else "")
            raise CheckpointError(
                f"{self.source}: {len(rest)} of the weights have no counterpart here: {shown}"
            )
