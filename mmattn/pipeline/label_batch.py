"""From questions whose pictures are prepared to the batch that a classifier computes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmattn.batch import LabelBatch
from mmattn.pipeline.preparation import Original
from mmattn.pipeline.questions import Question


class Prepared(NamedTuple):
    """A question, its pictures as the network gets them, and as they were where that is kept."""

    question: Question
    pixels: tuple[Float[Tensor, "3 height width"], ...]
    originals: tuple[Original, ...] = ()


def label_batch(asked: Sequence[Prepared], pad_id: int, *, words: bool) -> LabelBatch:
    """Return the batch of some questions, which has no targets.

    Pictures that questions share are in it, and so are encoded, once.

    Args:
        asked: the questions.
        pad_id: of the model's tokenizer.
        words: whether the model labels words.
    """
    different: dict[int, Tensor] = {}
    for one in asked:
        different.update({id(pixels): pixels for pixels in one.pixels})
    numbers = {key: number for number, key in enumerate(different)}
    most = max((len(one.pixels) for one in asked), default=0) or 1
    rows = torch.zeros(len(asked), most, dtype=torch.long)
    there = torch.zeros(len(asked), most, dtype=torch.bool)
    for row, one in enumerate(asked):
        for m, pixels in enumerate(one.pixels):
            rows[row, m], there[row, m] = numbers[id(pixels)], True
    texts = [torch.tensor(one.question.ids) for one in asked]
    lengths = torch.tensor([len(text) for text in texts])
    tokens = pad_sequence(texts, True, pad_id)
    return LabelBatch(
        keys=tuple(one.question.name for one in asked),
        images=torch.stack(list(different.values())) if different else None,
        image_rows=rows,
        image_valid=None if bool(there.all()) else there,
        tokens=tokens,
        valid=torch.arange(tokens.shape[1]) < lengths[:, None],
        targets={},
        word_starts=word_starts(asked) if words else None,
        missing=missing(asked),
    )


def word_starts(asked: Sequence[Prepared]) -> Tensor:
    """Return where each word starts [B, W]; 0, the begin token, behind the last one."""
    longest = max((len(one.question.starts) for one in asked), default=0) or 1
    starts = torch.zeros(len(asked), longest, dtype=torch.long)
    for row, one in enumerate(asked):
        starts[row, : len(one.question.starts)] = torch.tensor(one.question.starts)
    return starts


def missing(asked: Sequence[Prepared]) -> dict[str, tuple[int, ...]]:
    """Return which questions have no picture, and which have no text."""
    return {
        "image": tuple(row for row, one in enumerate(asked) if not one.pixels),
        "text": tuple(row for row, one in enumerate(asked) if one.question.text is None),
    }
