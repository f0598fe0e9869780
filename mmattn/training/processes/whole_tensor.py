"""A tensor of which every rank has a part (FSDP2), as one that each of them has."""

from torch import Tensor
from torch.distributed.tensor import DTensor


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return all of a tensor that is divided, for which all ranks call it; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
