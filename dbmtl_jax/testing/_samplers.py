"""Task gradients for tests: well-behaved ones, and those that make methods fail."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbmtl_jax.core._types import Array, PerTask, PyTree

SHAPES = {"dense": {"kernel": (3, 2), "bias": (2,)}, "scale": ()}
"""A tree of parameters with a matrix, a vector and a scalar."""


def is_shape(x: Any) -> bool:
    """Whether a node of a tree of shapes is a shape."""
    return isinstance(x, tuple)


def sample_params(shapes: PyTree = SHAPES, dtype: Any = jnp.float32) -> PyTree:
    """Parameters of zeros.

    Args:
      shapes: a tree of tuples.
      dtype: the dtype of the leaves.
    """
    return jax.tree.map(lambda s: jnp.zeros(s, dtype), shapes, is_leaf=is_shape)


def sample_task_grads(
    num_tasks: int, seed: int = 0, shapes: PyTree = SHAPES, dtype: Any = jnp.float32
) -> PyTree:
    """Stacked gradients [T, *shape] whose tasks differ in scale by up to a factor of a hundred.

    Args:
      num_tasks: T, the number of tasks.
      seed: the seed of the draw.
      shapes: a tree of tuples.
      dtype: the dtype of the leaves.
    """
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-1, 1, num_tasks)

    def leaf(shape: tuple[int, ...]) -> Array:
        values = rng.normal(size=(num_tasks, *shape))
        return jnp.asarray(values * scales.reshape(-1, *[1] * len(shape)), dtype)

    return jax.tree.map(leaf, shapes, is_leaf=is_shape)


def sample_losses(num_tasks: int, seed: int = 0, dtype: Any = jnp.float32) -> PerTask:
    """Losses [T] between 0.1 and 5."""
    return jnp.asarray(np.random.default_rng(seed + 1).uniform(0.1, 5.0, num_tasks), dtype)


def hard_gradients(num_tasks: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Gradients [T, 16] of kinds that often make methods fail, by the name of the kind.

    The kinds are "full rank", "one scale each", "rank deficient", "collinear", "zero", "tiny"
    (1e-15) and "huge" (1e15); for more than one task also "opposite", "a zero row" and
    "Pareto-stationary".

    Args:
      num_tasks: T, the number of tasks.
      seed: the seed of the draw.

    Example:
      >>> from dbmtl_jax import testing
      >>> gradients = testing.hard_gradients(3)
      >>> gradients["huge"].shape, len(gradients)
      ((3, 16), 10)
    """
    rng = np.random.default_rng([num_tasks, seed])
    T, P = num_tasks, 16
    full = rng.normal(size=(T, P))
    rank = max(T // 2, 1)
    direction = rng.normal(size=P)
    lengths = rng.uniform(0.3, 3, T)
    kinds = {
        "full rank": full,
        "one scale each": full * 10.0 ** rng.uniform(-1.5, 1.5, (T, 1)),
        "rank deficient": rng.normal(size=(T, rank)) @ rng.normal(size=(rank, P)),
        "collinear": np.outer(lengths, direction),
        "zero": np.zeros((T, P)),
        "tiny": 1e-15 * full,
        "huge": 1e15 * full,
    }
    if T > 1:
        signs = np.where(np.arange(T) % 2 == 0, 1, -1)
        with_zero = full.copy()
        with_zero[T // 2] = 0
        stationary = full.copy()
        mixture = rng.uniform(0.2, 1, T - 1)
        stationary[-1] = -mixture @ full[:-1]
        kinds |= {
            "opposite": np.outer(lengths * signs, direction),
            "a zero row": with_zero,
            "Pareto-stationary": stationary,
        }
    return kinds
