"""Loading a captioner by whatever names it."""

from pathlib import Path

import torch

from mmattn.errors import ConfigError
from mmattn.model_folder.source import captioner_of, read_source
from mmattn.pipeline.device import named_device
from mmattn.pipeline.pipeline import Pipeline

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    source: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> Pipeline:
    """Load a captioner.

    Args:
        source: a model folder (RUN/model), a run directory, or `name/name` on the Hugging Face hub
            where nothing here has that name.
        device: where it computes; "auto" takes an accelerator where there is one.
        dtype: "float32", "bfloat16", "float16" or torch's; as it was stored if None.
        revision, token: of the hub.

    Raises:
        ConfigError: where there is no such thing, or for an unknown device or type.
        CheckpointError: for what is something else, altered or not whole.
    """
    place, kind = named_device(device), known_dtype(dtype)
    found = read_source(source, revision=revision, token=token, dtype=kind)
    return Pipeline(captioner_of(found, source, "mmattn.load"), place)


def known_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Return torch's type of a name, any other as it is. Raises ConfigError for an unknown name."""
    if not isinstance(dtype, str):
        return dtype
    if dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r}: choose {', '.join(DTYPES)}")
    return DTYPES[dtype]
