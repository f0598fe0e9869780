"""From a text, or its words, to the token ids that a classifier reads."""

from collections.abc import Sequence

from mmattn.data.tokenizer import CaptionTokenizer


def text_ids(
    text: str | Sequence[str] | None, tokenizer: CaptionTokenizer | None, max_length: int | None
) -> tuple[list[int], list[int]]:
    """Return a text's ids, begin and end included, and where each of its words starts.

    The begin token alone, which may be of no tokenizer, where there is no text.

    Args:
        text: a text; or its words, where words have labels.
        tokenizer: of the model.
        max_length: the most ids; a longer text is cut, and a word that is cut off starts at the
            last token that is left. None cuts nothing.
    """
    if tokenizer is None or text is None:
        return [0 if tokenizer is None else tokenizer.begin_id], []
    starts, ids = [], []
    for part in [text] if isinstance(text, str) else [f" {word}" for word in text]:
        starts.append(len(ids) + 1)
        ids += tokenizer.encode(part)
    kept = ids if max_length is None else ids[: max_length - 2]
    starts = [] if isinstance(text, str) else [min(place, len(kept)) for place in starts]
    return [tokenizer.begin_id, *kept, tokenizer.end_id], starts
