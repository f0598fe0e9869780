"""Why a classifier decided as it did: how much each patch and each word argued for a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmattn.batch import LabelBatch
from mmattn.classifier import Classifier
from mmattn.fusion.stream import mean
from mmattn.gradient_recorder import GradientRecorder
from mmattn.maps.methods import evaluating
from mmattn.maps.relevance import attention_gradient
from mmattn.maps.single_examples import single_examples
from mmattn.maps.stream_relevance import attend_across, attend_to_itself, block_diagonal
from mmattn.maps.streams import Streams
from mmattn.maps.words import Reduction, Span, Word, group_words, merge

Kind = Literal["single", "multi", "soft", "words"]


@runtime_checkable
class WordTokenizer(Protocol):
    """What tells which tokens a word is made of."""

    def until_end(self, ids: Sequence[int]) -> list[int]:
        """Return the ids of the text itself, without begin and end."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        ...

    def offsets(self, ids: Sequence[int]) -> list[Span]:
        """Return where each id's text stands in `decode(ids)`."""
        ...


@dataclass(frozen=True)
class Decision:
    """What a classifier decided about B examples, and what it owes to their images and texts.

    Attributes:
        classes: the class that is explained.
        probability: what the model gives it.
        image: the relevance of each patch of each of the M images; zero for an image that is
            missing; None for a model without an image encoder.
        text: the relevance of each token, the begin token first; zero for padding and for a text
            that is missing; None for a model without a text encoder.
        tokens, valid: the texts; none of a missing text's tokens is valid.
    """

    classes: Int[Tensor, "B"]
    probability: Float[Tensor, "B"]
    image: Float[Tensor, "B M h w"] | None
    text: Float[Tensor, "B T"] | None
    tokens: Int[Tensor, "B T"]
    valid: Bool[Tensor, "B T"]

    def words(
        self, tokenizer: WordTokenizer, reduction: Reduction = "sum"
    ) -> list[list[tuple[Word, float]]]:
        """Return the words of every text with their relevance, that of their tokens together.

        What begin and end token are worth belongs to no word. Raises ValueError for a model that
        reads no text.
        """
        if self.text is None:
            raise ValueError("this model reads no text: only its images have a relevance")
        found = []
        for relevance, tokens, valid in zip(self.text, self.tokens, self.valid, strict=True):
            ids = tokenizer.until_end(tokens[valid].tolist())
            words = group_words(tokenizer.decode(ids), tokenizer.offsets(ids))
            worth = merge(relevance[1:].cpu().numpy(), words, reduction)
            found.append(list(zip(words, worth.tolist(), strict=True)))
        return found


def decision_relevance(
    model: Classifier,
    batch: LabelBatch,
    head: str,
    classes: Int[Tensor, "B"] | None = None,
    *,
    word: Int[Tensor, "B"] | None = None,
    kind: Kind = "single",
    at_once: int = 16,
) -> Decision:
    """Return the relevance of every patch and every token for a class of each example.

    Chefer, Gur and Wolf 2021, over the streams of whatever fusion there is (see
    `maps.stream_relevance`), for all attention calls in the order in which they ran. It is read off
    the rows of R - I of those tokens that the head reads, the mean where it reads several: what
    attention brought them, without what each of them is of itself.

    One forward and one backward pass for every `at_once` examples, in evaluation mode, with the
    fused kernel on. Examples that share an image get a copy each: in the encoder's weights their
    gradients would add up. The caller may have switched gradients off; parameters and their `.grad`
    are left alone, and autocast is for the forward pass alone.

    Args:
        model: the classifier.
        batch: the examples.
        head: the head that decided.
        classes: the class of each example; the predicted one if None.
        word: of a head that labels words, and only there, the number of the word.
        kind: what kind of head it is: whether classes exclude each other ("single", "words").
        at_once: examples explained together, which bounds the memory: the weights of all heads and
            layers are kept.

    Raises:
        ValueError: for a head, class or word that there is not, and for `at_once` below 1.
    """
    _check(model, batch, head, classes, word)
    found = []
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        for places, part in single_examples(batch, at_once):
            chosen = None if classes is None else classes[places]
            said = None if word is None else word[places]
            found.append(_explained(model, part, head, chosen, said, kind))

    def together(parts: list[Tensor | None]) -> Tensor | None:
        return None if parts[0] is None else torch.cat([part for part in parts if part is not None])

    return Decision(
        *(together([getattr(part, name) for part in found]) for name in vars(found[0]))  # type: ignore[arg-type]
    )


def joint_relevance(
    recorder: GradientRecorder, streams: Streams, scores: Float[Tensor, "B classes"]
) -> Float[Tensor, "B J J"]:
    """Return R after all attention calls of a recorded pass, in their order.

    `scores` say how many examples there are, and in what type.
    """
    one = torch.eye(streams.size, dtype=scores.dtype, device=scores.device)
    relevance = before = one.expand(len(scores), -1, -1)
    layer = None
    for name in recorder.met:
        if not recorder.reached(name):  # what the class does not depend on argues for nothing
            continue
        attended = attention_gradient(recorder.weights(name), recorder.gradients(name))
        attended = block_diagonal(attended, len(attended) // len(scores))
        site = streams.site(name)
        if site.layer is None or site.layer != layer:  # a fusion's layer projects its keys first
            before, layer = relevance, site.layer
        if site.own:
            relevance = attend_to_itself(relevance, site.queries, attended)
        else:
            relevance = attend_across(relevance, site.queries, site.keys, attended, before)
    return relevance


def _explained(
    model: Classifier,
    batch: LabelBatch,
    head: str,
    classes: Tensor | None,
    word: Tensor | None,
    kind: Kind,
) -> Decision:
    recorder = GradientRecorder(["*"])
    scores = model(batch, recorder)[head]
    with torch.autocast(scores.device.type, enabled=False):
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if word is not None:
            scores = scores[torch.arange(len(word)), word]
        of_class = (scores.argmax(-1) if classes is None else classes.to(scores.device))[:, None]
        if recorder.met:
            recorder.differentiate(scores.gather(1, of_class).sum())
        shares = scores.softmax(-1) if kind in ("single", "words") else scores.sigmoid()
        streams = Streams(model, batch)
        relevance = joint_relevance(recorder, streams, scores.detach())
        row = _read(model, batch, streams, relevance, word)
        valid = _valid_text(batch)
        return Decision(
            classes=of_class[:, 0],
            probability=shares.gather(1, of_class)[:, 0].detach(),
            image=None if model.vision is None else _on_grid(batch, streams, row),
            text=None if model.text is None else row[:, streams.text] * valid,
            tokens=batch.tokens,
            valid=valid,
        )


def _read(
    model: Classifier,
    batch: LabelBatch,
    streams: Streams,
    relevance: Float[Tensor, "B J J"],
    word: Tensor | None,
) -> Float[Tensor, "B J"]:
    """Return what attention brought to those tokens that the head reads."""
    brought = relevance - torch.eye(streams.size, dtype=relevance.dtype, device=relevance.device)
    if word is not None:
        assert batch.word_starts is not None
        each = torch.arange(len(word))
        return brought[each, streams.text.start + batch.word_starts[each, word]]
    rows = []
    for stream, how in model.reads:
        tokens = brought[:, streams.of(stream)]
        valid = None
        if stream == "image":
            valid = _valid_image(batch, tokens.shape[1])
        elif stream == "text":
            valid = batch.valid
        rows.append(tokens[:, 0] if how == "first" else mean(tokens, valid))
    return torch.stack(rows).mean(0)


def _valid_image(batch: LabelBatch, tokens: int) -> Bool[Tensor, "B S"]:
    """Return which of the image stream's tokens are of an image that is there."""
    if batch.images is None:
        return torch.zeros(len(batch.keys), tokens, dtype=torch.bool, device=batch.tokens.device)
    there = batch.image_valid
    if there is None:
        there = torch.ones_like(batch.image_rows, dtype=torch.bool)
    return there.repeat_interleave(tokens // there.shape[1], 1)


def _valid_text(batch: LabelBatch) -> Bool[Tensor, "B T"]:
    """Return which tokens are real, those of a missing text left out."""
    valid = batch.valid.clone()
    valid[list(batch.missing.get("text", ()))] = False
    return valid


def _on_grid(
    batch: LabelBatch, streams: Streams, row: Float[Tensor, "B J"]
) -> Float[Tensor, "B M h w"]:
    """Return the patches' part of a row as maps, without prefix tokens."""
    shape = (*batch.image_rows.shape, *streams.grid)
    if batch.images is None:
        return row.new_zeros(shape)
    patches = row[:, streams.patches].unflatten(1, (shape[1], -1))[..., streams.prefix :]
    maps = patches.reshape(shape)
    return maps if batch.image_valid is None else maps * batch.image_valid[..., None, None]


def _check(
    model: Classifier,
    batch: LabelBatch,
    head: str,
    classes: Tensor | None,
    word: Tensor | None,
) -> None:
    if head not in model.heads:
        raise ValueError(f"there is no head {head!r}: the heads are {', '.join(model.heads)}")
    total = int(getattr(model.heads[head], "out_features"))  # noqa: B009
    if classes is not None:
        wrong = [c for c in classes.tolist() if not 0 <= c < total]
        if wrong:
            raise ValueError(f"class {wrong[0]} of {head!r}: its classes are 0 to {total - 1}")
    if (word is not None) != (head in model.word_heads):
        raise ValueError(
            f"the head {head!r} labels every word: say with `word` which one is explained"
            if word is None
            else f"the head {head!r} labels the whole, not words: leave `word` out"
        )
    if word is not None:
        _check_words(batch, word)


def _check_words(batch: LabelBatch, word: Int[Tensor, "B"]) -> None:
    """Raise ValueError for an example that lacks the word to explain."""
    starts = batch.word_starts
    if starts is None:
        raise ValueError("the batch's texts are not in words")
    for key, own, number in zip(batch.keys, starts.tolist(), word.tolist(), strict=True):
        there = sum(place > 0 for place in own)  # the begin token stands at place 0
        if not 0 <= number < there:
            raise ValueError(f"{key} has {there} words: there is no word {number}")
