"""How every parameter of our own modules starts: the one place that says so."""

import torch
from torch import nn


@torch.no_grad()
def initialise(stack: nn.Module, depth: int, keep: nn.Module | None = None) -> None:
    """Initialise all parameters of a transformer of `depth` blocks in place.

    Linear maps get Xavier-uniform weights and zero biases, convolutions Kaiming-normal weights,
    embeddings and tokens a normal distribution with standard deviation 0.02. The last map of every
    residual branch is divided by sqrt(2·depth), so that the sum over branches keeps its size
    (Radford et al. 2019, section 2.3). Normalisations and layer scales keep their own start, and so
    does everything in `keep`: a backbone that may be pretrained.
    """
    kept = set() if keep is None else set(keep.modules())
    for name, module in stack.named_modules():
        if module in kept:
            continue
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if name.endswith((".to_out", ".down")):
                module.weight.div_((2 * max(depth, 1)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        for own_name, parameter in module.named_parameters(recurse=False):
            if own_name in ("table", "position_table", "prefix_tokens", "queries"):
                nn.init.normal_(parameter, std=0.02)
