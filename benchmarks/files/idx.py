"""Arrays of bytes in IDX files, the format of MNIST and of what is made like it, gzipped or not.

Such a file has two zero bytes, the type of the values (8 for bytes), the number of axes, the
length of each axis as a big-endian 32-bit number, and the values. What gzip and zlib raise depends
on where a file is damaged, and is not documented: so every error is one of the file.
"""

import contextlib
import gzip
import math
import pathlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import UserError
from benchmarks.files.disk import in_a_line

MOST_BYTES = 2**28
"""Files that promise more values are refused before they are unpacked; MNIST's have 2^25.5."""

_GZIP = b"\x1f\x8b"
_BYTES = 8
_PIECE = 2**20


def read_idx(path: pathlib.Path, axes: int) -> NDArray[np.uint8]:
    """Reads an array of bytes with this number of axes.

    Raises:
      UserError: if the file is missing or damaged, or has anything else.
    """
    try:
        with _unpacked(path) as file:
            shape = _read_head(file, axes)
            promised = math.prod(shape)
            if promised > MOST_BYTES:
                raise ValueError(f"a shape of {_product(shape)}, more than any data set has")
            values = _read(file, promised)
            # One more, which is not there: gzip compares the checksum where the file ends.
            if len(values) < promised or file.read(1):
                found = "more" if len(values) == promised else f"{len(values):,}"
                raise ValueError(
                    f"expected {promised:,} bytes of values for {_product(shape)}, found {found}"
                )
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not an IDX file of bytes ({in_a_line(error)})"
        ) from error
    return np.frombuffer(values, np.uint8).reshape(shape)


@contextlib.contextmanager
def _unpacked(path: pathlib.Path) -> Iterator[BinaryIO]:
    """The content of a file, unpacked as it is read if it begins as gzip files do."""
    with path.open("rb") as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw) as file:
                yield cast(BinaryIO, file)
        else:
            yield raw


def _read_head(file: BinaryIO, axes: int) -> tuple[int, ...]:
    """The shape of the array; raises ValueError unless the values are bytes with these axes."""
    expected = bytes([0, 0, _BYTES, axes])
    magic = _read(file, len(expected))
    if magic != expected:
        raise ValueError(
            f"expected it to begin with {expected.hex(' ')}, found {magic.hex(' ') or 'nothing'}"
        )
    head = _read(file, 4 * axes)
    if len(head) < 4 * axes:
        raise ValueError(f"expected the lengths of {axes} axes, found {len(head)} bytes")
    return tuple(np.frombuffer(head, ">u4").tolist())


def _read(file: BinaryIO, size: int) -> bytes:
    """As many bytes as there are, at most `size`; memory is taken for those alone."""
    pieces, left = [], size
    while left and (piece := file.read(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _product(shape: tuple[int, ...]) -> str:
    return " × ".join(f"{length:,}" for length in shape)
