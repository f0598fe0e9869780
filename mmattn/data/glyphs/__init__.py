"""Built-in data: the characters of the DejaVu fonts, captioned with their Unicode names."""

from mmattn.data.glyphs.glyph_set import GlyphSet
from mmattn.data.glyphs.labels import GlyphLabels
from mmattn.data.glyphs.questions import GlyphQuestions
from mmattn.data.glyphs.source import Glyphs

__all__ = ["GlyphLabels", "GlyphQuestions", "GlyphSet", "Glyphs"]
