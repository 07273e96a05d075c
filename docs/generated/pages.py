"""What all generated pages are written with: directives of Sphinx, and files."""

import pathlib
from collections.abc import Iterable

ROOT = pathlib.Path(__file__).parents[2]


def rst(*directives: str) -> str:
    """Directives of reStructuredText, which docstrings are written in, in a page of Markdown."""
    return "```{eval-rst}\n" + "\n\n".join(directives) + "\n```\n"


def toctree(pages: Iterable[str], *, hidden: bool = False) -> str:
    """The directive that lists pages."""
    options = ":hidden:\n" if hidden else ":maxdepth: 1\n"
    return "```{toctree}\n" + options + "\n" + "\n".join(pages) + "\n```\n"


def update(path: pathlib.Path, text: str) -> None:
    """Writes a file if that changes it: Sphinx reads changed files again."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
