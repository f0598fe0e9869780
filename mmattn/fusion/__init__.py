"""Five ways in which an image and a text attend to each other; one attention under all of them.

- `CrossFusion`: the text attends to the image (ALBEF, Li et al. 2021; BLIP, Li et al. 2022).
- `CoFusion`: both attend to each other (ViLBERT, Lu et al. 2019; LXMERT, Tan and Bansal 2019).
- `MergedFusion`: one stream of both attends to itself (ViLT, Kim et al. 2021).
- `GatedFusion`: one encoder attends, between its own blocks, to the other one's output (Flamingo,
  Alayrac et al. 2022).
- `PooledFusion`: a few learned queries attend to everything (Perceiver, Jaegle et al. 2021; CoCa's
  attentional pooler, Yu et al. 2022).

A fusion is handed the two encoders and not what they return, for it decides what runs between their
blocks. Tokens that are padding, or of an image or text that is missing, are attended to by nobody.
Attention sites are `fusion.<stream>.<layer>.<self or cross>`; the streams are `text`, `image`,
`both` and `queries`.
"""

from mmattn.fusion.co import CoFusion
from mmattn.fusion.cross import CrossFusion
from mmattn.fusion.gated import GatedFusion
from mmattn.fusion.merged import MergedFusion
from mmattn.fusion.pooled import PooledFusion
from mmattn.fusion.stream import Encoder, Fused, Fusion, Stream

__all__ = [
    "CoFusion",
    "CrossFusion",
    "Encoder",
    "Fused",
    "Fusion",
    "GatedFusion",
    "MergedFusion",
    "PooledFusion",
    "Stream",
]
