"""open_clip's CLIP models as they are, to compare images with texts (extra: mmattn[clip]).

They run as open_clip builds them, from a local folder; nothing is downloaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mmattn.data.preprocessing import Preprocessing
from mmattn.errors import CheckpointError, ConfigError
from mmattn.interop.json_settings import Settings, read_settings
from mmattn.interop.open_clip.coca import CONFIG, WEIGHTS
from mmattn.interop.open_clip.coca_settings import coca_preprocessing
from mmattn.metrics.clip_score import PROMPT
from mmattn.weights import load_exactly, read_state_dict


@dataclass(frozen=True)
class OpenClip:
    """A CLIP model of open_clip; `read_clip` reads one.

    Attributes:
        model: in evaluation mode; has `encode_image` and `encode_text`.
        tokenizer: texts -> ids [R, T], cut where they are longer than the model reads.
        preprocessing: of its pictures.
        prompt: what belongs before every text that is scored.
    """

    model: nn.Module
    tokenizer: Any
    preprocessing: Preprocessing
    prompt: str = PROMPT

    @torch.no_grad()
    def image_vectors(self, pixels: Float[Tensor, "B 3 height width"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of prepared pictures: float32, on the CPU, of length 1."""
        encode: Any = self.model.encode_image
        return F.normalize(encode(pixels.to(self._weight)).float(), dim=-1).cpu()

    @torch.no_grad()
    def text_vectors(self, texts: Sequence[str]) -> Float[Tensor, "R E"]:
        """Return the embeddings of texts: float32, on the CPU, of length 1."""
        encode: Any = self.model.encode_text
        ids = self.tokenizer(list(texts)).to(self._weight.device)
        return F.normalize(encode(ids).float(), dim=-1).cpu()

    @property
    def _weight(self) -> Tensor:
        return next(self.model.parameters())


def read_clip(folder: str | Path, device: torch.device | str = "cpu") -> OpenClip:
    """Read a CLIP model from a folder as open_clip writes it.

    The folder holds open_clip_config.json and open_clip_model.safetensors (or
    open_clip_pytorch_model.bin, of which no code is run).

    Raises:
        ConfigError: where open_clip is not installed.
        CheckpointError: for a missing or damaged file, and for a model with parts of other
            libraries' hubs, which would be downloaded.
    """
    folder = Path(folder)
    if find_spec("open_clip") is None:
        raise ConfigError(
            f"{folder} is a model of open_clip, which is not installed: pip install mmattn[clip]"
        )
    config = read_settings(folder / CONFIG)
    settings = config.section("model_cfg")
    model = _model(folder, settings).to(device)
    tower: Any = model.visual
    size = tower.image_size
    height, width = (size, size) if isinstance(size, int) else size
    pictures = config.section("preprocess_cfg", {})
    return OpenClip(model, _tokenizer(settings), coca_preprocessing(pictures, (height, width)))


def _model(folder: Path, settings: Settings) -> nn.Module:
    from open_clip.model import CLIP, CustomTextCLIP

    if settings.has("multimodal_cfg"):
        raise CheckpointError(
            f"{settings.where}: a CoCa model captions; give a CLIP model to score"
        )
    _refuse(settings.section("text_cfg"), ("hf_model_name", "hf_tokenizer_name"))
    _refuse(settings.section("vision_cfg"), ("timm_model_name",))
    values = settings.given()
    custom = values.pop("custom_text", False)
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder}: has no weights; looked for {' and '.join(WEIGHTS)}")
    try:
        model = (CustomTextCLIP if custom else CLIP)(**values)
    except (TypeError, ValueError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{settings.where}: open_clip builds no model of it ({reason})"
        ) from (error)
    load_exactly(model, read_state_dict(path), str(path))
    return model.float().eval().requires_grad_(False)


def _refuse(tower: Settings, names: Sequence[str]) -> None:
    """Refuse what open_clip would fetch from a hub, or build of another library's parts."""
    for name in names:
        if tower.has(name):
            raise tower.wrong(name, "left out: only open_clip's own towers are read")


def _tokenizer(settings: Settings) -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    text = settings.section("text_cfg")
    length = text.whole("context_length", 77)
    options = text.section("tokenizer_kwargs", {}).given()
    try:
        return SimpleTokenizer(context_length=length, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{text.where}: tokenizer_kwargs: {error}") from error
