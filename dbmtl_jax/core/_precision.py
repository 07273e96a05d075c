"""How precisely products of matrices are computed, which JAX settles when it traces them.

By default an accelerator rounds what it multiplies: TPUs to bfloat16, GPUs to TF32 if they like.
Networks bear that.  A solver of a [T, T] problem does not: it takes the rounding for a slope and
does not converge, while its products cost nothing.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def exact_products(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, with products as precise as the dtype of their factors."""
    return _with_precision(function, "highest")


def products_as_now(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, with the precision that holds now, wherever it is called later."""
    now = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return _with_precision(function, now)


def _with_precision(
    function: Callable[Arguments, Result], precision: str | None
) -> Callable[Arguments, Result]:
    @functools.wraps(function)
    def called(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return called
