"""Where a run's weights come from, if not from chance: a model that was trained before."""

import logging

from torch import nn

from mmattn.data.tokenizer import CaptionTokenizer, check_same_tokens
from mmattn.errors import ConfigError
from mmattn.model_folder.source import read_source
from mmattn.weights import load_exactly

log = logging.getLogger(__name__)


def start_from(source: str, model: nn.Module, tokenizer: CaptionTokenizer | None) -> None:
    """Give a model the weights of a trained one of the same shape, from which it then learns on.

    Unlike a checkpoint to go on from (`ckpt_path`) that brings nothing else: no optimiser, no
    schedule, no place in the data.

    Args:
        source: what `start_from` names, see `read_source`.
        model: of the run; all its weights are replaced, those of a pretrained encoder too.
        tokenizer: of the run's texts, if it reads any.

    Raises:
        ConfigError: where there is no such model, or its tokens are other ones.
        CheckpointError: where its weights are of another shape.
    """
    what = f"start_from={source}"
    try:
        trained = read_source(source)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from error
    if trained.tokenizer is not None and tokenizer is not None:
        check_same_tokens(trained.tokenizer, tokenizer, what)
    load_exactly(model, trained.model.state_dict(), what)
    log.info("starting from the weights of %s", source)
