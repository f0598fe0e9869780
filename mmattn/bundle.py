"""A model with all that it needs to be used: a captioner, or a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.data.labelled.classes import Classes
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.tokenizer import CaptionTokenizer


@dataclass
class Bundle:
    """What the model folder of a captioner holds, and what reading another library's folder gives.

    Attributes:
        model: the captioner, in evaluation mode; a `JointModel` also embeds and matches.
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


@dataclass
class ClassifierBundle:
    """What the model folder of a classifier holds.

    Attributes:
        model: the classifier, in evaluation mode.
        tokenizer: of the texts that it reads; None where it reads none.
        preprocessing: how a picture becomes the model's input; None where it sees none.
        max_length: the longest text in tokens, its begin and end token included.
        classes: of every head, in the order of the model's scores.
        temperature: head -> what its scores are divided by before they become probabilities, fitted
            to validation data (Guo et al. 2017); 1 of a head that is not named.
        source: where it comes from, in a few words, for the model card.
    """

    model: Classifier
    tokenizer: CaptionTokenizer | None
    preprocessing: Preprocessing | None
    max_length: int
    classes: Mapping[str, Classes]
    temperature: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
