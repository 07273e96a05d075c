"""The page of results, which is the README's section of that name."""

import pathlib
import re

from docs.generated.pages import ROOT, update


def write(path: pathlib.Path) -> None:
    """Writes the page; the README's links lead elsewhere from there."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = re.search(r"^## Results\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)
    assert section is not None
    text = re.sub(r"^###", "##", section[1], flags=re.MULTILINE)
    text = re.sub(r"\]\(docs/", "](", text)
    text = re.sub(r"(\]\(|src=\")results/", r"\1../results/", text)
    update(path, f"# Results\n{text}")
