"""Random stacked gradients, small enough to reason about and with several leaves."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dbmtl_jax as dbmtl

SHAPES = {"dense": {"kernel": (3, 2), "bias": (2,)}, "scale": ()}
"""The tree of parameters that most tests use: nested, with a matrix, a vector and a scalar."""


METHODS = dict(dbmtl.METHODS) | {
    "igbv2": functools.partial(
        dbmtl.igbv2, hidden_sizes=(4,), buffer_size=8, batch_size=4, train_every=2
    )
}
"""`dbmtl_jax.METHODS` with an agent small enough for tests."""


def is_shape(x: Any) -> bool:
    return isinstance(x, tuple)


def params_like(shapes: Any = SHAPES, dtype: Any = jnp.float32) -> Any:
    return jax.tree.map(lambda s: jnp.zeros(s, dtype), shapes, is_leaf=is_shape)


def task_grads(
    num_tasks: int, seed: int = 0, shapes: Any = SHAPES, dtype: Any = jnp.float32
) -> Any:
    """Stacked gradients [T, *shape] whose tasks differ in scale by up to a factor of a hundred."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-1, 1, num_tasks)

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


MATRIX_SHAPES = {"kernel": (3, 4), "bias": (4,)}
"""P = 16 parameters, more than the largest number of tasks."""


def matrices(num_tasks: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Gradients [T, 16] of every kind that makes methods fail, by name."""
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


def unflatten(gradients: np.ndarray, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """[T, 16] as stacked leaves of `MATRIX_SHAPES`."""
    kernel, bias = np.split(gradients, [12], axis=1)
    return {
        "kernel": jnp.asarray(kernel.reshape(-1, 3, 4), dtype),
        "bias": jnp.asarray(bias, dtype),
    }
