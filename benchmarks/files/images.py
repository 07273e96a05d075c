"""Images as PNG and JPEG, the formats of the data sets.

Pillow would open dozens of others, and start Ghostscript for some. What it raises depends on where
a file is damaged, and is not documented: so every error is one of the file.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from PIL import Image

from benchmarks.errors import UserError
from benchmarks.files.disk import in_a_line

FORMATS = ("JPEG", "PNG")

MOST_PIXELS = 2**26
"""Images with more pixels are refused before they are decoded; those of Cityscapes have 2²¹."""


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[Image.Image]:
    """Opens an image, whose pixels are read when they are needed, in the block.

    Raises:
      UserError: if it is missing, damaged, too large or in another format.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(
                    f"{image.width} × {image.height} pixels, more than any data set has"
                )
            yield image
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: damaged, or not a {' or '.join(FORMATS)} image ({in_a_line(error)})"
        ) from error
