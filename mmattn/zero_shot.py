"""Classes that are only named: a name's embedding takes the place of a trained class's weights."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mmattn.data.backend import backend_errors
from mmattn.data.text_rows import text_rows
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import ConfigError, DataError
from mmattn.joint import JointModel

PLACE = "{}"  # where a template takes the name


@torch.no_grad()
def zero_shot_weights(
    model: JointModel,
    tokenizer: CaptionTokenizer,
    names: Sequence[str],
    templates: Sequence[str] = (PLACE,),
    batch_size: int = 256,
) -> Float[Tensor, "C E"]:
    """Return the embedding of each class: of its name in every template, averaged (CLIP, Radford
    et al. 2021, section 3.1.4).

    Args:
        model: in evaluation mode, as it is to see the images.
        tokenizer: of its texts.
        names: of C classes.
        templates: texts with `{}` where the name is to stand, such as "a photo of a {}.".
        batch_size: texts that are encoded at once.

    Returns:
        Vectors of length 1; their products with `model.image_embeddings(…)` are similarities, and
        `zero_shot_scores` makes of these what a softmax turns into probabilities.

    Raises:
        ConfigError: there is no name, or a template has no place for it.
        DataError: a name in a template is longer than the model's texts may be, or cannot be
            written in its tokens.
    """
    check_named(names, templates)
    texts = [template.replace(PLACE, name) for name in names for template in templates]
    check_fits(tokenizer, texts, model.text_encoder.max_length)
    place = model.log_scale.device
    embedded = []
    for start in range(0, len(texts), batch_size):
        rows = text_rows(
            tokenizer, texts[start : start + batch_size], model.text_encoder.max_length
        )
        tokens, valid = (each.to(place) for each in rows)
        embedded.append(model.text_embeddings(model.read(tokens, valid), valid))
    by_name = torch.cat(embedded).view(len(names), len(templates), -1)
    return F.normalize(by_name.mean(1), dim=-1)


def zero_shot_scores(
    model: JointModel, image_embeddings: Float[Tensor, "B E"], weights: Float[Tensor, "C E"]
) -> Float[Tensor, "B C"]:
    """Return the scores of the classes for each image, one over the model's temperature apart."""
    return model.scale * image_embeddings @ weights.T


def check_named(names: Sequence[str], templates: Sequence[str]) -> None:
    """Raise ConfigError where there is no name, or a template has no place for one."""
    if isinstance(names, str) or isinstance(templates, str):
        raise ConfigError("names and templates come in lists, not as one string")
    if not names or not templates:
        raise ConfigError(
            f"{len(names)} names and {len(templates)} templates: give one of each at least"
        )
    lacking = [template for template in templates if PLACE not in template]
    if lacking:
        raise ConfigError(f"the template {lacking[0]!r} has no {PLACE} where the name could stand")


def check_fits(tokenizer: CaptionTokenizer, texts: Sequence[str], max_length: int) -> None:
    """Raise DataError for a text of more than `max_length` tokens, its begin token included.

    Also for one that cannot be written in the model's tokens.
    """
    for text in texts:
        with backend_errors(f"{text[:60]!r}: the model has no tokens for this text", DataError):
            length = len(tokenizer.encode(text)) + 1
        if length > max_length:
            raise DataError(
                f"{text[:60]!r} has {length} tokens and the model reads {max_length}: "
                "shorten the name or the template"
            )
