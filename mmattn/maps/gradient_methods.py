"""Map methods that weigh attention by the gradient of each token's log-probability.

They meet the contract of `methods.MapMethod`. The fused kernel stays on, parameters and their
`.grad` are left alone, and the caller may have switched gradients off. A gradient belongs to one
token, so a caption of T tokens costs T backward passes of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.batch import CaptionBatch
from mmattn.captioner import Captioner
from mmattn.gradient_recorder import GradientRecorder
from mmattn.maps.methods import (
    check_every_block_attends,
    check_patches_are_attended_to,
    cross_sites,
    layers_title,
    on_grid,
)
from mmattn.maps.relevance import attention_gradient, decoder_relevance, legrad, self_relevance
from mmattn.maps.token_gradients import TokenGradients, single_captions, token_gradients


@dataclass(frozen=True)
class AttentionGradient:
    """Cross-attention times its gradient, mean over heads and layers (Chefer et al. 2021, eq. 5).

    Args:
        layers: decoder layers, negative ones counted from the last; all if None.
        signed: keep what speaks against the token, as negative values, instead of cutting at zero.

    The last layer alone costs one backward pass: no token hears of another one after it.
    """

    layers: Sequence[int] | None = (-1,)
    signed: bool = False

    @property
    def title(self) -> str:
        """The method in words."""
        sign = ", signed" if self.signed else ""
        return f"attention × gradient{sign}, {layers_title(self.layers)}, mean over heads"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer that the decoder lacks."""
        check_patches_are_attended_to(model, self.title)
        sites, last = cross_sites(model, self.layers), model.text.depth - 1
        with token_gradients(model, batch, sites) as gradients:
            if set(sites) == {f"text.{last}.cross"}:
                gradients.of_all()
                rows = self._rows(gradients.recorder, sites, batch)
            else:
                rows = gradients.rows(
                    lambda t: self._rows(gradients.recorder, sites, batch)[:, :, t]
                )
        return on_grid(rows, gradients.image, batch.labels)

    def _rows(
        self, recorder: GradientRecorder, sites: Sequence[str], batch: CaptionBatch
    ) -> Float[Tensor, "B N T keys"]:
        found = [
            attention_gradient(recorder.weights(site), recorder.gradients(site), signed=self.signed)
            for site in sites
        ]
        return torch.stack(found).mean(0).unflatten(1, batch.labels.shape[1:])


@dataclass(frozen=True)
class LeGrad:
    """The positive gradient in the cross-attention of all layers (Bousselham et al. 2024).

    Args:
        layers: decoder layers, negative ones counted from the last; all if None.

    The paper asks each layer's own output for the score, by the head of the last. A captioner's
    head has only ever read the last layer, so the score is the model's own for every layer. A layer
    is counted with all the words up to the explained one, as far as the score depends on them.
    """

    layers: Sequence[int] | None = None
    signed = False

    @property
    def title(self) -> str:
        """The method in words."""
        return f"LeGrad, {layers_title(self.layers)}"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError for a layer that the decoder lacks."""
        check_patches_are_attended_to(model, self.title)
        sites = cross_sites(model, self.layers)
        with token_gradients(model, batch, sites) as gradients:
            rows = gradients.rows(lambda t: self._row(gradients.recorder, sites, batch))
        return on_grid(rows, gradients.image, batch.labels)

    def _row(
        self, recorder: GradientRecorder, sites: Sequence[str], batch: CaptionBatch
    ) -> Float[Tensor, "B N keys"]:
        captions = batch.labels.shape[1:]
        found = [  # captions as rows of the batch: [B·N, H, T, keys]
            recorder.gradients(site).unflatten(2, captions).transpose(1, 2).flatten(0, 1)
            for site in sites
        ]
        return legrad(found).unflatten(0, batch.labels.shape[:2])


@dataclass(frozen=True)
class Chefer:
    """Relevance through encoder and decoder (Chefer, Gur and Wolf 2021): see `maps.relevance`.

    Args:
        at_once: captions explained together, which bounds the memory: the weights of all heads and
            layers are kept, in the encoder H·(P + S)² numbers a layer and caption.
    """

    at_once: int = 16
    signed = False

    @property
    def title(self) -> str:
        """The method in words."""
        return "relevance (Chefer et al. 2021), all layers"

    def __call__(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B N T h w"]:
        """Return the maps. Raises ValueError where `at_once` is less than 1."""
        maps = [self._maps(model, part) for part in single_captions(batch, self.at_once)]
        return torch.cat(maps).view(*batch.labels.shape, *maps[0].shape[-2:])

    def _maps(self, model: Captioner, batch: CaptionBatch) -> Float[Tensor, "B 1 T h w"]:
        check_every_block_attends(model, self.title)
        check_patches_are_attended_to(model, self.title)
        inner = [f"vision.{layer}.self" for layer in range(model.vision.depth)]
        layers = [(f"text.{i}.self", f"text.{i}.cross") for i in range(model.text.depth)]
        sites = [*inner, *(site for pair in layers for site in pair)]
        with token_gradients(model, batch, sites) as gradients:
            identity = _identity(gradients)

            def attended(site: str) -> Tensor:
                recorder = gradients.recorder
                return attention_gradient(recorder.weights(site), recorder.gradients(site))

            def explain(t: int) -> Tensor:
                image = self_relevance(map(attended, inner), identity)
                text = ((attended(own), attended(across)) for own, across in layers)
                return decoder_relevance(text, image)[:, None, t]

            rows = gradients.rows(explain)
        return on_grid(rows, gradients.image, batch.labels)


def _identity(gradients: TokenGradients) -> Float[Tensor, "B keys keys"]:
    """Return the identity over each image's tokens."""
    tokens = gradients.image.tokens.detach()
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    one = torch.eye(tokens.shape[1], dtype=dtype, device=tokens.device)
    return one.expand(len(tokens), -1, -1)
