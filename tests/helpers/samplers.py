"""Random stacked gradients, small enough to reason about and with several leaves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SHAPES = {"dense": {"kernel": (3, 2), "bias": (2,)}, "scale": ()}
"""The tree of parameters that most tests use: nested, with a matrix, a vector and a scalar."""


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def params_like(shapes: Any = SHAPES, dtype: Any = jnp.float32) -> Any:
    return jax.tree.map(lambda s: jnp.zeros(s, dtype), shapes, is_leaf=is_shape)


def task_grads(
    num_tasks: int, seed: int = 0, shapes: Any = SHAPES, dtype: Any = jnp.float32
) -> Any:
    """Stacked gradients [T, *shape] whose tasks differ in scale by factors of ten."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-2, 2, num_tasks)

    def leaf(shape):
        values = rng.normal(size=(num_tasks, *shape))
        return jnp.asarray(values * scales.reshape(-1, *[1] * len(shape)), dtype)

    return jax.tree.map(leaf, shapes, is_leaf=is_shape)


def losses(num_tasks: int, seed: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed + 1).uniform(0.1, 5.0, num_tasks), dtype)


def flat(tree: Any) -> np.ndarray:
    """Stacked leaves as one [T, P] array, for the oracles."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def flat_update(tree: Any) -> np.ndarray:
    """Aggregated leaves as one [P] array."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
