"""What a caption is worth in reinforcement: how much it is like what people said of its image."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from mmattn.metrics.bleu import bleu_scores
from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.metrics.ptb import tokenize

END = "<|end|>"  # no word that a caption is split into

tokens = lru_cache(maxsize=1 << 18)(tokenize)  # an epoch asks for the same references again


class CaptionReward:
    """The weighted sum of a caption's CIDEr-D and of its own BLEU-4.

    Both are those of `mmattn.metrics`; CIDEr-D's document frequencies are counted once, in the
    training captions. With `end_token` the end of a caption is a word like others, of the
    references too: without it a reward is highest for captions that stop in the middle, "a man on
    a" (Luo 2018 and later work on self-critical training).

    Args:
        training: for every training image, its captions.
        cider: weight of CIDEr-D, which is between 0 and 10.
        bleu: weight of BLEU-4, which is between 0 and 1.
        end_token: count the end of a caption.

    Raises:
        DataError: there is no training image.
    """

    def __init__(
        self,
        training: Iterable[Sequence[str]],
        *,
        cider: float = 1.0,
        bleu: float = 0.0,
        end_token: bool = True,
    ):
        self.cider, self.bleu, self.end_token = cider, bleu, end_token
        captions = ([self.words(caption, True) for caption in image] for image in training)
        self.frequencies = DocumentFrequencies.of([image for image in captions if image])

    def __call__(
        self,
        references: Sequence[Sequence[str]],
        captions: Sequence[Sequence[str]],
        ended: Sequence[Sequence[bool]],
    ) -> np.ndarray:
        """The rewards of N captions of each image, [images, N].

        Args:
            references: for every image, what people said of it; 0 is the reward where that is
                nothing.
            captions: for every image, N captions.
            ended: which of them the model has ended itself.
        """
        rewards = np.zeros((len(captions), len(captions[0]) if captions else 0))
        known = [b for b, image in enumerate(references) if image]
        if not known:
            return rewards
        wanted = [[self.words(caption, True) for caption in references[b]] for b in known]
        said = [
            self.words(*each) for b in known for each in zip(captions[b], ended[b], strict=True)
        ]
        place = np.repeat(np.arange(len(known)), rewards.shape[1])
        total = np.zeros(len(said))
        if self.cider:
            total += self.cider * CiderScorer(wanted, self.frequencies)(place, said)
        if self.bleu:
            total += self.bleu * bleu_scores([wanted[i] for i in place], said)[1][:, 3]
        rewards[known] = total.reshape(len(known), -1)
        return rewards

    def words(self, caption: str, ended: bool) -> list[str]:
        """Return the words of a caption, with its end if that counts."""
        return [*tokens(caption), END] if ended and self.end_token else list(tokens(caption))
