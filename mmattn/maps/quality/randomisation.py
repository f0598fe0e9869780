"""A model that has learnt nothing: do its maps look the same? (Adebayo et al. 2018)"""

from collections.abc import Iterator
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.initialisation import initialise
from mmattn.maps.methods import MapMethod
from mmattn.maps.quality.ranks import spearman

Model = TypeVar("Model", Captioner, Classifier)


@torch.inference_mode(False)  # gradients may be asked of the copy
def randomised(model: Model, seed: int) -> Model:
    """Return a copy of the model with weights as if it had just been built; `model` is untouched.

    A parameter that has no start of its own (a layer scale, a foreign backbone's class token) has
    its values shuffled. The same seed gives the same weights on every device.
    """
    device = next(model.parameters()).device
    copy = deepcopy(model).cpu()
    trained = {name: value.clone() for name, value in copy.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs as well
        _start_anew(copy)
        with torch.no_grad():
            for name, value in copy.named_parameters():
                if torch.equal(value, trained[name]):
                    value.copy_(value.flatten()[torch.randperm(value.numel())].view_as(value))
    return copy.to(device)


def cascade(
    model: Captioner, batch: CaptionBatch, method: MapMethod, seed: int
) -> list[tuple[str, float]]:
    """Return how alike the maps stay while random weights go down from the model's output.

    One entry for each part, from the last to the first, with the mean over the batch's tokens of
    Spearman's correlation with the trained model's map once this part and all above it are random.
    A method that shows what the model has learnt falls towards 0 (Adebayo et al. 2018, cascading
    randomisation).
    """
    weights = randomised(model, seed).state_dict()
    mixed = deepcopy(model)
    trained = _labelled_maps(model, batch, method)
    curve = []
    for title, names in parts_from_output(model):
        mixed.load_state_dict({name: weights[name] for name in names}, strict=False)
        alike = spearman(trained, _labelled_maps(mixed, batch, method))
        curve.append((title, float(alike.mean())))
    return curve


def parts_from_output(model: Captioner) -> Iterator[tuple[str, list[str]]]:
    """Yield (title, names in the state dict) of each part of the model, the output first."""
    text, vision = model.text.depth, model.vision.depth
    titles = {
        "text.head": "text output",
        "text.norm.": "text output",
        **{f"text.blocks.{i}.": f"text block {i}" for i in reversed(range(text))},
        "text.": "text embedding",
        "bridge.": "bridge",
        "vision.norm.": "image output",
        "vision.pooler.": "image output",
        **{f"vision.blocks.{i}.": f"image block {i}" for i in reversed(range(vision))},
        "vision.": "patch embedding",
    }
    parts: dict[str, list[str]] = {title: [] for title in titles.values()}
    for name in model.state_dict():
        # The first prefix that fits: blocks come before the stack that holds them.
        parts[next(titles[prefix] for prefix in titles if name.startswith(prefix))].append(name)
    yield from ((title, names) for title, names in parts.items() if names)


@torch.no_grad()
def _start_anew(model: Captioner | Classifier) -> None:
    """Draw the weights of a model as their modules and `initialise` do."""
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if isinstance(module, nn.Module) and callable(reset):
            reset()
    fusion = model.fusion if isinstance(model, Classifier) else None
    for stack in (model.vision, model.text, fusion):
        if stack is not None:
            initialise(stack, stack.depth)


def _labelled_maps(model: Captioner, batch: CaptionBatch, method: MapMethod) -> np.ndarray:
    """Return the maps [tokens, h·w] at the places of the batch that have a label."""
    maps = method(model, batch).detach()
    return maps[batch.valid].flatten(1).float().cpu().numpy()
