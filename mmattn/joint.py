"""The joint model: a captioner that also says whether image and text belong together."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.captioner import Captioner
from mmattn.classifier import Classifier
from mmattn.fusion import Fusion, GatedFusion, Stream
from mmattn.fusion.stream import mean
from mmattn.taps import Listener
from mmattn.text import TextTransformer
from mmattn.vision import VisionTransformer, pool

MATCH = "match"  # the head that says whether they belong together
NO, YES = 0, 1  # its classes
STEEPEST = 100.0  # what similarities are multiplied by at most (Radford et al. 2021, section 2.5)


class JointModel(Captioner):
    """One image encoder for three things: captions, embeddings of images and texts, and matching.

    Trained as CoCa (Yu et al. 2022) or, with a fusion, as BLIP (Li et al. 2022): the decoder writes
    captions; the embeddings of an image and of its texts are close to each other (CLIP, Radford et
    al. 2021); and the fusion, which sees the tokens of both, tells a caption from a similar one of
    another image (ALBEF, Li et al. 2021). As a `Captioner` it is what that is, weights and all.

    Args:
        vision: the image encoder.
        text: the decoder, a causal text transformer with a context width.
        text_encoder: of the texts that are embedded and matched, not causal.
        fusion: how image and text attend to each other for matching; None matches nothing.
        embed_dim: width E of the embeddings.
        temperature: what similarities are divided by at first; it is learned.
        bias: what is added to them at first, learned too, for a loss that asks of each pair by
            itself (SigLIP, Zhai et al. 2023); None adds nothing.
        pool: an image's vector: "mean" of its patches or its "class" token.
        dropout: probability of dropping a value of the vector before the matching head.

    Raises:
        ValueError: where these parts do not fit each other.
    """

    encoders = ("vision", "text_encoder")

    def __init__(
        self,
        vision: VisionTransformer,
        text: TextTransformer,
        *,
        text_encoder: TextTransformer,
        fusion: Fusion | None = None,
        embed_dim: int = 256,
        temperature: float = 0.07,
        bias: float | None = None,
        pool: str = "mean",
        dropout: float = 0.0,
    ):
        super().__init__(vision, text)
        if temperature <= 0 or embed_dim < 1:
            raise ValueError(
                f"temperature={temperature}, embed_dim={embed_dim}: both must be above 0"
            )
        check_encoder(text_encoder, text)
        check_pool(vision, pool)
        if isinstance(fusion, GatedFusion):
            raise ValueError(
                "a gated fusion encodes each pair anew, and matching compares what is encoded "
                "once: choose cross, co, merged or pooled"
            )
        self.text_encoder, self.embed_dim, self.pool = text_encoder, embed_dim, pool
        self.initial_temperature, self.initial_bias = temperature, bias
        self.image_projection = nn.Linear(vision.dim, embed_dim, bias=False)
        self.text_projection = nn.Linear(text_encoder.dim, embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(float(bias)))
        for projection, width in (
            (self.image_projection, vision.dim),
            (self.text_projection, text_encoder.dim),
        ):
            nn.init.normal_(projection.weight, std=width**-0.5)
        self.fusion, self.dropout = fusion, dropout
        matcher = fusion and Classifier(
            {MATCH: 2}, vision=vision, text=text_encoder, fusion=fusion, dropout=dropout
        )
        # In a tuple, which torch does not look into: its parts are this model's own, and would
        # stand in a state dict twice.
        self._matcher = (matcher,)
        if matcher is not None:
            self.image_bridge, self.text_bridge = matcher.image_bridge, matcher.text_bridge
            self.match_head = matcher.heads[MATCH]

    @property
    def matcher(self) -> Classifier | None:
        """The classifier of pairs that is in this model; its head is `match`, no or yes."""
        (matcher,) = self._matcher
        return matcher

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What similarities are multiplied by before they are compared, one over a temperature."""
        return self.log_scale.exp()

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Take back what the scale has learned beyond its limit; for before every training step.

        A limit inside `scale` would have no gradient beyond it, and the scale could not come back.
        """
        self.log_scale.clamp_(max=math.log(STEEPEST))

    def train(self, mode: bool = True) -> "JointModel":
        """Switch between training and evaluation, the classifier of pairs included."""
        super().train(mode)
        if self.matcher is not None:
            self.matcher.training = mode
        return self

    def see(self, batch: CaptionBatch, recorder: Listener | None = None) -> ImageTokens:
        """Encode a batch's images once for all; `connect` makes of it what `decode` takes."""
        encode = self.vision.encode_features if batch.cached else self.vision
        return encode(batch.images, recorder)

    def read(
        self,
        tokens: Int[Tensor, "R T"],
        valid: Bool[Tensor, "R T"],
        recorder: Listener | None = None,
    ) -> Float[Tensor, "R T D"]:
        """Encode texts: token ids that begin with the begin token, True where they are real."""
        return self.text_encoder(tokens, valid=valid, recorder=recorder)

    def image_embeddings(self, image: ImageTokens) -> Float[Tensor, "B E"]:
        """Return the embeddings of what `see`, or the image encoder, returned; of length 1."""
        return F.normalize(self.image_projection(pool(image, self.pool)), dim=-1)

    def text_embeddings(
        self, hidden: Float[Tensor, "R T D"], valid: Bool[Tensor, "R T"]
    ) -> Float[Tensor, "R E"]:
        """Return the embeddings of what `read` returned, from its real tokens; of length 1."""
        return F.normalize(self.text_projection(mean(hidden, valid)), dim=-1)

    def match(
        self,
        image: ImageTokens,
        rows: Int[Tensor, "R"],
        hidden: Float[Tensor, "R T D"],
        valid: Bool[Tensor, "R T"],
        recorder: Listener | None = None,
    ) -> Float[Tensor, "R 2"]:
        """Return the scores of "no" and "yes": does the text of a row belong to its image?

        Args:
            image: what `see` returned, of B images.
            rows: which of them goes with each text.
            hidden: what `read` returned.
            valid: True on the texts' real tokens.
            recorder: gets the maps of the fusion.

        Raises:
            ValueError: for a model without a fusion.
        """
        matcher, fusion = self.matcher, self.fusion
        if matcher is None or fusion is None:
            raise ValueError("this model has no fusion, and so matches nothing")
        seen = Stream(matcher.image_bridge(image.tokens), None, rows)
        text = Stream(matcher.text_bridge(hidden), valid)
        fused = fusion(lambda _: seen, lambda _: text, recorder)
        return self.match_head(F.dropout(fused.summary, self.dropout, self.training))

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments that are plain values."""
        return {
            "embed_dim": self.embed_dim,
            "temperature": self.initial_temperature,
            "bias": self.initial_bias,
            "pool": self.pool,
            "dropout": self.dropout,
        }


def check_encoder(text_encoder: TextTransformer, text: TextTransformer) -> None:
    """Raise ValueError for a text encoder that cannot be one, or reads other tokens."""
    if text_encoder.causal or text_encoder.context_dim is not None:
        raise ValueError("text_encoder is an encoder: causal=false, context_dim=null")
    if text_encoder.vocab_size != text.vocab_size:
        raise ValueError(
            f"text_encoder.vocab_size={text_encoder.vocab_size} and text.vocab_size="
            f"{text.vocab_size}: both read the tokens of one tokenizer"
        )


def check_pool(vision: VisionTransformer, pool: str) -> None:
    """Raise ValueError where an image encoder has no such vector."""
    if pool not in ("mean", "class"):
        raise ValueError(f"pool is {pool!r}; choose mean or class")
    if pool == "class" and not vision.class_token:
        raise ValueError("pool=class needs a class token: set model.vision.class_token=true")
