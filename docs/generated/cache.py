"""What takes long to make is made once for the same sources: pictures, and what programs print."""

import functools
import hashlib
import pathlib
from collections.abc import Callable

from docs.generated.pages import ROOT


@functools.cache
def key(*sources: pathlib.Path) -> str:
    """A name for the present sources of the library and some files."""
    paths = [*sources, *sorted((ROOT / "dbmtl_jax").rglob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def kept_text(cache: pathlib.Path, name: str, make: Callable[[], str]) -> str:
    """A text from the cache, or made now and kept there."""
    kept = cache / f"{name}.txt"
    if not kept.exists():
        kept.write_text(make(), "utf-8")
    return kept.read_text("utf-8")
