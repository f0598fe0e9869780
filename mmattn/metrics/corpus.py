"""What every caption metric asks of its input: one prediction and some references per image."""

from collections.abc import Sequence

from mmattn.errors import DataError


def check_corpus(references: Sequence[Sequence], predictions: Sequence) -> None:
    """Raise `DataError` unless every image has one prediction and at least one reference."""
    if isinstance(references, str) or isinstance(predictions, str):
        raise DataError("captions must come in lists, one entry per image, not as one string")
    if len(references) != len(predictions):
        raise DataError(
            f"{len(references)} images have references but {len(predictions)} have predictions: "
            "give one list of references and one prediction per image, in the same order"
        )
    if not predictions:
        raise DataError("there is no caption to score: the corpus is empty")
    check_references(references)


def check_references(references: Sequence[Sequence]) -> None:
    """Raise `DataError` unless every image has at least one reference, in a list."""
    for index, image in enumerate(references):
        if isinstance(image, str):
            raise DataError(f"the references of image {index} are one string, not a list of them")
        if not image:
            raise DataError(f"image {index} has no reference: leave it out or give it one")
