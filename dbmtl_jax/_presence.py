"""Which tasks take part in a step.

A task takes part unless the caller's `task_mask` leaves it out, or its loss or gradient is not
finite.  Between chained transformations a task that has no usable gradient travels as rows of
NaN, the one value that no gradient can legitimately have: whoever scales gradients by a weight
that does not exist (the log of a negative loss) writes NaN, and whoever keeps or sums gradients
reads it here.  So parts that know nothing of each other agree without a side channel, also when
other elementwise transformations stand between them.

Under `jax_debug_nans` nobody reads it: the NaN reaches the update and JAX raises, which is the
strict mode of this library.
"""

from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax import _partition
from dbmtl_jax._task_linalg import squared_norms


def squared_norms_and_presence(
    updates: Any, labels: Any, task_mask: jax.Array, losses: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """‖g_t‖² over the shared leaves and which tasks are present, both [T].

    The sum of squares is what finds a NaN or an infinity: one vectorised reduction, where a
    pass of `isfinite` costs ten times as much on a CPU.  A gradient whose squared norm
    overflows (‖g_t‖ > 1.8e19 in float32) therefore counts as not finite.
    """
    num_tasks = task_mask.shape[0]
    squares = squared_norms(_partition.shared_leaves(labels, updates), num_tasks)
    if jax.config.jax_debug_nans:  # type: ignore[attr-defined]
        return squares, task_mask
    finite = squares
    for task, leaf in _partition.task_leaves(labels, updates):
        finite = finite.at[task].add(squared_norms([leaf[None]], 1)[0])
    present = task_mask & jnp.isfinite(finite)
    if losses is not None:
        present &= jnp.isfinite(losses)
    return squares, present
