"""Checks the annotations of the library, shapes included, at every call in the tests.

jaxtyping puts `check` around every function of `dbmtl_jax`.  Public functions, and those that
document what they raise, check their arguments themselves, with better messages: these are left
alone.
"""

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from beartype import BeartypeConf, beartype

_CHECKED = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Has beartype check a function, unless it checks its arguments itself."""
    if function.__qualname__ in _checks_itself(function.__module__):
        return function
    return _CHECKED(function)


@functools.cache
def _checks_itself(module: str) -> frozenset[str]:
    """The qualified names of a module's functions that are to be left alone."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return frozenset()
    tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))
    raising = {
        name for name, node in _functions(tree, "") if "Raises:" in (ast.get_docstring(node) or "")
    }
    return frozenset(raising) | _public()


@functools.cache
def _public() -> frozenset[str]:
    """What the packages of the library export."""
    spec = importlib.util.find_spec("dbmtl_jax.core")  # its parent would be imported in any case
    root = pathlib.Path(str(spec.origin if spec else "")).parent.parent
    names: set[str] = set()
    for path in root.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names |= set(ast.literal_eval(node.value))
    return frozenset(names)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)
