"""The Jacobian of T losses as functions, of which nothing is computed until it is asked for.

Row t of the Jacobian J is a pullback of a cotangent, J_t = f(c_t), and f is linear.  So a weighted
sum of rows is one pullback of the weighted cotangent, norms need one row at a time, and the
Gramian J Jᵀ is made of columns J J_tᵀ, each a row pushed forward again.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._types import Array, PyTree


class Jacobian(NamedTuple):
    """T gradients with regard to the shared leaves, as functions."""

    pull: Callable[[PyTree], list[Array]]  # a cotangent to the shared leaves
    cotangents: PyTree  # leaves [T, ...]: row t of the Jacobian is pull(cotangents[t])
    linearize: Callable[[], Callable[[list[Array]], PyTree]]  # () -> (shared leaves -> tangent)
    unroll: bool  # whether tasks follow each other in the program; else they run in a loop


def jacobian_of(
    fun: Callable[[PyTree], PyTree],
    params: PyTree,
    pullback: Callable[[PyTree], PyTree],
    cotangents: PyTree,
    labels: PyTree,
    *,
    unroll: bool,
) -> Jacobian:
    """The Jacobian of ⟨c_t, fun(params)⟩, t = 1 … T, given the pullback of `fun` at `params`.

    Args:
      fun: params -> a tree of arrays.
      params: its argument.
      pullback: a cotangent of what `fun` returns to one of params.
      cotangents: c, leaves [T, ...].
      labels: of params, one per leaf; the shared leaves are those of the Jacobian.
      unroll: whether tasks follow each other in the program.
    """
    leaves, structure = jax.tree.flatten(params)
    is_shared = [label == _labels.SHARED for label in jax.tree.leaves(labels)]

    def pull(cotangent: PyTree) -> list[Array]:
        pulled = zip(jax.tree.leaves(pullback(cotangent)), is_shared, strict=True)
        return [leaf for leaf, here in pulled if here]

    def linearize() -> Callable[[list[Array]], PyTree]:
        push = jax.linearize(fun, params)[1]

        def push_shared(row: list[Array]) -> PyTree:
            rest = iter(row)
            tangents = [
                next(rest) if here else jnp.zeros_like(leaf)
                for leaf, here in zip(leaves, is_shared, strict=True)
            ]
            return push(jax.tree.unflatten(structure, tangents))

        return push_shared

    return Jacobian(pull, cotangents, linearize, unroll)
