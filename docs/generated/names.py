"""Public names on the pages: the directives that show them, and what is said of them."""

import ast
import inspect
import itertools
import re
import sys

import dbmtl_jax as dbmtl
from docs.generated.pages import ROOT


def on_the_page_of(name: str) -> list[str]:
    """The public names that are documented on a method's page."""
    return [n for n in (name, f"scale_by_{name}", f"{name}_weights") if n in dbmtl.__all__]


def documented(name: str, module: str = "dbmtl_jax") -> str:
    """The directive that shows a public name."""
    if name == "scale_by_mtadam":  # a second name of the same function
        return f".. py:data:: {module}.{name}\n\n   {_said_below(name)}"
    found = getattr(sys.modules[module], name)
    function = inspect.isroutine(found) or hasattr(found, "__wrapped__")
    if not function and not isinstance(found, type):
        return f".. py:data:: {module}.{name}\n\n   {_said_below(name)}"
    if isinstance(found, type):
        return f".. autoclass:: {module}.{name}\n   :members:\n   :undoc-members:"
    return f".. autofunction:: {module}.{name}"


def _said_below(name: str) -> str:
    """The string below the definition of a name in the library's source."""
    for path in sorted((ROOT / "dbmtl_jax").rglob("*.py")):
        body = ast.parse(path.read_text("utf-8")).body
        for statement, below in itertools.pairwise(body):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            if (
                isinstance(statement, ast.Assign | ast.AnnAssign)
                and getattr(targets[0], "id", None) == name
                and isinstance(below, ast.Expr)
            ):
                return with_shapes_as_code(" ".join(ast.literal_eval(below.value).split()))
    raise LookupError(f"{name} is not described below its definition")


def with_shapes_as_code(text: str) -> str:
    """Text of a docstring in which [T, *shape], whose star begins an emphasis, is code."""
    code_or_shape = r"``.*?``|`[^`]*`|(\[[^][`]*\*\w[^][`]*\])"
    return re.sub(code_or_shape, lambda m: f"``{m[1]}``" if m[1] else m[0], text)
