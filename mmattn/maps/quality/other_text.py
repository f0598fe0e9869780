"""The same images with other texts: what does the text add to where a map lies?"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from mmattn.batch import LabelBatch


def other_texts(
    batch: LabelBatch, chosen: Sequence[int], among: Sequence[int], seed: int
) -> tuple[list[int], LabelBatch]:
    """Return the `chosen` examples with a text each that is drawn of those of `among`.

    No example gets what it says itself, or no text at all; one for which nothing else is left is
    left out. Returns which of `chosen` are kept, too.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = zip(batch.tokens.cpu(), batch.valid.cpu(), strict=True)
    said = [tuple(tokens[valid].tolist()) for tokens, valid in texts]
    among = [b for b in among if b not in batch.missing.get("text", ())]
    kept, donors = [], []
    for place, b in enumerate(chosen):
        others = [other for other in among if said[other] != said[b]]
        if others:
            kept.append(place)
            donors.append(others[int(torch.randint(len(others), (), generator=generator))])
    own, given = batch.select([chosen[place] for place in kept]), batch.select(donors)
    changed = {name: getattr(given, name) for name in ("tokens", "valid", "word_starts")}
    return kept, replace(own, **changed, missing={**own.missing, "text": ()})
