"""A joint model that takes pictures and texts: captions, embeddings, matches, classes, finds."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mmattn.bundle import Bundle
from mmattn.data.images import MAX_PIXELS
from mmattn.errors import ConfigError
from mmattn.joint import JointModel
from mmattn.pipeline.classification import Classification
from mmattn.pipeline.collected import check_sizes, collected, counted
from mmattn.pipeline.embedder import text_tokens, text_vectors
from mmattn.pipeline.finite import check_finite
from mmattn.pipeline.image_files import files_only
from mmattn.pipeline.index_file import fingerprint
from mmattn.pipeline.index_update import IndexUpdate
from mmattn.pipeline.pictures import pictures
from mmattn.pipeline.pipeline import Pipeline
from mmattn.pipeline.questions import plain_texts, together
from mmattn.pipeline.retrieval import Index, Kind, Retrieval
from mmattn.pipeline.retriever import Matcher, Query, Retriever, queries_of
from mmattn.pipeline.zero_shot import ZeroShot
from mmattn.zero_shot import PLACE, zero_shot_weights


class Embeddings(NamedTuple):
    """The embeddings of images and of texts; their products are how similar both are.

    images: of N pictures. texts: of R texts.
    """

    images: Float[Tensor, "N E"]
    texts: Float[Tensor, "R E"]


class JointPipeline(Pipeline):
    """A joint model with its tokenizer and preprocessing; `mmattn.load` makes one.

    It captions as any `Pipeline` does. What its other calls have in common:

    - images: paths, folders, patterns, PIL images, arrays, tensors, or an iterable of any of
      these, of any sizes (see `pictures`);
    - texts: a text, or a list of texts;
    - batch_size: how many are computed at once;
    - threads: how many read pictures while the model is busy;
    - progress: show a progress bar; if None, on a terminal, where there are several batches;
    - truncate: cut texts that are longer than the model reads instead of refusing them;
    - max_pixels: what the header of an image file may promise.

    All raise DataError for the first picture that cannot be read, and for a text that is too long.

    Args:
        bundle: what it consists of.
        device: where it computes.

    Attributes:
        joint: the model itself, which is `model`, too.
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu"):
        super().__init__(bundle, device)
        if not isinstance(bundle.model, JointModel):
            raise ConfigError(f"a {type(bundle.model).__name__} is no joint model: load a Pipeline")
        self.joint = bundle.model

    def embed(  # pyright: ignore[reportIncompatibleMethodOverride] (images alone give a tensor)
        self,
        images: Any = None,
        texts: Any = None,
        *,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Float[Tensor, "N E"] | Embeddings:
        """Return the embeddings of images, of texts, or of both.

        They are float32, on the CPU and of length 1, so the product of two is their cosine.
        Arguments as of every call of this class.

        Returns:
            A row for each image or each text, in their order; with images and texts both, which
            need not be as many, as (images, texts).

        Raises:
            ConfigError: where there is nothing to embed.
        """
        check_sizes(batch_size, threads)
        if images is None and texts is None:
            raise ConfigError("there is nothing to embed: give images, texts, or both")
        read = None if texts is None else self._texts(texts, batch_size, truncate)
        if images is None:
            assert read is not None
            return read
        sizes = {"batch_size": batch_size, "threads": threads, "progress": progress}
        seen = super().embed(images, max_pixels=max_pixels, **sizes)
        return seen if read is None else Embeddings(seen, read)

    def match(
        self,
        images: Any,
        texts: Any,
        *,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Float[Tensor, "N"]:
        """Return how probable it is that images and texts belong together, by the model's fusion.

        Images and texts belong together by their places; one of either is for all of the others.
        Arguments as of every call of this class.

        Returns:
            A probability for each pair, float32, on the CPU.

        Raises:
            ConfigError: for a model without a fusion, and for numbers of images and texts that do
                not go together.
        """
        check_sizes(batch_size, threads)
        matcher = Matcher(self.bundle)
        seen, read = list(pictures(images, max_pixels=max_pixels)), plain_texts(texts)
        asked = [
            matcher.question(seen[i], read[j], place, f"texts[{j}]", truncate=truncate)
            for place, (i, j) in enumerate(together(len(seen), len(read)))
        ]
        sizes = {"batch_size": batch_size, "threads": threads, "progress": progress}
        return matcher.probabilities(asked, **sizes)

    def classify(
        self,
        images: Any,
        labels: Sequence[str],
        *,
        templates: Sequence[str] = (PLACE,),
        top: int = 5,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Classification]:
        """Tell which of some labels fit pictures, by embeddings alone: no head was trained for it.

        Arguments as of every call of this class, and:

        Args:
            images: what is classified.
            labels: names of classes, such as "cat".
            templates: texts that an image with a label may have, with `{}` in place of the label,
                such as "a photo of a {}": captions as the model was trained on.
            top: so many labels, most probable first.

        Returns:
            What is said of each image, in their order.

        Raises:
            ConfigError: for no label, a label that is given twice, or a template without its place.
        """
        check_sizes(batch_size, threads)
        teller = self.zero_shot(labels, templates, top=top)
        found, total = counted(images, max_pixels)
        results = teller.results(found, batch_size=batch_size, threads=threads)
        return collected(results, total, progress=progress, few=batch_size, doing="classifying")

    def retrieve(
        self,
        texts: Any = None,
        among: Any = None,
        *,
        images: Any = None,
        top: int = 5,
        rerank: int = 0,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[Retrieval]:
        """Find what is most similar to texts, or to images: `retrieve("a dog", "photos/")`.

        Every image, or text, of the index is compared; none is missed. Of equally similar ones
        the first comes first. Arguments as of every call of this class, and:

        Args:
            texts: the queries.
            among: images to search, or an `Index`: make one to search it again and again.
            images: queries that are images, in place of texts.
            top: how many are found for each query.
            rerank: so many of the most similar are then sorted by whether they belong to the
                query, as the model's fusion sees it (see `match`).

        Returns:
            What is found for each query, in their order.

        Raises:
            ConfigError: for queries of no kind or of both, for nothing to search, for an index
                that another model made, and where nothing could be reranked.
        """
        check_sizes(batch_size, threads)
        if (texts is None) == (images is None):
            raise ConfigError("give texts to look for, or images=… to look for")
        if among is None:
            raise ConfigError("there is nothing to search: give images, or an index of some")
        sizes: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "progress": progress}
        queries = queries_of(texts, images, max_pixels)
        vectors = self.query_vectors(queries, truncate=truncate, **sizes)
        if not isinstance(among, Index):
            among = self.index(among, max_pixels=max_pixels, **sizes)
        retriever = self.retriever(
            *(among, "image" if texts is None else "text"),
            **{"top": top, "rerank": rerank, "truncate": truncate, "max_pixels": max_pixels},
            **{"batch_size": batch_size, "threads": threads},
        )
        return retriever.retrieve(queries, vectors)

    def index(
        self,
        images: Any = None,
        *,
        texts: Any = None,
        file: str | Path | None = None,
        batch_size: int = 8,
        threads: int = 2,
        progress: bool | None = None,
        truncate: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> Index:
        """Embed images, or texts, to be searched by `retrieve`. Arguments as of every call, and:

        Args:
            images: what is to be found; of files only their names are kept.
            texts: what is to be found, in place of images.
            file: where embeddings of images are kept (an `.index` file): what it has is not
                computed again, unless a file has changed. For files and folders only.

        Raises:
            ConfigError: for nothing to search, for a file that another model made, or images that
                are no files.
            DataError: for a picture that cannot be read; what was embedded is in `file` all the
                same.
        """
        check_sizes(batch_size, threads)
        if (texts is None) == (images is None):
            raise ConfigError("an index is of images, or of texts: give one of them")
        if texts is not None:
            if file is not None:
                raise ConfigError(f"file={str(file)!r}: an index on disk is of images")
            found = plain_texts(texts)
            return Index("text", found, self._texts(found, batch_size, truncate))
        sizes: dict[str, Any] = {"batch_size": batch_size, "threads": threads, "progress": progress}
        if file is not None:
            return self._index_on_disk(images, Path(file), {**sizes, "max_pixels": max_pixels})
        seen = list(pictures(images, max_pixels=max_pixels))
        vectors = super().embed(seen, **sizes)
        return Index("image", [one.name for one in seen], vectors, seen)

    def zero_shot(self, labels: Sequence[str], templates: Sequence[str], *, top: int) -> ZeroShot:
        """Return what tells which labels fit; arguments and errors as of `classify`."""
        if top < 1:
            raise ConfigError(f"top={top}: give 1 or more")
        names = plain_texts(labels)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"the label {twice!r} is given twice: give each once")
        weights = zero_shot_weights(self.joint, self.tokenizer, names, list(templates))
        check_finite(self.joint, weights)
        return ZeroShot(self.joint, self.embedder(), names, weights.float(), top)

    def query_vectors(
        self,
        queries: Sequence[Query],
        *,
        truncate: bool,
        batch_size: int,
        threads: int,
        progress: bool | None = None,
    ) -> Float[Tensor, "Q E"]:
        """Return the embeddings of queries of one kind."""
        seen = [query.picture for query in queries if query.picture is not None]
        if seen:
            sizes = {"batch_size": batch_size, "threads": threads, "progress": progress}
            return super().embed(seen, **sizes)
        return self._texts([str(query.text) for query in queries], batch_size, truncate)

    def retriever(
        self,
        index: Index,
        asked: Kind,
        *,
        top: int,
        rerank: int,
        **settings: Any,
    ) -> Retriever:
        """Return what finds in an index; `asked` is what queries are, settings see `Retriever`.

        Raises:
            ConfigError: for an empty index, and where nothing could be found or reranked.
        """
        if top < 1 or rerank < 0:
            raise ConfigError(f"top={top}, rerank={rerank}: give 1 or more, and 0 or more")
        if not len(index):
            raise ConfigError("the index is empty: there is nothing to find")
        matcher = self.reranker(rerank, asked, index.kind)
        return Retriever(index, top, rerank, matcher, **settings)

    def reranker(self, rerank: int, asked: Kind, found: Kind) -> Matcher | None:
        """Return what looks closer at the best `rerank` ones, None for none.

        Raises:
            ConfigError: where queries and what is found are of one kind, and without a fusion.
        """
        if not rerank:
            return None
        if asked == found:
            raise ConfigError(
                f"rerank={rerank}: a fusion compares an image with a text, and here {asked}s are "
                f"looked for among {found}s"
            )
        return Matcher(self.bundle)

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model's embeddings of images from any other's; see `fingerprint`."""
        return fingerprint(self.bundle)

    def to(self, *place: Any, **changes: Any) -> "JointPipeline":
        """Move the model, as any loaded model is moved; in another type it makes other numbers."""
        self.__dict__.pop("fingerprint", None)
        super().to(*place, **changes)
        return self

    def index_update(self, file: Path, **settings: Any) -> IndexUpdate:
        """Return what brings an index on disk up to date; settings as of `IndexUpdate`."""
        return IndexUpdate(file, self.fingerprint, self.embedder(), **settings)

    def _index_on_disk(self, images: Any, file: Path, settings: dict[str, Any]) -> Index:
        updated = self.index_update(file, **settings)(files_only(images))
        if updated.unreadable:
            raise updated.unreadable[0].error
        return Index("image", updated.names, updated.stored.vectors)

    def _texts(self, texts: Any, batch_size: int, truncate: bool) -> Float[Tensor, "R E"]:
        read, longest = plain_texts(texts), self.bundle.max_length
        for place, text in enumerate(read):
            text_tokens(text, self.tokenizer, longest, f"texts[{place}]", truncate=truncate)
        return text_vectors(self.joint, self.tokenizer, read, longest, batch_size)
