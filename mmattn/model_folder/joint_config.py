"""What config.json says of a joint model and of no other: how it writes its captions.

What else it does, embedding and matching, its architecture says.
"""

from collections.abc import Mapping
from typing import Any

from mmattn.architecture import construct_joint
from mmattn.joint import JointModel
from mmattn.model_folder import captioner_config
from mmattn.model_folder.text_fits import check_length_fits

KINDS = captioner_config.KINDS
build = construct_joint
values_of = captioner_config.values_of
check = captioner_config.check
bundle_of = captioner_config.bundle_of


def check_fits(config: Mapping[str, Any], model: JointModel, source: str) -> None:
    """Raise CheckpointError for texts, a vocabulary or special tokens that it cannot have."""
    captioner_config.check_fits(config, model, source)
    check_length_fits(config, model.text_encoder, source)
