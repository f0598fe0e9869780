"""CIDEr-D: how close a prediction comes to what people say of this image and not of others."""

from collections.abc import Sequence

import numpy as np

from mmattn.metrics.corpus import check_corpus
from mmattn.metrics.ngrams import NgramCounts, Tokens, count_ngrams, look_up


def cider_d(
    references: Sequence[Sequence[Tokens]],
    predictions: Sequence[Tokens],
    order: int = 4,
    sigma: float = 6.0,
) -> tuple[float, np.ndarray]:
    """The mean CIDEr-D over all captions, and that of every caption [images].

    Vedantam, Zitnick and Parikh 2015, "CIDEr: consensus-based image description evaluation",
    equations 1-3 for the tf-idf weights g and the mean over n, section 6 for CIDEr-D:

        CIDEr-D_n(c, S) = 10/m · Σ_j exp(-(l(c) - l(s_j))² / 2σ²) · min(g(c), g(s_j)) · g(s_j)
                                 / (|g(c)| · |g(s_j)|)

    for a prediction c and m references s_j. An n-gram weighs log(images / images whose references
    contain it), so a corpus of one image scores 0, and scores of different corpora differ in
    scale. As in coco-caption, weights are counts, not frequencies (this cancels in the cosine but
    not in the clipping). The score is at most 10.

    Args:
        references: for every image, the tokens of each of its references.
        predictions: for every image, the tokens of its predicted caption.
        order: the longest n-gram.
        sigma: the width of the Gaussian penalty on the difference in length, in words.

    Raises:
        DataError: the two lists differ in length or are empty, or an image has no reference.
    """
    check_corpus(references, predictions)
    captions = [caption for image in references for caption in image]
    sizes = np.array([len(image) for image in references])
    image_of = np.repeat(np.arange(len(references)), sizes)
    counts = count_ngrams([*captions, *predictions], order)
    similarity = sum(similarities(rows, image_of, len(predictions)) for rows in counts) / order

    length = np.array([len(prediction) for prediction in predictions])
    gap = length[image_of] - np.array([len(caption) for caption in captions])
    penalised = similarity * np.exp(-(gap**2) / (2 * sigma**2))
    scores = 10 * np.bincount(image_of, penalised) / sizes
    return float(scores.mean()), scores


def similarities(rows: NgramCounts, image_of: np.ndarray, images: int) -> np.ndarray:
    """The clipped cosine between each reference [references] and the prediction for its image.

    The captions in `rows` are all references, whose images are `image_of`, then one prediction per
    image.
    """
    image = np.concatenate([image_of, np.arange(images)])[rows.caption]
    first = np.searchsorted(rows.caption, len(image_of))
    key = image * rows.kinds + rows.ngram
    weight = rows.count * inverse_document_frequency(key[:first], rows.kinds, images)[rows.ngram]
    norm = np.sqrt(np.bincount(rows.caption, weight**2, minlength=len(image_of) + images))

    predicted = look_up(key[first:], weight[first:], key[:first])
    shared = np.minimum(predicted, weight[:first]) * weight[:first]
    dot = np.bincount(rows.caption[:first], shared, minlength=len(image_of))
    scale = norm[: len(image_of)] * norm[len(image_of) :][image_of]
    return np.divide(dot, scale, out=np.zeros(len(dot)), where=scale > 0)


def inverse_document_frequency(keys: np.ndarray, kinds: int, images: int) -> np.ndarray:
    """log(images / images that contain it) of every n-gram [kinds].

    `keys` are image · kinds + n-gram for all references. An n-gram that is in no reference counts
    as one that is in one image.
    """
    keys = np.sort(keys)
    once = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]  # np.unique is much slower
    containing = np.bincount(once % max(kinds, 1), minlength=kinds)
    return np.log(images) - np.log(np.maximum(containing, 1))
