"""Convolutions that are quick to transpose on CPUs, also in loops and branches.

XLA's CPU backend is quick for one layout of a convolution's arrays.  It brings every convolution
of a program into that layout, but not those in the bodies of loops and in branches, where the
gradient of a filter, for which the axes of batch and features change places, takes tens of times as
long.  So what is going to be transposed there lays out its arrays such that its transpose has them
in that layout from the start.  Elsewhere the backend does this better.
"""

import functools
from collections.abc import Sequence
from itertools import groupby

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Var
from jax.lax import ConvDimensionNumbers

from dbmtl_jax.core._types import Array
from dbmtl_jax.engine._jaxpr import Values, run, value_of

PRIMITIVE = "conv_general_dilated"


def run_transposable(
    jaxpr: Jaxpr, equations: Sequence[JaxprEqn], values: Values, known: Values, *, unrolled: bool
) -> None:
    """`run` for equations that are going to be transposed.

    Args:
      jaxpr, equations, values: see `run`.
      known: the values that are constants.
      unrolled: whether the transpose is neither within a loop nor within a branch.
    """
    if unrolled:
        run(jaxpr, equations, values)
        return
    for is_convolution, group in groupby(equations, _can_be_laid_out):
        if not is_convolution:
            run(jaxpr, list(group), values)
            continue
        for equation in group:
            images, filters = (value_of(atom, values) for atom in equation.invars)
            (output,) = equation.outvars
            laid_out = functools.partial(
                _laid_out, equation, of_filters=equation.invars[0] in known
            )
            as_it_is = functools.partial(equation.primitive.bind, **equation.params)
            values[output] = jax.lax.platform_dependent(
                images, filters, cpu=laid_out, default=as_it_is
            )


def _can_be_laid_out(equation: JaxprEqn) -> bool:
    return (
        equation.primitive.name == PRIMITIVE
        and equation.params["feature_group_count"] == equation.params["batch_group_count"] == 1
        and all(isinstance(atom, Var) for atom in equation.invars)
    )


def _laid_out(equation: JaxprEqn, images: Array, filters: Array, *, of_filters: bool) -> Array:
    """A convolution whose transpose has images [N, *space, I], filters [*space, I, O].

    Args:
      equation: the convolution.
      images, filters: its operands.
      of_filters: whether it is to be transposed as a function of its filters; else of its images.
    """
    old: ConvDimensionNumbers = equation.params["dimension_numbers"]
    n = images.ndim - 2
    space = tuple(range(n))
    inner = tuple(range(1, n + 1))
    if of_filters:
        # Transposed, the images' features are a batch, and their batch is what is summed over.
        new = ConvDimensionNumbers((n + 1, 0, *inner), (n + 1, 0, *inner), (n, n + 1, *space))
    else:
        new = ConvDimensionNumbers((0, n + 1, *inner), (n, n + 1, *space), (0, n + 1, *inner))
    result = equation.primitive.bind(
        _moved(images, old.lhs_spec, new.lhs_spec),
        _moved(filters, old.rhs_spec, new.rhs_spec),
        **equation.params | {"dimension_numbers": new},
    )
    return _moved(result, new.out_spec, old.out_spec)


def _moved(array: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """An array whose axes have the places `new`, of one where they have the places `old`."""
    places = dict(zip(new, old, strict=True))
    return jnp.transpose(array, [places[i] for i in range(array.ndim)])
