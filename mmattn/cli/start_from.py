"""Where a run's weights come from, if not from chance: a model that was trained before."""

import logging

from torch import nn

from mmattn.bundle import Bundle, ClassifierBundle
from mmattn.data.tokenizer import CaptionTokenizer
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
    trained = read_source(source)
    check_same_tokens(source, trained, tokenizer)
    load_exactly(model, trained.model.state_dict(), f"start_from={source}")
    log.info("starting from the weights of %s", source)


def check_same_tokens(
    source: str, trained: Bundle | ClassifierBundle, tokenizer: CaptionTokenizer | None
) -> None:
    """Raise ConfigError where a token is another one for the trained model than for the run."""
    theirs = trained.tokenizer
    if theirs is None or tokenizer is None or theirs.fingerprint == tokenizer.fingerprint:
        return
    raise ConfigError(
        f"start_from={source}: its tokenizer has {theirs.vocab_size} tokens, and this run's "
        f"{tokenizer.vocab_size} are not the same: set data.tokenizer.path to the model's "
        "tokenizer.json"
    )
