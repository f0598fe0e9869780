"""mmattn: train captioners that see and read, and look at what they attend to."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmattn.attention import Attention as Attention
    from mmattn.attention import attend as attend
    from mmattn.blocks import Block as Block
    from mmattn.blocks import BlockOptions as BlockOptions
    from mmattn.captioner import Captioner as Captioner
    from mmattn.gradient_recorder import GradientRecorder as GradientRecorder
    from mmattn.interop.foreign_attention import record as record
    from mmattn.recorder import Recorder as Recorder
    from mmattn.statistics import StatisticsRecorder as StatisticsRecorder
    from mmattn.text import TextTransformer as TextTransformer
    from mmattn.vision import VisionTransformer as VisionTransformer

# The public names and where they live. They load when first used, so that `import mmattn`, the
# command line's help and its first complaint about a typo do not wait for torch.
_HOME = {
    "Attention": "attention",
    "attend": "attention",
    "Block": "blocks",
    "BlockOptions": "blocks",
    "Captioner": "captioner",
    "GradientRecorder": "gradient_recorder",
    "Recorder": "recorder",
    "StatisticsRecorder": "statistics",
    "TextTransformer": "text",
    "VisionTransformer": "vision",
    "record": "interop.foreign_attention",
}
__all__ = [
    "Attention",
    "Block",
    "BlockOptions",
    "Captioner",
    "GradientRecorder",
    "Recorder",
    "StatisticsRecorder",
    "TextTransformer",
    "VisionTransformer",
    "attend",
    "record",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"mmattn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mmattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
