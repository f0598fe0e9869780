"""What was found for one query: images or texts, the most similar first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

from mmattn.pipeline.pictures import Picture

Kind = Literal["image", "text"]


class Hit(NamedTuple):
    """One thing that was found.

    name: of an image its name, its path where it has one; of a text the text. place: in the index.
    similarity: the cosine of both embeddings, -1 to 1. match: how probable it is that both belong
    together, of those that a fusion was asked about; None of others.
    """

    name: str
    place: int
    similarity: float
    match: float | None = None


@dataclass(frozen=True)
class Retrieval:
    """What was found for one query.

    Attributes:
        kind: of what was found.
        hits: best first.
        text: the query, where it is a text.
        image: the name of the query, where it is an image.
    """

    kind: Kind
    hits: tuple[Hit, ...]
    text: str | None = None
    image: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images that were found, or the texts; best first."""
        return tuple(hit.name for hit in self.hits)

    @property
    def query(self) -> str:
        """The text of the query, or the name of its image."""
        return self.text if self.text is not None else str(self.image)

    def __repr__(self) -> str:
        return f"Retrieval({self.query!r}: {', '.join(map(repr, self.names))})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        asked = {"image": self.image} if self.text is None else {"text": self.text}
        found = [
            {self.kind: hit.name, "similarity": round(hit.similarity, 6)}
            | ({} if hit.match is None else {"match": round(hit.match, 6)})
            for hit in self.hits
        ]
        return {**asked, "found": found}


@dataclass(frozen=True, repr=False)
class Index:
    """Embeddings of N images, or of N texts, to be searched; `JointPipeline.index` makes one.

    Attributes:
        kind: of what it holds.
        names: of the images, or the texts themselves.
        vectors: of length 1, float32, on the CPU; of an index on disk its file, mapped into memory.
        pictures: the images, to look at again; None where the names are paths of files.
    """

    kind: Kind
    names: Sequence[str]
    vectors: Float[Tensor, "N E"]
    pictures: Sequence[Picture] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        things = f"{len(self):,} {self.kind}{'s' * (len(self) != 1)}"
        return f"Index({things}, {self.vectors.shape[1]} numbers each)"
