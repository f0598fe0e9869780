"""An index of images on disk: one safetensors file of embeddings, and of which files they are.

    embeddings  float32 [N, E], of length 1
    sizes       int64 [N], of the files in bytes
    mtimes      int64 [N], when they were last written, in nanoseconds
    keys        uint8 [N, 16], the BLAKE2b of what they hold
    paths       uint8, their absolute paths, parted by a zero byte

Its metadata says which model made it. Reading it runs nothing, and maps the embeddings into memory.
"""

import json
import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b, file_digest, sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmattn.architecture import describe
from mmattn.bundle import Bundle
from mmattn.errors import ConfigError, DataError, one_line
from mmattn.files import written_whole
from mmattn.weights import write_state_dict

KIND = "mmattn-index-1"  # another number where what is in the file changes
KEY = 16  # bytes of a key
# What embeddings of images depend on, beside the architecture and how pictures are prepared.
PARTS = ("vision.", "image_projection.")


class File(NamedTuple):
    """A file as it was when it was embedded.

    path: absolute. size: in bytes. mtime: when it was last written, in nanoseconds. key: what it
    holds, see `content_key`.
    """

    path: str
    size: int
    mtime: int
    key: bytes


class Stored(NamedTuple):
    """What an index on disk holds: N files, and their embeddings."""

    files: list[File]
    vectors: Float[Tensor, "N E"]


def content_key(path: str | Path) -> bytes:
    """Return what tells the content of a file from any other. Raises OSError."""
    with Path(path).open("rb") as stream:
        return file_digest(stream, lambda: blake2b(digest_size=KEY)).digest()


def fingerprint(bundle: Bundle) -> str:
    """Return what tells embeddings of images by this model from those by any other.

    The weights of the image encoder and what projects it, in the type that they are in; what the
    model is made of; how pictures are prepared.
    """
    made = describe(bundle.model)
    about = {key: made.get(key) for key in ("vision", "pool", "embed_dim")}
    about["preprocessing"] = bundle.preprocessing.settings()
    digest = sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in bundle.model.state_dict().items():
        if name.startswith(PARTS):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_index(path: Path, stored: Stored, model: str) -> None:
    """Write an index, whole or not at all.

    Args:
        path: of the file; its folder is made if needed.
        stored: what it holds.
        model: the `fingerprint` of the model that made it.
    """
    files = stored.files
    paths = b"\0".join(os.fsencode(file.path) for file in files)
    keys = np.frombuffer(b"".join(file.key for file in files), np.uint8).reshape(-1, KEY)
    tensors = {
        "embeddings": stored.vectors.contiguous(),
        "sizes": torch.tensor([file.size for file in files], dtype=torch.int64),
        "mtimes": torch.tensor([file.mtime for file in files], dtype=torch.int64),
        "keys": torch.from_numpy(keys.copy()),
        "paths": torch.from_numpy(np.frombuffer(paths, np.uint8).copy()),
    }
    with written_whole(path) as unfinished:
        write_state_dict(tensors, unfinished, {"format": KIND, "model": model})


def read_index(path: Path, model: str) -> Stored:
    """Read an index; the embeddings are the file itself, mapped into memory.

    Args:
        path: of the file.
        model: the `fingerprint` of the model that it is wanted for.

    Raises:
        ConfigError: where there is no such file, and for an index that another model made.
        DataError: for what is no index, or does not agree with itself.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such index; name the images that it is to hold")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            check_made_for(path, about, model)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: is no index of mmattn ({one_line(error)}): {REMEDY}") from None
    return checked(path, tensors)


REMEDY = "give another file with --index, or remove it"


def check_made_for(path: Path, about: dict[str, str], model: str) -> None:
    """Raise DataError for what is no index, ConfigError for one that another model made."""
    if about.get("format") != KIND:
        raise DataError(f"{path}: is no index of this version of mmattn: {REMEDY}")
    if about.get("model") != model:
        raise ConfigError(
            f"{path}: another model made this index, or the same with other weights, another "
            f"--dtype or other preprocessing; its embeddings mean nothing to this one: {REMEDY}"
        )


def checked(path: Path, tensors: dict[str, Tensor]) -> Stored:
    """Return what a file's tensors say. Raises DataError where they do not agree."""
    try:
        vectors, sizes, mtimes = (tensors[name] for name in ("embeddings", "sizes", "mtimes"))
        keys, packed = tensors["keys"].numpy().tobytes(), tensors["paths"].numpy().tobytes()
        paths = os.fsdecode(packed).split("\0") if packed else []
        cut = [keys[start : start + KEY] for start in range(0, len(keys), KEY)]
        rows = zip(paths, sizes.tolist(), mtimes.tolist(), cut, strict=True)
        files = list(map(File._make, rows))
        if vectors.dim() != 2 or vectors.dtype != torch.float32 or len(vectors) != len(files):
            raise ValueError(f"embeddings are {vectors.dtype} {tuple(vectors.shape)}")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: does not agree with itself ({one_line(error)}): remove it, and it is made "
            "again"
        ) from None
    return Stored(files, vectors)


def joined(parts: Sequence[Stored], width: int, first: Iterable[str] = ()) -> Stored:
    """Return several as one; of a file that is in more than one, as the last has it.

    Args:
        parts: with vectors of E = `width` numbers.
        width: of what is returned where there are no parts.
        first: paths of files that come first, in this order, as far as they are there.
    """
    found = {
        file.path: (part, row)
        for part, stored in enumerate(parts)
        for row, file in enumerate(stored.files)
    }
    places = {path: found[path] for path in first if path in found} | found
    files = [parts[part].files[row] for part, row in places.values()]
    vectors = torch.empty(len(files), width)
    taken = torch.tensor(list(places.values()), dtype=torch.long).view(-1, 2)
    for part, stored in enumerate(parts):
        mine = (taken[:, 0] == part).nonzero()[:, 0]
        vectors[mine] = stored.vectors[taken[mine, 1]]
    return Stored(files, vectors)


def select(stored: Stored, rows: Sequence[int]) -> Stored:
    """Return some of the files, in another order; nothing is copied where it is all, in theirs."""
    if list(rows) == list(range(len(stored.files))):
        return stored
    return Stored([stored.files[row] for row in rows], stored.vectors[list(rows)])
