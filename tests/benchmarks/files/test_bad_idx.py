"""IDX files that are damaged, or made to do harm."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from benchmarks.files import idx

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def content(array=VALUES, *, shape=None, magic=None, values=None):
    shape = array.shape if shape is None else shape
    magic = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    values = array.tobytes() if values is None else values
    return magic + struct.pack(f">{len(shape)}I", *shape) + values


@pytest.mark.parametrize("packed", [gzip.compress, lambda plain: plain], ids=["gzip", "plain"])
@pytest.mark.parametrize("array", [VALUES, VALUES[:0], VALUES[0, 0]], ids=["3", "empty", "1"])
def test_a_good_file_is_read(tmp_path, packed, array):
    path = tmp_path / "x-idx-ubyte.gz"
    path.write_bytes(packed(content(array)))
    found = idx.read_idx(path, array.ndim)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


PACKED = gzip.compress(content())
WRONG_SUM = PACKED[:-8] + b"\x00\x00\x00\x00" + PACKED[-4:]
BAD = {
    "empty": (b"", "begin with 00 00 08 03, found nothing"),
    "an empty gzip": (gzip.compress(b""), "begin with 00 00 08 03, found nothing"),
    "text": (b"<html>not found</html>", "begin with 00 00 08 03, found 3c 68 74 6d"),
    "labels": (content(VALUES[0, 0]), "begin with 00 00 08 03, found 00 00 08 01"),
    "of floats": (content(magic=b"\0\0\x0d\3"), "found 00 00 0d 03"),
    "half a head": (content()[:9], "expected the lengths of 3 axes, found 5 bytes"),
    "too few values": (content()[:-1], "expected 24 bytes of values for 2 × 3 × 4, found 23"),
    "too many": (content() + b"1", "expected 24 bytes of values for 2 × 3 × 4, found more"),
    "too many, packed": (gzip.compress(content() + b"1"), "expected 24 bytes .* found more"),
    "2⁹⁶ values": (content(shape=(2**32 - 1,) * 3), "4,294,967,295 × .*more than any data set"),
    "cut gzip": (PACKED[:-12], "ended before"),
    "another checksum": (WRONG_SUM, "CRC check failed"),
    "damaged gzip": (PACKED[:14] + b"\xff" * 9 + PACKED[23:], "."),
    "a head of gzip": (PACKED[:5], "."),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_line(tmp_path, content, said):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    match = rf"^[^\n]*x\.gz: damaged, or not an IDX file of bytes \([^\n]*{said}[^\n]*\)$"
    with pytest.raises(UserError, match=match):
        idx.read_idx(path, 3)


@pytest.mark.parametrize("name", ["none.gz", ".", "n" * 5000])
def test_what_is_no_file_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match=r"damaged, or not an IDX file of bytes \(.+\)$"):
        idx.read_idx(tmp_path / name, 3)


def test_a_head_that_promises_much_takes_no_memory(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content(shape=(2**28, 1, 1))))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="expected 268,435,456 bytes"):
            idx.read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_bomb_is_unpacked_no_further_than_its_head_says(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(content(values=bytes(2**26))))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="found more"):
            idx.read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(PACKED) - 1), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_read_or_refused(tmp_path, place, byte, cut):
    changed = bytearray(PACKED)
    changed[place] = byte
    path = tmp_path / "x.gz"
    path.write_bytes(changed[: place + 1] if cut else changed)
    try:
        found = idx.read_idx(path, 3)
    except UserError:
        return
    np.testing.assert_array_equal(found, VALUES)
