"""The captioner: an image encoder and a text decoder that attends to it."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmattn.batch import CaptionBatch, ImageTokens
from mmattn.taps import Listener
from mmattn.text import Memory, TextTransformer
from mmattn.vision import VisionTransformer


class Captioner(nn.Module):
    """encode an image once, decode all its captions, forward = decode(encode(image), text).

    Args:
        vision: the image encoder; publishes its width as `dim`.
        text: a causal text transformer with a context width.

    Raises:
        ValueError: where `text` cannot attend to an image.
    """

    encoders = ("vision",)

    def __init__(self, vision: VisionTransformer, text: TextTransformer):
        super().__init__()
        if text.context_dim is None or not text.causal:
            raise ValueError("a captioner needs a causal text transformer with a context_dim")
        self.vision, self.text = vision, text
        same = vision.dim == text.context_dim
        self.bridge = nn.Identity() if same else nn.Linear(vision.dim, text.context_dim)

    def encode(
        self, images: Float[Tensor, "B C height width"], recorder: Listener | None = None
    ) -> ImageTokens:
        """Encode images."""
        return self.connect(self.vision(images, recorder))

    def encode_features(
        self, features: Float[Tensor, "B F h w"], recorder: Listener | None = None
    ) -> ImageTokens:
        """Encode images of which the frozen features are at hand (see `FeatureCache`)."""
        return self.connect(self.vision.encode_features(features, recorder))

    def encode_batch(self, batch: CaptionBatch, recorder: Listener | None = None) -> ImageTokens:
        """Encode a batch's images, or finish the encoding of their cached features."""
        if batch.cached:
            return self.encode_features(batch.images, recorder)
        return self.encode(batch.images, recorder)

    def connect(self, image: ImageTokens) -> ImageTokens:
        """Bring the encoder's width to the one that the decoder attends to."""
        return image._replace(tokens=self.bridge(image.tokens))

    def memory(self, image: ImageTokens) -> Memory:
        """Return what every decoder layer attends to, projected once per image."""
        return self.text.memory(image.tokens)

    def decode(
        self,
        image: ImageTokens,
        tokens: Int[Tensor, "B N T"],
        recorder: Listener | None = None,
        *,
        parallel: Bool[Tensor, "B N"] | None = None,
        valid: Bool[Tensor, "B N T"] | None = None,
    ) -> Float[Tensor, "B N T D"]:
        """Return the decoder's hidden states for N captions of each image, padded on the right.

        The N captions are rows of the queries: the image is neither encoded nor stored N times.
        Those that are `parallel` see their whole text, where it is `valid`, and not its past alone
        (`ParallelPrediction`).
        """
        rows, memory = tokens.flatten(0, 1), self.memory(image)
        mixed = {}
        if parallel is not None and valid is not None:
            mixed = {"parallel": parallel.flatten(), "valid": valid.flatten(0, 1)}
        hidden = self.text(rows, memory, recorder=recorder, **mixed)
        return hidden.view(*tokens.shape, -1)

    def logits(self, hidden: Float[Tensor, "*R D"]) -> Float[Tensor, "*R V"]:
        """Return the scores of the next token after each hidden state."""
        return self.text.logits(hidden)

    def forward(
        self,
        images: Float[Tensor, "B C height width"],
        tokens: Int[Tensor, "B N T"],
        recorder: Listener | None = None,
    ) -> Float[Tensor, "B N T V"]:
        """Return the scores of the next token at every place of every caption."""
        return self.logits(self.decode(self.encode(images, recorder), tokens, recorder))
