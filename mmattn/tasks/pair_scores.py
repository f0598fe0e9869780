"""What a set of images and texts is measured by besides its captions: retrieval, and foils."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.data.order import stable_hash
from mmattn.joint import NO, YES, JointModel
from mmattn.metrics.foil_metric import MATCH, SIMILARITY, FoilMetric
from mmattn.metrics.retrieval_set import RetrievalSet
from mmattn.tasks.reranking import reranked


class Texts(NamedTuple):
    """The R texts of a batch, encoded.

    owner: the image of each in the batch; captions: what they say; hidden: what the text encoder
    made of their tokens; tokens, valid: [R, T].
    """

    owner: Int[Tensor, "R"]
    captions: tuple[str, ...]
    hidden: Float[Tensor, "R T D"]
    tokens: Int[Tensor, "R T"]
    valid: Bool[Tensor, "R T"]

    def select(self, rows: Sequence[int]) -> "Texts":
        """Return some of the texts."""
        chosen = list(rows)
        return Texts(
            self.owner[chosen],
            tuple(self.captions[row] for row in chosen),
            self.hidden[chosen],
            self.tokens[chosen],
            self.valid[chosen],
        )


def read_texts(model: JointModel, batch: CaptionBatch) -> Texts:
    """Encode a batch's captions; rows without a caption are left out."""
    real = batch.valid.any(-1)
    tokens, valid = batch.tokens[real], batch.valid[real]
    captions = tuple(text for texts in batch.references for text in texts)
    return Texts(real.nonzero()[:, 0], captions, model.read(tokens, valid), tokens, valid)


class PairScores(nn.Module):
    """Retrieval over a whole set, and how well true captions are told from foils.

    Args:
        contrastive: whether the model's embeddings have learned something.
        matching: whether its matcher has.
        width: of the embeddings.
        longest: the longest text in tokens.
        rerank: how many candidates the matcher puts in order; 0 does without, else every image's
            tokens are kept until the end.
    """

    def __init__(self, *, contrastive: bool, matching: bool, width: int, longest: int, rerank: int):
        super().__init__()
        self.rerank = rerank
        self.names = (MATCH,) * matching + (SIMILARITY,) * contrastive
        self.retrieval = RetrievalSet(width, longest) if contrastive else None
        self.foils = FoilMetric(self.names) if self.names else None
        self.has_foils = True
        self.seen: dict[int, ImageTokens] = {}

    def update(
        self, model: JointModel, batch: CaptionBatch, image: ImageTokens, texts: Texts
    ) -> None:
        """Add a batch to what is retrieved, with all captions of its images."""
        if self.retrieval is None:
            return
        keys = [stable_hash(key) for key in batch.keys]
        places = [(b, n) for b, own in enumerate(batch.references) for n in range(len(own))]
        device = texts.owner.device
        self.retrieval.update(
            torch.tensor(keys, device=device),
            model.image_embeddings(image).float(),
            {
                "keys": text_keys(batch, places).to(device),
                "embedding": model.text_embeddings(texts.hidden, texts.valid).float(),
                "image": torch.tensor([keys[b] for b, _ in places], device=device),
                "same": torch.tensor([stable_hash(t) for t in texts.captions], device=device),
                "tokens": texts.tokens,
                "valid": texts.valid,
            },
        )
        if self.rerank:
            for key, tokens in zip(keys, image.tokens.split(1), strict=True):
                self.seen[key] = image._replace(tokens=tokens)

    def update_foils(
        self,
        model: JointModel,
        batch: CaptionBatch,
        image: ImageTokens,
        true: Texts,
        foils: Texts,
        places: Sequence[tuple[int, int]],
    ) -> None:
        """Add M true captions and their foils; `places` says which caption of the batch each is."""
        if self.foils is None:
            return
        scores: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for texts in (true, foils):
            if MATCH in scores:
                answer = model.match(image, texts.owner, texts.hidden, texts.valid).float()
                scores[MATCH].append(answer[:, YES] - answer[:, NO])
            if SIMILARITY in scores:
                text = model.text_embeddings(texts.hidden, texts.valid).float()
                seen = model.image_embeddings(image).float()[texts.owner]
                scores[SIMILARITY].append((seen * text).sum(1))
        self.foils.update(
            text_keys(batch, places).to(image.tokens.device),
            {name: torch.stack(each, 1) for name, each in scores.items()},
        )

    def compute(self, model: JointModel) -> dict[str, float]:
        """Return all figures, which are the same on every rank."""
        found: dict[str, float] = {}
        if self.retrieval is not None:
            embedded = self.retrieval.embedded()
            found |= embedded.recalls()
            if self.rerank:
                found |= reranked(model, embedded, self.seen, self.rerank)
        if self.foils is not None and self.has_foils:
            found |= self.foils.compute()
        return found

    def reset(self) -> None:
        """Forget everything."""
        for metric in (self.retrieval, self.foils):
            if metric is not None:
                metric.reset()
        self.seen = {}


def text_keys(batch: CaptionBatch, places: Sequence[tuple[int, int]]) -> Int[Tensor, "R"]:
    """Return a number for each caption (image in the batch, place among its captions)."""
    return torch.tensor([stable_hash(batch.keys[b], n) for b, n in places], dtype=torch.long)
