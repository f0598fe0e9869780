"""How much each caption of an image says what the others say, in CIDEr-D."""

from collections.abc import Sequence

import numpy as np

from mmattn.metrics.cider_scorer import CiderScorer
from mmattn.metrics.document_frequencies import DocumentFrequencies
from mmattn.metrics.ngram_numbers import NgramNumbers
from mmattn.metrics.ngrams import Tokens


def all_alike(order: int = 4) -> DocumentFrequencies:
    """Return frequencies by which every n-gram weighs the same: nothing is known of any."""
    nothing = (np.zeros(0),) * order
    return DocumentFrequencies(NgramNumbers(order).extended([]), nothing, 1.0)


def agreement(
    captions: Sequence[Sequence[Tokens]], frequencies: DocumentFrequencies | None = None
) -> list[np.ndarray]:
    """The mean CIDEr-D of each caption of an image with the image's other ones as references.

    The caption with the highest one is what minimum Bayes risk decoding chooses (Kumar and Byrne
    2004), and the consensus caption of Devlin et al. 2015. Captions that were drawn from a model
    count as often as they were drawn. A caption without others scores 0.

    Args:
        captions: for every image, the tokens of each of its N captions.
        frequencies: how many images' captions have an n-gram; all weigh the same if None.

    Returns:
        For every image N scores, from 0 to 10.
    """
    frequencies = frequencies or all_alike()
    flat = [caption for image in captions for caption in image]
    if not flat:
        return [np.zeros(0) for _ in captions]
    several = [image for image in captions if image]  # an image without captions has no references
    sizes = np.array([len(image) for image in several])
    image_of = np.repeat(np.arange(len(several)), sizes)
    with_itself = CiderScorer([[one] for one in flat], frequencies)(np.arange(len(flat)), flat)
    with_all = CiderScorer(several, frequencies)(image_of, flat)
    size = sizes[image_of]
    with_others = np.where(size > 1, (size * with_all - with_itself) / np.maximum(size - 1, 1), 0.0)
    ends = np.cumsum([len(image) for image in captions])[:-1]
    return np.split(with_others, ends)
