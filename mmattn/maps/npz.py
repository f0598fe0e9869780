"""NPZ files: plain arrays, read without pickle, bounded in what they unpack to."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmattn.errors import DataError

T = TypeVar("T")

# What a file may unpack to. The maps of a large vision transformer take a tenth of it.
LARGEST = 4 * 2**30


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of an NPZ file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
            # A `ZipInfo` has a fixed date; `numpy.savez` writes the time of day.
            info = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, 1)
    return buffer.getvalue()


def opened(stream: io.BufferedReader) -> np.lib.npyio.NpzFile:
    """Open an NPZ file.

    Raises:
        ValueError: for anything else, and for one that unpacks to more than `LARGEST` bytes.
    """
    # For anything but a whole archive numpy would advise to try pickle.
    if not zipfile.is_zipfile(stream):
        raise ValueError("it is cut off, or no NPZ archive")
    stream.seek(0)
    arrays = np.load(stream, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError("it is a single array")
    members = arrays.zip.infolist() if arrays.zip else []
    size = sum(member.file_size for member in members)
    if size > LARGEST:
        raise ValueError(f"it unpacks to {size:,} bytes, and at most {LARGEST:,} are read")
    return arrays


def read_record(
    path: str | Path,
    kind: str,
    version: int,
    version_of: Callable[[np.lib.npyio.NpzFile], int],
    record: Callable[[np.lib.npyio.NpzFile], T],
) -> T:
    """Read a file that holds one record.

    Args:
        path: of the file.
        kind: what such files are called.
        version: the format that is read.
        version_of: that of a file; raises ValueError for one of another kind.
        record: makes it of the arrays; what is wrong in them raises something.

    Raises:
        DataError: in one line with the file's name, for a file that is missing, cut off, of another
            kind or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with path.open("rb") as stream, opened(stream) as arrays:
            found = version_of(arrays)
            if found != version:
                raise DataError(
                    f"{path} has format {found}, but this version of mmattn reads format "
                    f"{version}: write it again with this version, or read it with the one that "
                    "wrote it"
                )
            return record(arrays)
    except DataError:
        raise
    except Exception as error:  # numpy, zipfile and json raise a dozen kinds at damaged bytes
        what = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: not a whole {kind} file of format {version} ({what}); write it again, or "
            "delete it"
        ) from error
