"""Gradients of what each token's log-probability owes to the attention weights, token by token."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from mmattn.batch import IGNORE, CaptionBatch
from mmattn.captioner import Captioner
from mmattn.gradient_recorder import GradientRecorder
from mmattn.maps.methods import evaluating


class TokenGradients:
    """One teacher-forced forward pass, and backward passes from the labels' log-probabilities.

    The vocabulary is differentiated once for all tokens, down to the hidden states; what is left
    for each token is a backward pass from its own hidden state.

    Attributes:
        recorder: has the weights, and the gradients of the latest backward pass.
        image: the encoded image.
    """

    def __init__(self, model: Captioner, batch: CaptionBatch, sites: Iterable[str]):
        self.recorder = GradientRecorder(sites)
        self.image = model.encode_batch(batch, self.recorder)
        self._hidden = model.decode(self.image, batch.tokens, self.recorder)
        self._cotangent = label_gradients(model, self._hidden, batch.labels)
        self._labelled = batch.labels != IGNORE

    def of_all(self) -> None:
        """Differentiate the sum over all tokens.

        A row of the last cross-attention serves its own token alone, so that its gradient is that
        token's; rows of earlier layers serve later tokens too.
        """
        self.recorder.differentiate(self._hidden, self._cotangent)

    def one_by_one(self) -> Iterator[int]:
        """Differentiate token t of every caption, for each t that some caption has; yield t.

        Rows of different captions do not meet in the decoder; captions of one image do meet in its
        encoder.
        """
        for t in self._labelled.any(1).any(0).nonzero().flatten().tolist():
            alone = torch.zeros_like(self._cotangent)
            alone[:, :, t] = self._cotangent[:, :, t]
            self.recorder.differentiate(self._hidden, alone)
            yield t

    def rows(self, explain: Callable[[int], Tensor]) -> Float[Tensor, "B N T keys"]:
        """Return explain(t) [B, N, P + S], called after the backward pass of each token t.

        Zeros where no caption has a token.
        """
        found = {t: explain(t) for t in self.one_by_one()}
        batch, captions, tokens = self._labelled.shape
        keys = self.image.tokens.shape[1]
        nothing = torch.zeros(batch, captions, keys, device=self._labelled.device)
        return torch.stack([found.get(t, nothing) for t in range(tokens)], dim=2)


@contextmanager
def token_gradients(
    model: Captioner, batch: CaptionBatch, sites: Iterable[str]
) -> Iterator[TokenGradients]:
    """Run a batch so that token gradients can be had, also where the caller switched them off.

    The model is in evaluation mode until the end. No parameter's `.grad` or `requires_grad` is
    touched. Autocast is for the forward pass alone, what follows is computed in full.
    """
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        gradients = TokenGradients(model, _differentiable(batch), sites)
        with torch.autocast(batch.tokens.device.type, enabled=False):
            yield gradients


def label_gradients(
    model: Captioner, hidden: Float[Tensor, "B N T D"], labels: Int[Tensor, "B N T"]
) -> Float[Tensor, "B N T D"]:
    """Return the gradient of each label's log-probability in its own hidden state.

    Zero where there is no label; padding costs no logits.
    """
    labelled = labels != IGNORE
    leaf = hidden.detach().requires_grad_()
    logits = model.logits(leaf[labelled])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, labels[labelled], reduction="sum")
    return -torch.autograd.grad(loss, leaf)[0]


def _differentiable(batch: CaptionBatch) -> CaptionBatch:
    """Return the batch with copies of what was made under inference mode: no graph may keep it."""
    made = {"images": batch.images, "tokens": batch.tokens, "labels": batch.labels}
    copies = {name: tensor.clone() for name, tensor in made.items() if tensor.is_inference()}
    return replace(batch, **copies)


def single_captions(batch: CaptionBatch, at_once: int) -> Iterator[CaptionBatch]:
    """Cut a batch into batches of `at_once` captions, each with a copy of its image.

    Gradients in the encoder's weights belong to one caption, so captions cannot share its pass.
    Raises ValueError where `at_once` is less than 1.
    """
    if at_once < 1:
        raise ValueError(f"at_once={at_once}: at least one caption is explained at a time")
    texts = {"tokens": batch.tokens, "labels": batch.labels, "valid": batch.valid}
    count = batch.tokens.shape[1]
    for rows in torch.arange(len(batch.tokens) * count).split(at_once):
        images = (rows // count).tolist()
        yield replace(
            batch,
            keys=tuple(batch.keys[i] for i in images),
            references=tuple(batch.references[i] for i in images),
            images=batch.images[images],
            **{name: text.flatten(0, 1)[rows, None] for name, text in texts.items()},
        )
