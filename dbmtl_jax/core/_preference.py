"""A user's priorities among the tasks."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core._names import numbers
from dbmtl_jax.core._types import Array, Mask, PerTask

Preference: TypeAlias = Array | Sequence[float] | Mapping[str, float] | None
"""Positive numbers, one for each task, of which only the ratios count; None: all the same."""


def priorities(preference: Preference, num_tasks: int) -> PerTask | None:
    """The preference as numbers [T] of which the largest is 1; None for None.

    Raises:
      TypeError: for a mapping where the tasks have no names, or the other way round.
      ValueError: for another shape, and for a number that is not positive and finite.
    """
    if preference is None:
        return None
    array = numbers("preference", preference, num_tasks)
    if isinstance(array, np.ndarray) and not np.all((array > 0) & np.isfinite(array)):
        raise ValueError(f"preference: expected positive numbers, found {array}")
    # Equal numbers become exactly 1.
    return array / array.max()


def relative(preference: PerTask | None, present: Mask) -> PerTask:
    """The preference as factors u [T] of the present tasks with the mean 1; 0 for the others."""
    if preference is None:
        return jnp.where(present, 1.0, 0.0)
    wanted = jnp.where(present, preference, 0)
    total = jnp.sum(wanted)
    # Equal numbers stay exactly 1.
    return wanted * (jnp.sum(present) / jnp.where(total > 0, total, 1))


def shares(preference: PerTask | None, present: Mask) -> PerTask:
    """The preference as shares u [T] of the present tasks, with the sum 1.

    Args:
      preference: what `priorities` returned.
      present: the tasks to which all is given.
    """
    wanted = jnp.where(present, 1.0 if preference is None else preference, 0)
    total = jnp.sum(wanted)
    return wanted / jnp.where(total > 0, total, 1)
