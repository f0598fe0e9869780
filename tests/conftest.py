"""What every test shares: no network, no screen, one thread, and shapes checked at every call."""

import os
from pathlib import Path

# Before the libraries that read them are imported; processes that a test starts inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"

import hypothesis
import jaxtyping
import pytest
import torch

# Before mmattn is imported: from here on each annotated call of it is checked by beartype.
jaxtyping.install_import_hook("mmattn", "beartype.beartype")

torch.set_num_threads(1)

# The first example pays for what torch sets up lazily, and machines are shared: no deadline.
hypothesis.settings.register_profile("mmattn", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("mmattn")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets that the environment variable MMATTN_DATA names."""
    value = os.environ.get("MMATTN_DATA")
    if not value:
        pytest.skip(
            "needs real data: set MMATTN_DATA to the folder that holds flickr8k/ and others"
        )
    root = Path(value)
    if not root.is_dir():
        pytest.fail(f"MMATTN_DATA is {value!r}, which is not a folder: correct it or unset it")
    return root
