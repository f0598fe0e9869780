"""mmattn: train captioners that see and read, and look at what they attend to."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmattn.attention import Attention as Attention
    from mmattn.attention import attend as attend
    from mmattn.blocks import Block as Block
    from mmattn.blocks import BlockOptions as BlockOptions
    from mmattn.captioner import Captioner as Captioner
    from mmattn.classifier import Classifier as Classifier
    from mmattn.gradient_recorder import GradientRecorder as GradientRecorder
    from mmattn.interop.foreign_attention import record as record
    from mmattn.maps.archive import load_attention as load_attention
    from mmattn.maps.archive import save_attention as save_attention
    from mmattn.maps.comparison import Side as Side
    from mmattn.maps.comparison import comparison as comparison
    from mmattn.maps.decision_archive import load_decision as load_decision
    from mmattn.maps.decision_archive import save_decision as save_decision
    from mmattn.maps.decision_record import DecisionRecord as DecisionRecord
    from mmattn.maps.geometry import Placement as Placement
    from mmattn.maps.record import AttentionRecord as AttentionRecord
    from mmattn.maps.token_matrix import token_matrix as token_matrix
    from mmattn.maps.viewer import save_viewer as save_viewer
    from mmattn.pipeline.attention import AttentionChoice as AttentionChoice
    from mmattn.pipeline.caption import Caption as Caption
    from mmattn.pipeline.captioner_ensemble import CaptionerEnsemble as CaptionerEnsemble
    from mmattn.pipeline.class_map import ClassMap as ClassMap
    from mmattn.pipeline.classification import Classification as Classification
    from mmattn.pipeline.classifier_pipeline import ClassifierPipeline as ClassifierPipeline
    from mmattn.pipeline.clip_model import load_clip as load_clip
    from mmattn.pipeline.clip_scores import clip_scores as clip_scores
    from mmattn.pipeline.ensemble import ClassifierEnsemble as ClassifierEnsemble
    from mmattn.pipeline.joint_pipeline import JointPipeline as JointPipeline
    from mmattn.pipeline.load import load as load
    from mmattn.pipeline.pictures import Unreadable as Unreadable
    from mmattn.pipeline.pipeline import Pipeline as Pipeline
    from mmattn.pipeline.retrieval import Index as Index
    from mmattn.pipeline.retrieval import Retrieval as Retrieval
    from mmattn.recorder import Recorder as Recorder
    from mmattn.recorder import empty_rows as empty_rows
    from mmattn.statistics import StatisticsRecorder as StatisticsRecorder
    from mmattn.text import TextTransformer as TextTransformer
    from mmattn.vision import VisionTransformer as VisionTransformer

# The public names and where they live. They load when first used, so that `import mmattn`, the
# command line's help and its first complaint about a typo do not wait for torch.
_HOME = {
    "Attention": "attention",
    "AttentionChoice": "pipeline.attention",
    "AttentionRecord": "maps.record",
    "attend": "attention",
    "Block": "blocks",
    "BlockOptions": "blocks",
    "Caption": "pipeline.caption",
    "Captioner": "captioner",
    "CaptionerEnsemble": "pipeline.captioner_ensemble",
    "ClassMap": "pipeline.class_map",
    "Classification": "pipeline.classification",
    "Classifier": "classifier",
    "ClassifierEnsemble": "pipeline.ensemble",
    "ClassifierPipeline": "pipeline.classifier_pipeline",
    "DecisionRecord": "maps.decision_record",
    "GradientRecorder": "gradient_recorder",
    "Index": "pipeline.retrieval",
    "JointPipeline": "pipeline.joint_pipeline",
    "Pipeline": "pipeline.pipeline",
    "Placement": "maps.geometry",
    "Recorder": "recorder",
    "Retrieval": "pipeline.retrieval",
    "Side": "maps.comparison",
    "StatisticsRecorder": "statistics",
    "TextTransformer": "text",
    "Unreadable": "pipeline.pictures",
    "VisionTransformer": "vision",
    "clip_scores": "pipeline.clip_scores",
    "comparison": "maps.comparison",
    "empty_rows": "recorder",
    "load": "pipeline.load",
    "load_attention": "maps.archive",
    "load_clip": "pipeline.clip_model",
    "load_decision": "maps.decision_archive",
    "record": "interop.foreign_attention",
    "save_attention": "maps.archive",
    "save_decision": "maps.decision_archive",
    "save_viewer": "maps.viewer",
    "token_matrix": "maps.token_matrix",
}
__all__ = [
    "Attention",
    "AttentionChoice",
    "AttentionRecord",
    "Block",
    "BlockOptions",
    "Caption",
    "Captioner",
    "CaptionerEnsemble",
    "ClassMap",
    "Classification",
    "Classifier",
    "ClassifierEnsemble",
    "ClassifierPipeline",
    "DecisionRecord",
    "GradientRecorder",
    "Index",
    "JointPipeline",
    "Pipeline",
    "Placement",
    "Recorder",
    "Retrieval",
    "Side",
    "StatisticsRecorder",
    "TextTransformer",
    "Unreadable",
    "VisionTransformer",
    "attend",
    "clip_scores",
    "comparison",
    "empty_rows",
    "load",
    "load_attention",
    "load_clip",
    "load_decision",
    "record",
    "save_attention",
    "save_decision",
    "save_viewer",
    "token_matrix",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"mmattn.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mmattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
