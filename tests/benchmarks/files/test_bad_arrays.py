"""Files of arrays and images that are damaged, or made to do harm."""

import contextlib
import io
import json
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import examples_file
from benchmarks.data import mark, splits
from benchmarks.errors import UserError
from benchmarks.files import arrays
from benchmarks.networks import pretrained
from benchmarks.problems.qm9 import npz_file as qm9_npz

GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)
VALUES = GOOD.tobytes()


def npy(head=None, values=VALUES, version=b"\x01\x00"):
    """The bytes of an `.npy` file with any head."""
    text = head or "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    line = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(line)) + line + values


def shape(text):
    return npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}")


HEADS = {
    "10¹² entries": shape("(1000000, 1000000)"),
    "10³⁰ entries": shape(f"({10**30},)"),
    "5,000 digits": shape(f"({'9' * 5000},)"),
    "unbalanced": npy("{'descr': '<f4', 'fortran_order': False, 'shape': ((2, 3), }"),
    "bool shape": shape("(True, 6)"),
    "negative shape": shape("(-2, -3)"),
    "text shape": shape("('2', 3)"),
    "shape without end": shape("(" * 200 + "2, 3" + ")" * 200),
    "no dtype": npy("{'fortran_order': False, 'shape': (2, 3), }"),
    "unknown dtype": npy("{'descr': '<q9', 'fortran_order': False, 'shape': (2, 3), }"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"),
    "not a dict": npy("[1, 2]"),
    "a program": npy("__import__('os').getcwd()"),
    "too few values": npy(values=b"1234"),
    "unknown version": npy(version=b"\x09\x00"),
    "a bad zip": b"PK\x03\x04" + b"\x00" * 40,
    "empty": b"",
    "text": b"not an array",
}


def archive(content, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as packed:
        packed.writestr("image.npy", content)
    return stream.getvalue()


def patched(offset, value):
    """An archive with other bytes, both in the head of the file and in the central directory."""
    content = bytearray(archive(npy()))
    central = content.index(b"PK\x01\x02")
    for start in (offset, central + offset + 2):
        content[start : start + len(value)] = value
    return bytes(content)


def with_damaged_stream():
    content = bytearray(archive(npy()))
    start = 30 + len("image.npy")
    content[start : start + 8] = b"\xff" * 8
    return bytes(content)


ARCHIVES = {name: archive(content) for name, content in HEADS.items()} | {
    "damaged stream": with_damaged_stream(),
    "unknown compression": patched(8, struct.pack("<H", 97)),
    "encrypted": patched(6, struct.pack("<H", 1)),
    "cut off": archive(npy())[:-30],
    "wrong checksum": patched(14, struct.pack("<I", zlib.crc32(b"other"))),
    "no archive": b"not an archive",
}
READERS = {
    "arrays": arrays.read_npz,
    "weights": pretrained.read_weights,
    "molecules": qm9_npz.read,
    "examples": examples_file.read,
}


def named(cases):
    return [pytest.param(content, id=name) for name, content in cases.items()]


@pytest.mark.parametrize("content", named(HEADS))
def test_a_bad_npy_file_is_named(tmp_path, content):
    path = tmp_path / "0.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"0\.npy: damaged, or not an \.npy file of values \(.+\)"):
        arrays.open_npy(path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", named(ARCHIVES))
def test_a_bad_npz_file_is_named(tmp_path, content, reader):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: damaged, or not an \.npz file of values \(.+\)"):
        READERS[reader](path)


def test_undamaged_arrays_are_read(tmp_path):
    (tmp_path / "0.npy").write_bytes(npy())
    np.testing.assert_array_equal(arrays.open_npy(tmp_path / "0.npy"), GOOD)
    (tmp_path / "x.npz").write_bytes(archive(npy()))
    np.testing.assert_array_equal(arrays.read_npz(tmp_path / "x.npz")["image"], GOOD)
    written = {"a": GOOD.T, "b": np.array("text"), "c": np.zeros((0, 3)), "d": np.array(True)}
    arrays.write_npz(tmp_path / "x.npz", written)
    for name, array in arrays.read_npz(tmp_path / "x.npz").items():
        np.testing.assert_array_equal(array, written[name])


def test_what_a_head_promises_is_not_reserved(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(archive(shape("(200000000,)")))
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            arrays.read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F4", "F6_E2M3", "BF16", "F99"])
def test_types_that_numpy_lacks_are_named(tmp_path, dtype):
    pytest.importorskip("safetensors")
    head = json.dumps({"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"\x00\x00")
    with pytest.raises(UserError, match=r"w\.safetensors: damaged, or not a \.safetensors file"):
        pretrained.read_weights(path)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(UserError, match="there is no such file"):
        pretrained.read_weights(tmp_path / f"{name}.npz")
    with pytest.raises(UserError, match="is not a file"):
        qm9_npz.read(tmp_path / f"{name}.npz")


def test_a_label_of_5000_digits(tmp_path):
    (tmp_path / "amazon_train.txt").write_text(f"a.jpg {'9' * 5000}\n")
    with pytest.raises(UserError, match=r"amazon_train\.txt, line 1: label '9+', expected 0 to 30"):
        splits.read_lists(tmp_path, "amazon", ["a.jpg"], 31)


@pytest.mark.parametrize(
    "size",
    ["[Infinity, 3]", "[-3, 3]", "[0, 3]", "[1e400, 3]", "[3]", "3", '["3", "3"]', "[3.5, 3]",
     "[true, true]", f"[{'9' * 5000}, 3]", f"[{10**12}, 3]"],
)  # fmt: skip
def test_a_sample_of_an_impossible_size(tmp_path, size):
    (tmp_path / mark.FILE).write_text(f'{{"dataset": "nyuv2", "size": {size}, "seed": 0}}')
    with pytest.raises(
        UserError, match=r"SAMPLE_DATA\.json: (size: expected height|expected JSON)"
    ):
        mark.read(tmp_path, "nyuv2")


IMAGE, LABEL = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.int8)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": np.zeros((1, 4, 4))}, r"expected images \[N, H, W, 3\]"),
        ({"image": np.zeros((1, 4, 999, 3))}, "not so narrow"),
        ({"image": np.array("text")}, "expected arrays of numbers"),
        ({"target.segmentation": LABEL[:, 1:]}, "target.segmentation: expected"),
        ({"prediction.segmentation": LABEL + 1j}, "expected arrays of numbers"),
        ({"target.segmentation": LABEL == 0}, "expected arrays of numbers"),
        ({"prediction.segmentation": np.full((1, 4, 4), 1e9)}, "at most 1,000 classes"),
        ({"prediction.segmentation": np.full((1, 4, 4), np.nan)}, "at most 1,000 classes"),
        ({"class_names": np.zeros(3)}, "class_names: expected texts"),
        ({"target.$": LABEL, "prediction.$": LABEL}, "expected segmentation, depth"),
        ({"image.a": IMAGE}, "expected images of"),
    ],
)
def test_examples_that_cannot_be_drawn_are_named(tmp_path, change, said):
    path = tmp_path / "x.npz"
    good = {"image": IMAGE, "target.segmentation": LABEL, "prediction.segmentation": LABEL}
    arrays.write_npz(path, good)
    examples_file.read(path)
    arrays.write_npz(path, good | change)
    with pytest.raises(UserError, match=said):
        examples_file.read(path)


WHOLE = {"0.npy": npy(), "x.npz": archive(npy()), "y.npz": archive(npy(), zipfile.ZIP_STORED)}


@settings(
    max_examples=400, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    name=st.sampled_from(sorted(WHOLE)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), max_size=4),
    length=st.none() | st.integers(0, 400),
)
def test_no_array_ends_in_a_traceback(tmp_path, name, changes, length):
    content = WHOLE[name]
    for position, new in changes:
        where = position % len(content)
        content = content[:where] + new + content[where + len(new) :]
    path = tmp_path / name
    path.write_bytes(content[:length])
    with contextlib.suppress(UserError):
        if name == "0.npy":
            arrays.open_npy(path)
        else:
            arrays.read_npz(path)


def test_bytes_beyond_the_values_are_refused(tmp_path):
    (tmp_path / "0.npy").write_bytes(npy() + b"more")
    with pytest.raises(UserError, match=r"28 bytes of values, expected 24 for float32 \(2, 3\)"):
        arrays.open_npy(tmp_path / "0.npy")
