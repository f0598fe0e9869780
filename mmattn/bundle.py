"""A captioner with all that it needs to caption a picture."""

from dataclasses import dataclass, field
from typing import Any

from mmattn.captioner import Captioner
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer


@dataclass
class Bundle:
    """What a model folder holds, and what reading another library's folder gives.

    Attributes:
        model: the captioner, in evaluation mode.
        tokenizer: of its captions; knows the ids of begin, end and padding.
        preprocessing: how a picture becomes the model's input.
        max_length: the longest caption in tokens, its end token included, its begin token not.
        decoding: the model's own choice of decoding options, by their names (`DecodingOptions`).
        source: where it comes from, in a few words, for the model card.
    """

    model: Captioner
    tokenizer: CaptionTokenizer
    preprocessing: Preprocessing
    max_length: int
    decoding: dict[str, Any] = field(default_factory=dict)
    source: str = ""
