"""The mean of the weights of several checkpoints, as a model (Vaswani et al. 2017, section 6.1).

Checkpoints of one run, or runs that went on from one model ("model soups", Wortsman et al. 2022):
only such lie in one valley of the loss. Runs from different seeds do not; their predictions can be
averaged (`mmattn.load([A, B])`), not their weights.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.errors import ConfigError
from mmattn.model_folder.config import config_of, walk
from mmattn.model_folder.weights import dtype_name, tied_parameters

Kept = Bundle | ClassifierBundle
# What config.json says that may differ: where a model comes from, how it writes, and the type of
# its weights.
FREE = ("source", "decoding", "weights")
# Cosine of the matrices of two models. Those of one run, or of runs that went on from one model,
# have 0.9 and more here; those of different seeds, whatever they learned, 0.01.
ALIKE = 0.1
ROUNDING = 1e-6


def averaged(bundles: Iterable[tuple[str, Kept]]) -> Kept:
    """Return a model whose weights are the uniform mean of several ones'.

    Summed in float64 and stored in the last one's types, so that the mean of equal weights is these
    weights. Buffers of whole numbers, such as the step counters of batch norms, are the last one's;
    the statistics of batch norms are averaged as weights are. Temperatures were fitted for other
    weights and are left out.

    Args:
        bundles: names for messages, and models; read one after the other, and changed.

    Raises:
        ConfigError: for fewer than two; for one that differs from the first in more than its
            numbers, naming the first parameter, or setting, that does; and for one whose weights
            have nothing in common with the others', as those of another seed.
    """
    first: tuple[str, dict[str, Any], str | None] | None = None
    total: dict[str, Tensor] = {}
    count, last = 0, None
    for name, bundle in bundles:
        state = bundle.model.state_dict()
        if first is None:
            first = (name, settings(bundle), reads(bundle))
            total = {key: sum_of(tensor) for key, tensor in state.items()}
        else:
            check_tensors(name, state, first[0], total)
            check_settings(name, settings(bundle), first[0], first[1])
            if reads(bundle) != first[2]:
                raise ConfigError(f"{name} has another tokenizer than {first[0]}")
            check_alike(name, state, first[0], total)
            for key, tensor in state.items():
                total[key] = total[key] + sum_of(tensor) if averages(tensor) else tensor
        count, last = count + 1, bundle
    if last is None or count < 2:
        raise ConfigError(f"a mean is of 2 checkpoints or more, and this is of {count}")
    own = last.model.state_dict()
    last.model.load_state_dict(
        {k: (total[k] / count).to(v.dtype) if averages(v) else v for k, v in own.items()}
    )
    source = f"the mean of {count} checkpoints; the last: {last.source}"
    if isinstance(last, ClassifierBundle):
        return replace(last, source=source, temperature={})
    return replace(last, source=source)


def averages(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers have a mean of their kind."""
    return tensor.is_floating_point()


def sum_of(tensor: Tensor) -> Tensor:
    """Return a tensor to which others are added."""
    return tensor.detach().to(torch.float64) if averages(tensor) else tensor


def reads(bundle: Kept) -> str | None:
    """Return what tells a model's tokenizer from others; None where it reads no text."""
    return None if bundle.tokenizer is None else bundle.tokenizer.fingerprint


def settings(bundle: Kept) -> dict[str, Any]:
    """Return what config.json would say of a model, but for what may differ."""
    model = bundle.model
    if isinstance(bundle, ClassifierBundle):
        bundle = replace(bundle, temperature={})
    config = config_of(bundle, dtype_name(model.state_dict()), tied_parameters(model))
    return {key: value for key, value in config.items() if key not in FREE}


def check_tensors(
    name: str, state: Mapping[str, Tensor], first: str, wanted: Mapping[str, Tensor]
) -> None:
    """Raise ConfigError naming the first tensor that two models do not have alike."""
    for key, tensor in wanted.items():
        if key not in state:
            raise ConfigError(f"{name} has no {key}, which {first} has: they have no mean")
        if state[key].shape != tensor.shape:
            raise ConfigError(
                f"{key} is {tuple(state[key].shape)} in {name} and {tuple(tensor.shape)} in "
                f"{first}: only checkpoints of one architecture have a mean"
            )
    more = next((key for key in state if key not in wanted), None)
    if more is not None:
        raise ConfigError(f"{name} has {more}, which {first} has not: they have no mean")


def check_alike(
    name: str, state: Mapping[str, Tensor], first: str, total: Mapping[str, Tensor]
) -> None:
    """Raise ConfigError where most matrices that differ have nothing in common.

    Their mean would be of no use, though it is computed without complaint.
    """
    cosines = [
        float(cosine_similarity(total[key].flatten(), sum_of(tensor).flatten(), 0))
        for key, tensor in state.items()
        if averages(tensor) and tensor.ndim > 1 and tensor.any() and total[key].any()
    ]
    other = [cosine for cosine in cosines if cosine < 1 - ROUNDING]
    unlike = sum(cosine < ALIKE for cosine in other)
    if unlike > len(other) / 2:
        raise ConfigError(
            f"{name} and {first} began differently: {unlike} of {len(other)} matrices have nothing "
            f"in common (cosine below {ALIKE}), and a mean of such weights is of no use; let the "
            "models write together instead, as several --model"
        )


def check_settings(
    name: str, said: Mapping[str, Any], first: str, wanted: Mapping[str, Any]
) -> None:
    """Raise ConfigError naming a setting that two models do not have alike."""
    mine, theirs = ({w: v for w, _, v in leaves(of)} for of in (said, wanted))
    for where in {**theirs, **mine}:
        if mine.get(where) != theirs.get(where):
            raise ConfigError(
                f"{where} is {mine.get(where)!r} in {name} and {theirs.get(where)!r} in {first}: "
                "only checkpoints of one architecture have a mean"
            )


def leaves(config: Mapping[str, Any]) -> Iterable[tuple[str, str, Any]]:
    """Return the entries of nested values that hold no others; lists are whole."""
    found = ((w, k, v) for w, k, v in walk(dict(config)) if not isinstance(v, Mapping))
    return [(where, key, value) for where, key, value in found if key]
