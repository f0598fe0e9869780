"""A model by whatever names it: a model folder, a run directory or an id of the hub."""

from dataclasses import replace
from pathlib import Path

import torch

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.captioner import Captioner
from mmattn.errors import ConfigError
from mmattn.joint import JointModel
from mmattn.model_folder.format import read_folder
from mmattn.model_folder.hub import fetch, is_hub_id


def read_source(
    source: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    dtype: torch.dtype | None = None,
) -> Bundle | ClassifierBundle:
    """Read a captioner, a classifier or a joint model.

    Args:
        source: a model folder; a run directory that has one; or, where nothing here has that name,
            `name/name` on the Hugging Face hub.
        revision: a branch, tag or commit of the hub.
        token: of the hub's user, for private repositories.
        dtype: what the model's floating numbers become; as they were stored if None.

    Raises:
        ConfigError: where there is no such thing.
        CheckpointError: for what is something else, or not whole (see `read_folder`).
    """
    if is_hub_id(source):
        try:
            place = fetch(str(source), revision, token=token)
        except ConfigError as error:
            raise ConfigError(f"there is no folder {source} here, and {error}") from error
        return read_folder(place, dtype=dtype, alone=False)
    if revision is not None:
        raise ConfigError(f"revision={revision!r} is of the hub, and {source} is a folder here")
    return read_folder(source, dtype=dtype)


def captioner_of(found: Bundle | ClassifierBundle, source: str | Path, wanted: str) -> Bundle:
    """Return a captioner, of a joint model that which is in it, for what knows no other models.

    Raises:
        ConfigError: for a classifier, which `wanted` is not for.
    """
    if isinstance(found, Bundle):
        return replace(found, model=captioner_part(found.model))
    raise ConfigError(f"{source} is {in_words(found)}; {wanted} is for captioners")


def captioner_part(model: Captioner) -> Captioner:
    """Return the captioner in a joint model, made of the same parts; any other as it is."""
    if not isinstance(model, JointModel):
        return model
    captioner = Captioner(model.vision, model.text)
    captioner.bridge = model.bridge
    return captioner.train(model.training)


def in_words(bundle: Bundle | ClassifierBundle) -> str:
    """Return what a model is and which call it has."""
    if isinstance(bundle, Bundle) and isinstance(bundle.model, JointModel):
        return (
            "a joint model, which has .caption(), .embed(), .retrieve() and .classify(labels=…), "
            "`mmattn caption`, `mmattn retrieve` and `mmattn classify --labels`"
        )
    if isinstance(bundle, Bundle):
        return "a captioner, which has .caption() and `mmattn caption`"
    heads = ", ".join(bundle.classes)
    return f"a classifier ({heads}), which has .classify() and `mmattn classify`"
