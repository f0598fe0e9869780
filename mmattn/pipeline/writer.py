"""Writing the captions of pictures, batch after batch, all in the same way."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import ImageTokens
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.decoding.decoded import Decoded, Limits
from mmattn.decoding.ensemble import Encoded, Model
from mmattn.decoding.options import Method
from mmattn.decoding.rules import Rule
from mmattn.decoding.sampling import Sampling
from mmattn.pipeline.attention import AttentionChoice, Heard, HeardTogether, Recorded
from mmattn.pipeline.caption import Caption
from mmattn.pipeline.finite import check_finite
from mmattn.pipeline.pictures import Picture, Unreadable, grey_picture
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.ranking import Ranker
from mmattn.pipeline.wording import said_ids, wording

AnyHeard = Heard | HeardTogether


@dataclass(frozen=True)
class Writer:
    """Writes captions in one way; `Pipeline.writer` makes it of options that fit the model.

    Attributes:
        model: the captioner, or several that write together, in evaluation mode.
        tokenizer: of its captions.
        preparation: of its pictures.
        limits, method, rules: how captions are written.
        choice: which attention is kept; None for none.
        ranker: what an image's captions are chosen by; None for the method's own scores.
    """

    model: Model
    tokenizer: CaptionTokenizer
    preparation: Preparation
    limits: Limits
    method: Method
    rules: Sequence[Rule]
    choice: AttentionChoice | None
    ranker: Ranker | None = None

    def results(
        self, pictures: Iterable[Picture], *, batch_size: int, threads: int
    ) -> Generator[Caption | Unreadable, None, None]:
        """Yield the caption of each picture, or what is wrong with it, in their order.

        Only a few pictures are held at a time.

        Args:
            pictures: what to caption.
            batch_size: pictures computed at once.
            threads: how many read pictures while the model is busy.
        """
        sizes = {"batch_size": batch_size, "threads": threads}
        return computed(pictures, self.preparation, self.captions, **sizes)

    def trial(self, size: int) -> None:
        """Write the captions of a batch of grey pictures."""
        grey = [grey_picture(self.preparation.preprocessing.size, i) for i in range(size)]
        list(self.results(grey, batch_size=size, threads=1))

    @torch.no_grad()
    def captions(self, batch: Sequence[Ready]) -> list[Caption]:
        """Return the captions of a batch, with an image's best one its others.

        Raises:
            ConfigError: where the model computes something that is no number.
        """
        heard = None if self.choice is None else self.choice.listen(self.model)
        pixels = torch.stack([one.prepared.pixels for one in batch])
        pixels = pixels.to(next(self.model.parameters()))  # its device and its type
        image = self.encode(pixels, heard)
        decoded = self.decode(image, batch, heard)
        check_finite(self.model, decoded.log_probs)
        recorded = None if heard is None else self.recorded(heard, image, decoded)
        return [self.caption(b, one, decoded, recorded) for b, one in enumerate(batch)]

    def encode(self, pixels: Float[Tensor, "B C height width"], heard: AnyHeard | None) -> Encoded:
        """Return encoded pictures. Raises ConfigError where something in them is no number."""
        told: Any = None if heard is None else heard.encoding
        image = self.model.encode(pixels, told)
        for tokens in (
            [image.tokens] if isinstance(image, ImageTokens) else [x.tokens for x in image]
        ):
            check_finite(self.model, tokens)
        return image

    def recorded(self, heard: AnyHeard, image: Encoded, decoded: Decoded) -> Recorded:
        """Return the attention of all captions of a batch."""
        of: Any = image
        return heard.recorded(of, decoded.tokens.shape[1])

    def decode(self, image: Encoded, batch: Sequence[Ready], heard: AnyHeard | None) -> Decoded:
        """Return the captions as tokens."""
        told: dict[str, Any] = {"listener": None if heard is None else heard.decoding}
        if isinstance(self.method, Sampling):  # what is drawn depends on a picture's place
            told["places"] = [one.place for one in batch]
        if self.ranker is not None:
            told["ranking"] = lambda decoded: self.ranks(decoded, batch)
        return self.method(self.model, image, self.limits, self.rules, **told)

    def ranks(self, decoded: Decoded, batch: Sequence[Ready]) -> Float[Tensor, "B N"]:
        """Return what the ranker says of N captions of each picture of a batch."""
        assert self.ranker is not None
        texts = [
            [self.tokenizer.decode(said_ids(row, self.tokenizer)) for row in rows]
            for rows in decoded.tokens.tolist()
        ]
        seen = [one.prepared.seen for one in batch if one.prepared.seen is not None]
        own = decoded.scores.cpu()
        return self.ranker(texts, seen, own).to(decoded.tokens.device)

    def caption(
        self, b: int, picture: Ready, decoded: Decoded, recorded: Recorded | None
    ) -> Caption:
        """Return the best caption of the batch's picture `b`, with its others."""
        found = []
        for n, row in enumerate(decoded.tokens[b].tolist()):
            said = wording(row, self.tokenizer)
            original, attention = picture.prepared.original, None
            if recorded is not None and original is not None:
                attention = recorded.record((b, n), picture.name, said, original)
            found.append(
                Caption(
                    name=picture.name,
                    text=said.text,
                    words=tuple(word.text for word in said.words),
                    tokens=said.tokens,
                    ids=said.ids,
                    log_probs=tuple(decoded.log_probs[b, n, : len(said.ids) + 1].tolist()),
                    score=float(decoded.scores[b, n]),
                    attention=attention,
                )
            )
        best, *others = found
        return replace(best, others=tuple(others))
