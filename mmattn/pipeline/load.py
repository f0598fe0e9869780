"""Loading a model by whatever names it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mmattn.bundle import Bundle
from mmattn.errors import ConfigError
from mmattn.joint import JointModel
from mmattn.model_folder.source import in_words, read_source
from mmattn.pipeline.captioner_ensemble import CaptionerEnsemble
from mmattn.pipeline.classifier_pipeline import ClassifierPipeline
from mmattn.pipeline.device import named_device
from mmattn.pipeline.ensemble import ClassifierEnsemble
from mmattn.pipeline.joint_pipeline import JointPipeline
from mmattn.pipeline.pipeline import Pipeline

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    source: str | Path | Sequence[str | Path],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Pipeline | ClassifierPipeline:
    """Load a captioner, which has `caption`, a classifier, which has `classify`, or a joint model.

    A joint model is a captioner that has `embed`, `match`, `classify` and `retrieve`, too.

    Args:
        source: a model folder (RUN/model), a run directory, or `name/name` on the Hugging Face hub
            where nothing here has that name. A list of captioners makes an ensemble, which writes
            by the mean of their probabilities; a list of classifiers one that tells the mean of
            theirs and how unsure they are together.
        device: where it computes; "auto" takes an accelerator where there is one.
        dtype: "float32", "bfloat16", "float16" or torch's; as it was stored if None.
        revision, token: of the hub.

    Raises:
        ConfigError: where there is no such thing, for an unknown device or type, and for a list of
            models that are no ensemble (see `CaptionerEnsemble`, `ClassifierEnsemble`).
        CheckpointError: for what is something else, altered or not whole.
    """
    if not isinstance(source, (str, Path)):
        settings = {"device": device, "dtype": dtype, "revision": revision, "token": token}
        return ensemble_of({str(name): load(name, **settings) for name in source}, source)
    place, kind = named_device(device), known_dtype(dtype)
    bundle = read_source(source, revision=revision, token=token, dtype=kind)
    if isinstance(bundle, Bundle):
        joint = isinstance(bundle.model, JointModel)
        return JointPipeline(bundle, place) if joint else Pipeline(bundle, place)
    return ClassifierPipeline(bundle, place)


def ensemble_of(
    loaded: Mapping[str, Pipeline | ClassifierPipeline], source: Sequence[str | Path]
) -> Pipeline | ClassifierPipeline:
    """Return models as one. Raises ConfigError where captioners and classifiers are among them."""
    members = [loaded[str(name)] for name in source]
    captioners = [one for one in members if isinstance(one, Pipeline)]
    classifiers = [one for one in members if isinstance(one, ClassifierPipeline)]
    if captioners and classifiers:
        raise ConfigError(
            "an ensemble is of captioners or of classifiers: "
            + ", ".join(f"{name} is {in_words(one.bundle)}" for name, one in loaded.items())
        )
    return CaptionerEnsemble(captioners) if captioners else ClassifierEnsemble(classifiers)


def load_captioner(
    source: str | Path | Sequence[str | Path], wanted: str, **settings: Any
) -> Pipeline:
    """Load a captioner, or several as one; settings and further errors are those of `load`.

    Raises:
        ConfigError: for a classifier, which `wanted` is not for.
    """
    found = load(source, **settings)
    if isinstance(found, Pipeline):
        return found
    raise ConfigError(f"{source} is {in_words(found.bundle)}; {wanted} is for captioners")


def load_joint(source: str | Path, wanted: str, **settings: Any) -> JointPipeline:
    """Load a joint model; settings, and what else it raises, are those of `load`.

    Raises:
        ConfigError: for any other, which `wanted` is not for.
    """
    found = load(source, **settings)
    if isinstance(found, JointPipeline):
        return found
    raise ConfigError(
        f"{source} is {in_words(found.bundle)}; {wanted} is for joint models, which embed images "
        "and texts (mmattn train experiment=glyphs_joint)"
    )


def load_classifier(
    source: str | Path | Sequence[str | Path], wanted: str, **settings: Any
) -> ClassifierPipeline:
    """Load a classifier, or several as one; settings and further errors are those of `load`.

    Raises:
        ConfigError: for a captioner, which `wanted` is not for.
    """
    found = load(source, **settings)
    if isinstance(found, ClassifierPipeline):
        return found
    raise ConfigError(f"{source} is {in_words(found.bundle)}; {wanted} is for classifiers")


def known_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Return torch's type of a name, any other as it is. Raises ConfigError for an unknown name."""
    if not isinstance(dtype, str):
        return dtype
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r}: choose {', '.join(DTYPES)}")
    return DTYPES[dtype]
