"""Pending gradients in float16, whose largest number is 65,504."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core._task_linalg import accumulation_dtype, wide_dtype
from dbmtl_jax.core._types import Array, Scalar
from dbmtl_jax.engine._jacobian import Jacobian


def without_overflow(jacobian: Jacobian) -> Jacobian:
    """The same rows, in float32, whose cotangents may be scaled by any number.

    A weight such as 1/ℓ = 5e5 must not meet a cotangent in float16.  So cotangents are kept in
    float32, and one that is pulled back is first brought to the size of the tasks' own, by a power
    of two, which the result is multiplied with.
    """
    structs = jax.eval_shape(lambda one: list(jacobian.piece(0, one)), jnp.ones(()))
    dtypes = [c.dtype for c in structs]
    if not any(map(_is_float16, dtypes)):
        return jacobian
    stored = jacobian.stored
    usual = jnp.ones(()) if stored is None else jnp.max(jnp.stack([*map(_largest, stored)]))

    def pull(cotangents: Sequence[Array], *, unrolled: bool = False) -> list[Array]:
        factor = jnp.exp2(jnp.floor(jnp.log2(_largest(cotangents) / usual)))
        factor = jnp.where(jnp.isfinite(factor) & (factor > 0), factor, 1)
        sized = [(c / factor).astype(d) for c, d in zip(cotangents, dtypes, strict=True)]
        pulled = jacobian.pull(sized, unrolled=unrolled)
        return [factor * leaf.astype(wide_dtype(leaf)) for leaf in pulled]

    return dataclasses.replace(
        jacobian,
        piece=lambda task, one: _wide(jacobian.piece(task, one)),
        stored=None if stored is None else [_wide(row) for row in stored],
        pull=pull,
    )


def _is_float16(dtype: jnp.dtype) -> bool:
    return jnp.finfo(dtype).maxexp < jnp.finfo(jnp.float32).maxexp


def _wide(arrays: Sequence[Array]) -> list[Array]:
    return [x.astype(wide_dtype(x)) for x in arrays]


def _largest(arrays: Sequence[Array]) -> Scalar:
    """The largest finite entry's size."""
    sizes = [jnp.abs(x).astype(accumulation_dtype(x)) for x in arrays]
    return jnp.max(jnp.stack([jnp.max(jnp.where(jnp.isfinite(x), x, 0), initial=0) for x in sizes]))
