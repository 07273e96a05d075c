"""Images in formats of no data set, and those that would be too large once decoded."""

import io
import struct
import zlib

import pytest

pytest.importorskip("PIL")

from PIL import Image

from benchmarks.errors import UserError
from benchmarks.files import images


def chunk(kind, content):
    end = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + end


def png(width, height):
    """A file that says it has this many pixels, and has none."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def picture(form):
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_the_formats_of_the_data_sets_are_read(tmp_path, form):
    path = tmp_path / "0.jpg"
    path.write_bytes(picture(form))
    with images.opened(path) as image:
        assert image.convert("RGB").size == (4, 3)


@pytest.mark.parametrize("form", ["EPS", "PDF", "ICO", "BMP", "GIF", "TIFF", "PPM", "WEBP"])
def test_other_formats_are_refused(tmp_path, form):
    path = tmp_path / "0.jpg"
    path.write_bytes(picture(form))
    with (
        pytest.raises(UserError, match=r"0\.jpg: damaged, or not a JPEG or PNG image"),
        images.opened(path) as image,
    ):
        image.load()


@pytest.mark.parametrize(
    "content",
    [
        png(9000, 9000),
        png(10_000, 10_000),
        png(2**31 - 1, 2**31 - 1),
        png(0, 5),
        png(5, 5),
        b"",
        b"\x89PNG\r\n\x1a\n",
        picture("PNG")[:45],
        picture("JPEG")[:300],
    ],
    ids=["too large", "a bomb", "of 2⁶² pixels", "of none", "without pixels", "empty", "a head",
         "half a PNG", "half a JPEG"],
)  # fmt: skip
def test_a_bad_image_is_one_line(tmp_path, content):
    path = tmp_path / "0.png"
    path.write_bytes(content)
    with (
        pytest.raises(UserError, match=r"0\.png: damaged, or not a JPEG or PNG image \(.+\)"),
        images.opened(path) as image,
    ):
        image.load()


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    path = tmp_path / "0.png"
    path.write_bytes(png(8193, 8193))
    with pytest.raises(UserError, match="8193 × 8193 pixels"), images.opened(path) as image:
        image.load()
