"""Properties that a method may promise of its update, as asserts.

Each is asserted of the first step, before the method has learnt or averaged anything.  All asserts
take a factory, `num_tasks -> transformation`, the number of tasks T, and the keywords of `Options`.
The AssertionError that they raise gives the kind of gradients and the deviation.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax.testing._samplers import hard_gradients

Factory = Callable[[int], optax.GradientTransformation]
"""A function num_tasks -> transformation."""


class Options(TypedDict, total=False):
    """On which gradients a property is asserted, and with what tolerance."""

    kinds: Sequence[str]
    """Keys of `hard_gradients`; by default only "full rank", where updates are well conditioned."""
    seed: int
    """The seed of the gradients and of all other draws; by default 0."""
    rtol: float
    """The tolerated deviation, relative to the norm of the update, or to a thousandth of the
    largest gradient's norm if that is more; by default 1e-4."""


class _Case(NamedTuple):
    """Gradients on which a property is asserted."""

    kind: str
    gradients: np.ndarray  # [T, 16]
    losses: np.ndarray  # [T]
    rng: np.random.Generator
    rtol: float

    def assert_close(self, found: np.ndarray, expected: np.ndarray, how: str) -> None:
        scale = max(float(np.linalg.norm(expected)), 1e-3 * _largest(self.gradients))
        error = float(np.linalg.norm(found - expected))
        if not error <= self.rtol * scale:
            raise AssertionError(
                f"{self.kind} gradients, {how}: the update is off by {error / scale:.1e} of its "
                "length"
            )


def _cases(num_tasks: int, options: Options) -> Iterator[_Case]:
    seed = options.get("seed", 0)
    of_kind = hard_gradients(num_tasks, seed)
    for kind in options.get("kinds", ("full rank",)):
        if kind in of_kind:  # some kinds need more than one task
            rng = np.random.default_rng(seed)
            losses = rng.uniform(0.3, 3, num_tasks)
            yield _Case(kind, of_kind[kind], losses, rng, options.get("rtol", 1e-4))


class FirstUpdate:
    """`update(gradients [T, 16], losses [T] = 1) -> [16]`: the first update of a fresh instance.

    Every call starts from the initial state; `state` is the state after the last call.
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
    """A function for the first update of a fresh instance, compiled once for each factory and T.

    It is called as `update(gradients [T, 16], losses [T] = 1) -> [16]`.  Every call starts from the
    initial state, and `update.state` is the state after the last call.

    Example:
      >>> import numpy as np, dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> update = testing.first_update(dbmtl.ew, num_tasks=2)
      >>> print(update(np.ones((2, 16)))[:3])
      [2. 2. 2.]
    """
    return FirstUpdate(factory, num_tasks)


def assert_permutation_equivariant(
    factory: Factory, num_tasks: int = 3, **options: Unpack[Options]
) -> None:
    """Asserts that the update does not depend on the order of the tasks.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_permutation_equivariant(dbmtl.mgda)
      >>> testing.assert_permutation_equivariant(dbmtl.meta_balance)  # the first task is its target
      Traceback (most recent call last):
      ...
      AssertionError: full rank gradients, permuted: the update is off by ...
    """
    update = first_update(factory, num_tasks)
    for case in _cases(num_tasks, options):
        order = case.rng.permutation(num_tasks)
        expected = update(case.gradients, case.losses)
        case.assert_close(update(case.gradients[order], case.losses[order]), expected, "permuted")


def assert_linear_under_scaling(
    factory: Factory, num_tasks: int = 3, **options: Unpack[Options]
) -> None:
    """Asserts that A(diag(c) G) is linear in c > 0, where A(G) is the update.

    So multiplying a task's gradient makes the task count for more, and the size of the update
    follows that of the gradients.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_linear_under_scaling(dbmtl.pcgrad)
    """
    update = first_update(factory, num_tasks)
    for case in _cases(num_tasks, options):
        a, b = case.rng.uniform(0.2, 3, (2, num_tasks, 1))
        parts = [update(scale * case.gradients, case.losses) for scale in (a, b, a + b)]
        case.assert_close(parts[2], parts[0] + parts[1], "scaled task by task")


def assert_homogeneous(
    factory: Factory, num_tasks: int = 3, *, degree: float = 1.0, **options: Unpack[Options]
) -> None:
    """Asserts that A(s G) = s^d A(G) for s > 0, where A(G) is the update and d is `degree`.

    With d = 0 the length of the update does not depend on that of the gradients.

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_homogeneous(dbmtl.cagrad)
      >>> testing.assert_homogeneous(dbmtl.nash_mtl, degree=0.0)
    """
    update = first_update(factory, num_tasks)
    for case in _cases(num_tasks, options):
        expected = update(case.gradients, case.losses)
        for scale in (0.01, 100.0):
            found = update(scale * case.gradients, case.losses) / scale**degree
            case.assert_close(found, expected, f"times {scale:g}")


def assert_scale_invariant(
    factory: Factory, num_tasks: int = 3, **options: Unpack[Options]
) -> None:
    r"""Asserts that c_t ℓ_t and c_t g_t give the same update as ℓ_t and g_t for all c > 0.

    So the unit of a loss does not matter, which is the goal of balancing loss scales; taking their
    logarithm achieves it (the paper's Section 3.1).

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_scale_invariant(dbmtl.db_mtl)
      >>> testing.assert_scale_invariant(dbmtl.ew)
      Traceback (most recent call last):
      ...
      AssertionError: full rank gradients, losses in other units: the update is off by ...
    """
    update = first_update(factory, num_tasks)
    for case in _cases(num_tasks, options):
        scales = 10.0 ** case.rng.uniform(-1, 1, num_tasks)
        expected = update(case.gradients, case.losses)
        found = update(scales[:, None] * case.gradients, scales * case.losses)
        case.assert_close(found, expected, "losses in other units")


def assert_non_conflicting(
    factory: Factory, num_tasks: int = 3, **options: Unpack[Options]
) -> None:
    """Asserts that the update has a nonnegative inner product with every task's gradient.

    By default it is asserted on all `hard_gradients`.  Here `rtol` is how negative a cosine between
    a gradient and the update may be, by default 2e-3, as float32 is not more precise where
    gradients cancel.

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
    everywhere: Options = {"kinds": tuple(hard_gradients(num_tasks)), "rtol": 2e-3}
    for case in _cases(num_tasks, everywhere | options):
        direction = update(case.gradients)
        length = max(float(np.linalg.norm(direction)), _largest(case.gradients) / 10)
        scale = np.linalg.norm(case.gradients, axis=1) * length
        cosines = case.gradients @ direction / np.where(scale > 0, scale, 1)
        if not np.all(cosines >= -case.rtol):
            raise AssertionError(
                f"{case.kind} gradients: the update conflicts with a task, "
                f"the cosines are {cosines}"
            )


def assert_equal_projections(
    factory: Factory, num_tasks: int = 3, **options: Unpack[Options]
) -> None:
    """Asserts that the update's components along all gradients are equal (default `rtol`: 1e-3).

    Example:
      >>> import dbmtl_jax as dbmtl
      >>> from dbmtl_jax import testing
      >>> testing.assert_equal_projections(dbmtl.imtl_g)
    """
    update = first_update(factory, num_tasks)
    for case in _cases(num_tasks, {"rtol": 1e-3} | options):
        direction = update(case.gradients)
        units = case.gradients / np.linalg.norm(case.gradients, axis=1, keepdims=True)
        projections = units @ direction
        if not np.ptp(projections) <= case.rtol * np.linalg.norm(direction):
            raise AssertionError(f"{case.kind} gradients: the projections are {projections}")


def _largest(gradients: np.ndarray) -> float:
    return float(np.linalg.norm(gradients, axis=1).max())
