"""The rooms of the library, and who may know whom."""

import ast
import pathlib

import pytest

import dbmtl_jax as dbmtl

ROOT = pathlib.Path(dbmtl.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FAMILIES = {"loss_balancing", "gradient_balancing"}
KNOWS = {
    "core": set(),
    "engine": {"core"},
    "composition": {"core"},
    "loss_balancing": {"core"},
    "gradient_balancing": {"core"},
    "hybrid_balancing": {"core", *FAMILIES},
}
"""The rooms that the files of a room may import, beside their own."""


READERS = ("_jaxpr.py", "_convolution.py", "_derivative.py", "_separate.py")
"""The files of the engine that read jaxprs."""


def name_of(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """The modules that a file imports, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports"
            # Of `from a import b`, b may be a module.
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_jax_and_optax_and_nothing_else(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    allowed = {"dbmtl_jax", "jax", "numpy", "optax"}
    if name_of(path).startswith("testing"):
        allowed.add("chex")
    if name_of(path) == "nnx.py":
        allowed.add("flax")
    if path.name == "_types.py":
        allowed.add("jaxtyping")  # only where the program has imported it before
    import sys

    assert roots - set(sys.stdlib_module_names) <= allowed


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_know_only_the_rooms_below_them(path):
    room = path.relative_to(ROOT).parts[0]
    if room not in KNOWS:
        return
    for module in imports(path):
        package, _, rest = module.partition(".")
        if package == "dbmtl_jax" and rest:
            assert rest.partition(".")[0] in KNOWS[room] | {room}, module


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_reads_nothing_private_of_jax(path):
    for module in imports(path):
        assert not module.startswith(("jax._src", "jax.interpreters")), module
        if module.startswith("jax.extend"):
            assert path.name in READERS, f"{module}: only {READERS} read jaxprs"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def test_no_circles():
    """Files can be put in an order in which each imports only those before it."""
    known = {}
    for path in FILES:
        parts = ("dbmtl_jax", *path.relative_to(ROOT).with_suffix("").parts)
        known[".".join(parts).removesuffix(".__init__")] = path
    depends = {
        name: {module for module in imports(path) if module in known and module != name}
        for name, path in known.items()
    }
    # A package imports what it exports; its files import the package's name for its modules.
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    for name, modules in depends.items():
        modules -= {p for p in packages if name.startswith(p + ".")}
    while depends:
        ready = {name for name, modules in depends.items() if not modules & set(depends)}
        assert ready, f"circle among {sorted(depends)}"
        depends = {name: modules for name, modules in depends.items() if name not in ready}


def test_every_public_name_is_documented():
    for name in dbmtl.__all__:
        if callable(getattr(dbmtl, name)) and name != "Labels":
            assert getattr(dbmtl, name).__doc__, name


def test_families_export_functions_and_not_modules():
    from dbmtl_jax.gradient_balancing import cagrad
    from dbmtl_jax.hybrid_balancing import db_mtl
    from dbmtl_jax.loss_balancing import uw

    for function in (cagrad, db_mtl, uw):
        assert callable(function)
