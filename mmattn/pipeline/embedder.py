"""Embedding many pictures, or many texts, batch after batch."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.backbones import TimmPatches
from mmattn.captioner import Captioner
from mmattn.data.backend import backend_errors
from mmattn.data.preprocessing import Preprocessing
from mmattn.data.text_rows import text_rows
from mmattn.data.tokenizer import CaptionTokenizer
from mmattn.errors import DataError
from mmattn.joint import JointModel
from mmattn.pipeline.finite import check_finite
from mmattn.pipeline.pictures import Picture, Unreadable, grey_picture
from mmattn.pipeline.prefetch import Ready, computed
from mmattn.pipeline.preparation import Preparation
from mmattn.pipeline.questions import too_long
from mmattn.vision import pool


@dataclass(frozen=True)
class ImageEmbedder:
    """Makes a vector of every picture; `Pipeline.embedder` makes it of what fits the model.

    Attributes:
        model: whose image encoder sees the pictures, in evaluation mode.
        preprocessing: of its pictures.
    """

    model: Captioner
    preprocessing: Preprocessing

    @property
    def width(self) -> int:
        """How many numbers E a vector has."""
        model = self.model
        return model.embed_dim if isinstance(model, JointModel) else model.vision.dim

    def results(
        self, pictures: Iterable[Picture], *, batch_size: int, threads: int
    ) -> Generator[Float[Tensor, "E"] | Unreadable, None, None]:
        """Yield the vector of each picture, or what is wrong with it; see `computed`."""
        sizes = {"batch_size": batch_size, "threads": threads}
        return computed(pictures, self.preparing(), self.of_batch, **sizes)

    def trial(self, size: int) -> None:
        """Embed a batch of grey pictures."""
        grey = [grey_picture(self.preprocessing.size, i) for i in range(size)]
        list(self.results(grey, batch_size=size, threads=1))

    def preparing(self) -> Callable[[Picture], Float[Tensor, "3 height width"]]:
        """Return what makes of a picture the model's input."""
        preparation = Preparation(self.preprocessing, keep=False)
        return lambda picture: preparation(picture).pixels

    def of_batch(self, batch: Sequence[Ready]) -> Float[Tensor, "B E"]:
        """Return the vectors of a batch of prepared pictures."""
        return self.vectors([one.prepared for one in batch])

    @torch.no_grad()
    def vectors(self, images: Sequence[Float[Tensor, "3 height width"]]) -> Float[Tensor, "B E"]:
        """Return the vectors of images as the model takes them: float32, on the CPU.

        Of a joint model its embeddings, of length 1; of another the mean of the patches' tokens.

        Raises:
            ConfigError: where the model computes something that is no number.
        """
        model = self.model
        seen = model.vision(torch.stack(list(images)).to(next(model.parameters())))
        joint = isinstance(model, JointModel)
        found = model.image_embeddings(seen) if joint else pool(seen, "mean")
        check_finite(model, found)
        return found.float().cpu()


class FeatureEmbedder(ImageEmbedder):
    """Makes a vector of what a picture's patches are made of, before the model's own layers.

    The mean over places of a backbone's features, which tell more pictures apart than what a
    captioner makes of them; of a model without a backbone the mean of the patches' tokens.
    """

    @property
    def width(self) -> int:
        """How many numbers E a vector has."""
        patches = self.model.vision.patches
        return patches.project.in_channels if isinstance(patches, TimmPatches) else super().width

    @torch.no_grad()
    def vectors(self, images: Sequence[Float[Tensor, "3 height width"]]) -> Float[Tensor, "B E"]:
        """Return the vectors of images as the model takes them; see `ImageEmbedder.vectors`."""
        patches = self.model.vision.patches
        if not isinstance(patches, TimmPatches):
            return super().vectors(images)
        pixels = torch.stack(list(images)).to(next(self.model.parameters()))
        found = patches.features(pixels).mean((-2, -1))
        check_finite(self.model, found)
        return found.float().cpu()


@torch.no_grad()
def text_vectors(
    model: JointModel, tokenizer: CaptionTokenizer, texts: Sequence[str], longest: int, size: int
) -> Float[Tensor, "R E"]:
    """Return the embeddings of texts: float32, on the CPU, of length 1.

    Args:
        model: in evaluation mode.
        tokenizer: of its texts.
        texts: those that are longer are cut: `text_tokens` is what refuses them.
        longest: the most tokens that are read of each, the begin token included.
        size: texts that are computed at once, those of similar length together.

    Raises:
        ConfigError: where the model computes something that is no number.
    """
    found = torch.empty(len(texts), model.embed_dim)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        rows = text_rows(tokenizer, [texts[i] for i in chosen], longest)
        tokens, valid = (each.to(model.log_scale.device) for each in rows)
        vectors = model.text_embeddings(model.read(tokens, valid), valid)
        check_finite(model, vectors)
        found[chosen] = vectors.float().cpu()
    return found


def text_tokens(
    text: str, tokenizer: CaptionTokenizer, longest: int, where: str, *, truncate: bool
) -> list[int]:
    """Return a text's token ids as a joint model reads them: the begin token, then the text's.

    Args:
        text: what is read.
        tokenizer: of the model.
        longest: the most tokens, the begin token included.
        where: the text was given, for messages.
        truncate: cut a longer text instead of refusing it.

    Raises:
        DataError: for a text that is too long, or that cannot be written in the model's tokens.
    """
    with backend_errors(f"{where}: the model has no tokens for this text", DataError):
        ids = [tokenizer.begin_id, *tokenizer.encode(text)]
    if len(ids) > longest and not truncate:
        raise too_long(where, len(ids), longest)
    return ids[:longest]
