"""Pages that programs write are current, code in pages runs, and links lead somewhere."""

import collections
import contextlib
import io
import pathlib
import re
import textwrap

import jax
import pytest

import dbmtl_jax as dbmtl
from docs import generate, properties
from docs.generated import gallery, reference

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "guides").glob("*.md"))
# A page's code, what the page says that it prints, and the code in comments, which nobody reads.
BLOCK = re.compile(
    r"^ *```(?P<kind>python|text)\n(?P<text>.*?)^ *```$|^<!-- python\n(?P<hidden>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
WITH_CODE = [page for page in PAGES if "```python" in page.read_text("utf-8")]
NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")


def name_of(page):
    return str(page.relative_to(ROOT))


def test_the_table_of_properties_is_current():
    written = properties.PAGE.read_text("utf-8")
    assert written == properties.page(), "python docs/properties.py writes it anew"


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs(page, monkeypatch):
    """All blocks in order; a block of text behind one is what it prints, up to rounding."""
    for module in ("flax", "equinox"):
        if f"import {module}" in page.read_text("utf-8"):
            pytest.importorskip(module)
    monkeypatch.chdir(ROOT)
    code, expected = [], []
    for block in BLOCK.finditer(page.read_text("utf-8")):
        if block["kind"] == "text":
            expected[-1] = block["text"]
        else:
            code.append(textwrap.dedent(block["hidden"] or block["text"]))
            expected.append(None)
    names: dict = {"__name__": "page"}
    for text, wanted in zip(code, expected, strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_rank_promotion("allow"):  # as for users
            exec(compile(text, name_of(page), "exec"), names)
        if wanted is not None:
            assert_printed(printed.getvalue(), wanted)


def assert_printed(found, wanted):
    """The same words, and numbers that differ by a hundredth at most."""
    words, numbers = (NUMBER.split(text) for text in (found, wanted)), []
    for text in (found, wanted):
        numbers.append([float(number) for number in NUMBER.findall(text)])
    first, second = ([" ".join(word.split()) for word in text] for text in words)
    assert first == second, found
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-2), found


def headings(page):
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    found = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    plain = (re.sub(r"[`*]|\]\(.*?\)|\[", "", heading).lower() for heading in found)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_dead(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in headings(found), f"{target}: there is no such heading"


def test_every_public_name_has_one_place_on_the_site():
    places = collections.Counter(reference.names_on_pages())
    assert set(places) == set(dbmtl.__all__)
    assert max(places.values()) == 1, places.most_common(3)


def test_the_changelog_and_the_citation_have_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## (\d\S*) - (\S+)$", changelog, re.MULTILINE)
    assert released[0][0] == dbmtl.__version__
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == dbmtl.__version__
    assert re.search(r"^date-released: (.*)$", citation, re.MULTILINE)[1] == released[0][1]


def test_every_page_is_in_the_navigation():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    named = set(re.findall(r"^[\w/]+$", index, re.MULTILINE))
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if ROOT / "docs" in page.parents]
    generated = ("methods", "api", "gallery")
    written = {page.with_suffix("").as_posix() for page in pages if page.parts[0] not in generated}
    assert written - {"index"} <= named


def test_the_gallery_shows_every_example():
    assert set(gallery.GALLERY) == {path.stem for path in gallery.EXAMPLES.glob("*.py")}


def test_the_generated_pages_can_be_written(tmp_path):
    generate.write(tmp_path)
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")}
    assert {f"methods/{name}.md" for name in dbmtl.METHODS} < pages
    for link in re.findall(r"\]\((\w+\.md)\)", (tmp_path / "gallery/index.md").read_text("utf-8")):
        assert f"gallery/{link}" in pages
