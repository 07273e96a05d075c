"""What a method promises about its update, as asserts that are the same for all methods.

Each asserts it of a first step, when all that a method learns or averages is where it starts.
All take the same arguments:

  factory
    `num_tasks -> transformation`.
  num_tasks
    T.
  kinds
    on which of the `hard_gradients` it is asserted; None: on all of them.
  seed
    of the gradients and of whatever else is drawn.
  rtol
    the deviation that is tolerated, relative to the length of the update, or to rounding errors of
    the gradients where the update nearly vanishes.

They raise AssertionError, with the kind of gradients and the deviation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.testing._samplers import hard_gradients

Factory = Callable[[int], optax.GradientTransformation]
"""num_tasks -> the transformation."""

NON_DEGENERATE = ("full rank",)
"""The kinds of `hard_gradients` on which an update is well conditioned."""


class FirstUpdate:
    """`update(gradients [T, 16], losses [T] = 1) -> [16]`: what a fresh instance does first.

    `state` is the state after the last call.
    """

    def __init__(self, factory: Factory, num_tasks: int) -> None:
        self._num_tasks = num_tasks
        self._params = {"bias": jnp.zeros(4), "kernel": jnp.zeros((3, 4))}
        tx = optax.with_extra_args_support(factory(num_tasks))
        self._first = tx.init(self._params)
        self._update = jax.jit(
            lambda grads, losses: tx.update(grads, self._first, self._params, losses=losses)
        )
        self.state: Any = self._first

    def __call__(self, gradients: np.ndarray, losses: np.ndarray | None = None) -> np.ndarray:
        bias, kernel = np.split(gradients, [4], axis=1)
        grads = {
            "bias": jnp.asarray(bias, jnp.float32),
            "kernel": jnp.asarray(kernel.reshape(-1, 3, 4), jnp.float32),
        }
        values = np.ones(self._num_tasks) if losses is None else losses
        updates, self.state = self._update(grads, jnp.asarray(values, jnp.float32))
        return np.concatenate([updates["bias"], np.ravel(updates["kernel"])]).astype(np.float64)


@functools.lru_cache(maxsize=256)
def first_update(factory: Factory, num_tasks: int) -> FirstUpdate:
    """The first update of a fresh instance, compiled once for each factory and T.

    Example:
      >>> import numpy as np, dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> update = testing.first_update(dbmtl.ew, num_tasks=2)
      >>> print(update(np.ones((2, 16)))[:3])
      [2. 2. 2.]
    """
    return FirstUpdate(factory, num_tasks)


def assert_permutation_equivariant(
    factory: Factory,
    num_tasks: int = 3,
    *,
    kinds: Sequence[str] = NON_DEGENERATE,
    seed: int = 0,
    rtol: float = 1e-4,
) -> None:
    """Asserts that the order of the tasks does not matter.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_permutation_equivariant(dbmtl.mgda)
      >>> testing.assert_permutation_equivariant(dbmtl.meta_balance)  # the first task is its target
      Traceback (most recent call last):
      ...
      AssertionError: full rank gradients, permuted: the update is off by ...
    """
    update, rng = first_update(factory, num_tasks), np.random.default_rng(seed)
    order, losses = rng.permutation(num_tasks), rng.uniform(0.3, 3, num_tasks)
    for kind, gradients in _of(kinds, num_tasks, seed):
        expected = update(gradients, losses)
        found = update(gradients[order], losses[order])
        _assert_close(found, expected, gradients, rtol, f"{kind} gradients, permuted")


def assert_linear_under_scaling(
    factory: Factory,
    num_tasks: int = 3,
    *,
    kinds: Sequence[str] = NON_DEGENERATE,
    seed: int = 0,
    rtol: float = 1e-4,
) -> None:
    """Asserts that A(diag(c) G) is linear in c > 0, where A(G) is the update.

    So a task counts for more if its loss is multiplied, and the learning rate keeps its meaning.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_linear_under_scaling(dbmtl.pcgrad)
    """
    update, rng = first_update(factory, num_tasks), np.random.default_rng(seed)
    a, b = rng.uniform(0.2, 3, (2, num_tasks, 1))
    losses = rng.uniform(0.3, 3, num_tasks)
    for kind, gradients in _of(kinds, num_tasks, seed):
        parts = update(a * gradients, losses) + update(b * gradients, losses)
        found = update((a + b) * gradients, losses)
        _assert_close(found, parts, gradients, rtol, f"{kind} gradients, scaled task by task")


def assert_homogeneous(
    factory: Factory,
    num_tasks: int = 3,
    *,
    degree: float = 1.0,
    kinds: Sequence[str] = NON_DEGENERATE,
    seed: int = 0,
    rtol: float = 1e-4,
) -> None:
    """Asserts that A(s G) = s^d A(G) for s > 0, where A(G) is the update and d is `degree`.

    With d = 0 the length of the update does not depend on that of the gradients.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_homogeneous(dbmtl.cagrad)
      >>> testing.assert_homogeneous(dbmtl.nash_mtl, degree=0.0)
    """
    update, rng = first_update(factory, num_tasks), np.random.default_rng(seed)
    losses = rng.uniform(0.3, 3, num_tasks)
    for kind, gradients in _of(kinds, num_tasks, seed):
        expected = update(gradients, losses)
        for scale in (0.01, 100.0):
            found = update(scale * gradients, losses) / scale**degree
            _assert_close(found, expected, gradients, rtol, f"{kind} gradients times {scale:g}")


def assert_scale_invariant(
    factory: Factory,
    num_tasks: int = 3,
    *,
    kinds: Sequence[str] = NON_DEGENERATE,
    seed: int = 0,
    rtol: float = 1e-4,
) -> None:
    r"""Asserts that the unit of no loss matters: c_t ℓ_t and c_t g_t give the update of ℓ_t, g_t.

    That is what balancing the scales of losses means; taking their logarithm achieves it (DB-MTL,
    Section 3.1).

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_scale_invariant(dbmtl.db_mtl)
      >>> testing.assert_scale_invariant(dbmtl.ew)
      Traceback (most recent call last):
      ...
      AssertionError: full rank gradients, losses in other units: the update is off by ...
    """
    update, rng = first_update(factory, num_tasks), np.random.default_rng(seed)
    losses, scales = rng.uniform(0.3, 3, (2, num_tasks))
    scales = 10.0 ** (scales - 1.5)
    for kind, gradients in _of(kinds, num_tasks, seed):
        expected = update(gradients, losses)
        found = update(scales[:, None] * gradients, scales * losses)
        _assert_close(found, expected, gradients, rtol, f"{kind} gradients, losses in other units")


def assert_non_conflicting(
    factory: Factory,
    num_tasks: int = 3,
    *,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    rtol: float = 2e-3,
) -> None:
    """Asserts that no task's loss grows along the update.

    Here `rtol` is how negative a cosine between a gradient and the update may be, as float32
    does not resolve better where gradients cancel.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_non_conflicting(dbmtl.mgda)
      >>> testing.assert_non_conflicting(dbmtl.ew)
      Traceback (most recent call last):
      ...
      AssertionError: ... gradients: the update conflicts with a task, the cosines are ...
    """
    update = first_update(factory, num_tasks)
    kinds = tuple(hard_gradients(num_tasks)) if kinds is None else kinds
    for kind, gradients in _of(kinds, num_tasks, seed):
        direction = update(gradients)
        length = max(float(np.linalg.norm(direction)), _largest(gradients) / 10)
        scale = np.linalg.norm(gradients, axis=1) * length
        cosines = gradients @ direction / np.where(scale > 0, scale, 1)
        if not np.all(cosines >= -rtol):
            raise AssertionError(
                f"{kind} gradients: the update conflicts with a task, the cosines are {cosines}"
            )


def assert_equal_projections(
    factory: Factory,
    num_tasks: int = 3,
    *,
    kinds: Sequence[str] = NON_DEGENERATE,
    seed: int = 0,
    rtol: float = 1e-3,
) -> None:
    """Asserts that the update's components along all gradients are the same.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_equal_projections(dbmtl.imtl_g)
    """
    update = first_update(factory, num_tasks)
    for kind, gradients in _of(kinds, num_tasks, seed):
        direction = update(gradients)
        units = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
        projections = units @ direction
        if not np.ptp(projections) <= rtol * np.linalg.norm(direction):
            raise AssertionError(f"{kind} gradients: the projections are {projections}")


def _of(kinds: Sequence[str], num_tasks: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Those of these kinds that exist for so many tasks."""
    found = hard_gradients(num_tasks, seed)
    return [(kind, found[kind]) for kind in kinds if kind in found]


def _largest(gradients: np.ndarray) -> float:
    return float(np.linalg.norm(gradients, axis=1).max())


def _assert_close(
    found: np.ndarray, expected: np.ndarray, gradients: np.ndarray, rtol: float, where: str
) -> None:
    scale = max(float(np.linalg.norm(expected)), 1e-3 * _largest(gradients))
    error = float(np.linalg.norm(found - expected))
    if not error <= rtol * scale:
        raise AssertionError(f"{where}: the update is off by {error / scale:.1e} of its length")
