"""From texts to rows of tokens, as captions stand in a batch: begin token, text, padding."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmattn.data.tokenizer import CaptionTokenizer


def text_rows(
    tokenizer: CaptionTokenizer, texts: Sequence[str], max_length: int
) -> tuple[Int[Tensor, "R T"], Bool[Tensor, "R T"]]:
    """Return the tokens of R texts, and True where they are real.

    The rows are those that `CaptionDataModule.collate` makes of the same captions: they begin with
    the begin token, have no end token, and are cut to `max_length` tokens.
    """
    ids = [[tokenizer.begin_id, *tokenizer.encode(text)[: max_length - 1]] for text in texts]
    longest = max((len(row) for row in ids), default=1)
    tokens = torch.full((len(ids), longest), tokenizer.pad_id)
    for row, known in zip(tokens, ids, strict=True):
        row[: len(known)] = torch.tensor(known)
    lengths = torch.tensor([len(row) for row in ids], dtype=torch.long)
    return tokens, torch.arange(longest) < lengths[:, None]
