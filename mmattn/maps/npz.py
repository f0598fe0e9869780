"""NPZ files: plain arrays, read without pickle, bounded in what they unpack to."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

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
