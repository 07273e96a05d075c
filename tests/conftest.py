"""Strict settings for every test: no silent broadcasting of ranks, warnings are errors."""

import pathlib

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

# Compilation is most of the suite's time; a second run reads it from here.
_CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield
