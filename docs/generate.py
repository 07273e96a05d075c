"""Writes the pages of the site that follow from the code: methods, reference and gallery.

`docs/conf.py` calls `write`, so that the pages are as current as the build.  Git ignores them.
`python -m docs.generate FOLDER` writes them without pictures and without what examples print.
"""

import pathlib
import sys

from docs.generated import gallery, methods, reference


def write(folder: pathlib.Path, cache: pathlib.Path | None = None) -> None:
    """Writes all pages into a folder.

    With a cache, which takes minutes when it is empty, methods are drawn and measured, and the
    examples are run for what they print.  It is keyed by the sources.
    """
    methods.write(folder / "methods", cache)
    reference.write(folder / "api")
    gallery.write(folder / "gallery", cache)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
