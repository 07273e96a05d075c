"""The settings of the documentation site, which `make docs` builds."""

import inspect
import os
import pathlib
import re
import sys

from docutils import nodes
from sphinx import addnodes

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for `docs.generate`, and `benchmarks.methods`, which it reads

import dbmtl_jax  # noqa: E402
from docs import generate  # noqa: E402
from docs.generated.names import with_shapes_as_code  # noqa: E402

project = "dbmtl_jax"
version = release = dbmtl_jax.__version__
copyright = "The dbmtl_jax authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False
default_role = "py:obj"  # in docstrings, `name` is a link if there is such a name

myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # docstrings say shapes and meanings, which types do not
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True  # as written, not as values
napoleon_google_docstring = True
napoleon_numpy_docstring = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Links to the documentation of Python, JAX and optax need a network.
if os.environ.get("DOCS_NETWORK"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
    }

# GitHub's workflows say where the repository is; a build elsewhere has no links to it.
REPOSITORY = os.environ.get("GITHUB_REPOSITORY")
GITHUB = f"{os.environ.get('GITHUB_SERVER_URL')}/{REPOSITORY}" if REPOSITORY else None

html_theme = "furo"
html_title = "dbmtl_jax"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = (
    {"source_repository": GITHUB, "source_branch": "main", "source_directory": "docs/"}
    if GITHUB
    else {}
)
html_copy_source = False
html_show_sphinx = False


def link_within_the_site(app, docname, source):
    """Links to files outside of docs/, which GitHub shows, lead to their pages or to GitHub."""

    def link(found):
        text, target = found["text"], found["target"]
        if example := re.fullmatch(r"examples/(\w+)\.py", target):
            return f"[{text}](/gallery/{example[1]}.md)"
        return f"[{text}]({GITHUB}/blob/main/{target})" if GITHUB else text

    up = r"(?<!!)\[(?P<text>[^]]*)\]\((?:\.\./)+"
    outside = up + r"(?P<target>(?:examples|results|CONTRIBUTING)[^)]*)\)"
    source[0] = re.sub(outside, link, source[0])


def write_array_shapes_as_code(app, what, name, obj, options, lines):
    """Docstrings write [T, *shape], whose star would begin an emphasis."""
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = [comment_behind(name)]
    lines[:] = with_shapes_as_code("\n".join(lines)).split("\n")


def comment_behind(name):
    """The comment behind a field in the source of its NamedTuple, such as dbmtl_jax.Tasks.rows."""
    _, owner, field = name.rsplit(".", 2)
    source = inspect.getsource(getattr(dbmtl_jax, owner))
    found = re.search(rf"^    {field}: [^#\n]*# (.*)$", source, re.MULTILINE)
    return found[1] if found else ""


def link_names(app, doctree):
    """Code that is the name of something public, such as `db_mtl(3)`, becomes a link to it."""
    for literal in list(doctree.findall(nodes.literal)):
        outer = (nodes.reference, addnodes.pending_xref, addnodes.download_reference, nodes.title)
        found = re.fullmatch(r"(?:dbmtl(?:_jax)?\.)?(\w+)(?:\(.*\))?", literal.astext(), re.DOTALL)
        if isinstance(literal.parent, outer) or not found or found[1] not in dbmtl_jax.__all__:
            continue
        link = addnodes.pending_xref(
            refdomain="py",
            reftype="obj",
            reftarget=f"dbmtl_jax.{found[1]}",
            refdoc=app.env.docname,
            refwarn=True,
        )
        literal.replace_self(link)
        link += literal


def setup(app):
    """Writes the generated pages before Sphinx looks for pages."""
    generate.write(ROOT / "docs", cache=ROOT / "docs" / "_build" / "outputs")
    app.connect("source-read", link_within_the_site)
    app.connect("autodoc-process-docstring", write_array_shapes_as_code)
    app.connect("doctree-read", link_names)
