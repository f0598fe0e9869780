"""Several captioners that write as one: at every step the mean of their probabilities.

That is the usual ensemble of sequence models (Sutskever, Vinyals and Le 2014): probabilities are
averaged, not their logarithms, so that a token is likely where any of the models is sure of it.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mmattn.backbones import TimmPatches
from mmattn.batch import ImageTokens
from mmattn.captioner import Captioner
from mmattn.decoding.stepper import Stepper
from mmattn.taps import Listener


class Captioners(nn.Module):
    """Captioners of one vocabulary, of any sizes and kinds, that write together.

    Args:
        members: one or more, in evaluation mode.

    Raises:
        ValueError: for none, and for vocabularies of different sizes.
    """

    def __init__(self, members: Sequence[Captioner]):
        super().__init__()
        sizes = [member.text.vocab_size for member in members]
        if len(set(sizes)) != 1:
            raise ValueError(f"captioners that write together have one vocabulary, not {sizes}")
        self.members = nn.ModuleList(members)
        self._backbones = [frozen_backbone(member, members) for member in members]

    @property
    def captioners(self) -> list[Captioner]:
        """The members."""
        return cast("list[Captioner]", list(self.members))

    def encode(
        self,
        images: Float[Tensor, "B C height width"],
        recorders: Sequence[Listener | None] | None = None,
    ) -> tuple[ImageTokens, ...]:
        """Encode images with every member; each has a recorder of its own, if any.

        A frozen backbone that several members have runs once.
        """
        recorders = recorders or [None] * len(self.members)
        features: dict[TimmPatches, Tensor] = {}
        encoded = []
        for member, backbone, recorder in zip(
            self.captioners, self._backbones, recorders, strict=True
        ):
            if backbone is None:
                encoded.append(member.encode(images, recorder))
                continue
            if backbone not in features:
                features[backbone] = backbone.features(images)
            encoded.append(member.encode_features(features[backbone], recorder))
        return tuple(encoded)


def frozen_backbone(member: Captioner, members: Sequence[Captioner]) -> TimmPatches | None:
    """Return the first frozen backbone among the members that is a member's own, if it has one."""
    own = member.vision.patches
    each = (one.vision.patches for one in members)
    alike = (one for one in each if isinstance(one, TimmPatches) and one.makes_the_features_of(own))
    return next(alike, None)


# What writes, its images, and who hears how: of several captioners each has its own.
Model = Captioner | Captioners
Encoded = ImageTokens | tuple[ImageTokens, ...]
Heard = Listener | Sequence[Listener] | None


def first_of(image: Encoded) -> ImageTokens:
    """Return the images as the first captioner encoded them: as many, on one device, as all."""
    return image if isinstance(image, ImageTokens) else image[0]


class EnsembleStepper:
    """Runs the decoders of several captioners one token at a time; see `Stepper` for the arguments.

    Args:
        models: the captioners.
        images: as each of them encoded them.
        rows: K.
        max_length: the most steps T.
        listeners: of each captioner, if anybody.
    """

    def __init__(
        self,
        models: Captioners,
        images: Sequence[ImageTokens],
        rows: int,
        max_length: int,
        listeners: Sequence[Listener] | None = None,
    ):
        listening: Sequence[Listener | None] = listeners or [None] * len(images)
        self.rows = rows
        self.members = [
            Stepper(model, image, rows, max_length, listener)
            for model, image, listener in zip(models.captioners, images, listening, strict=True)
        ]

    @property
    def images(self) -> Int[Tensor, "A"]:
        """The images whose rows are still computed."""
        return self.members[0].images

    def step(
        self, tokens: Int[Tensor, "B K"], parents: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B K V"]:
        """Return the logarithm of the mean probability of what follows `tokens`, float32."""
        found = [one.step(tokens, parents).float().log_softmax(-1) for one in self.members]
        return torch.stack(found).logsumexp(0) - math.log(len(found))

    def keep(self, images: Int[Tensor, "A"]) -> None:
        """Go on with some of the images only."""
        for one in self.members:
            one.keep(images)

    def report(self, paths: Int[Tensor, "B N T"]) -> None:
        """Tell each captioner's listener of its own cross-attention; see `Stepper.report`."""
        for one in self.members:
            one.report(paths)


AnyStepper = Stepper | EnsembleStepper


def stepper_of(
    model: Model, image: Encoded, rows: int, max_length: int, listener: Heard = None
) -> AnyStepper:
    """Return what runs one captioner's decoder, or several ones' together.

    Raises ValueError where images or listeners are not those of as many captioners.
    """
    if isinstance(model, Captioners):
        if isinstance(image, ImageTokens) or isinstance(listener, Listener):
            raise ValueError("each of several captioners has its own encoding and its own listener")
        return EnsembleStepper(model, image, rows, max_length, listener)
    if not isinstance(image, ImageTokens) or not isinstance(listener, Listener | None):
        raise ValueError("one captioner has one encoding and one listener")
    return Stepper(model, image, rows, max_length, listener)
