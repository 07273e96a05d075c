"""Strict settings for every test: no silent broadcasting of ranks, warnings are errors.

Annotations are checked, too.
"""

import os
import pathlib

import hypothesis
import jax
import jaxtyping
import pytest

from tests.helpers import compiled_programs, fast_compilation, typechecker

fast_compilation.set_flags()

# Tests never time anything: on a busy machine any example takes long.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

jax.config.update("jax_numpy_rank_promotion", "raise")

# Before anything imports the library.
jaxtyping.install_import_hook("dbmtl_jax", f"{typechecker.__name__}.check")

# Compilation is most of the suite's time; a second run reads it from here, in any clone.
_CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "dbmtl_jax" / "tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    yield
    compiled_programs.let_go()


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
