"""SDMGrad: MGDA with a regularisation towards a preferred direction."""

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import weighted_sum
from dbmtl_jax.core._gramian import Gramian, as_gramian
from dbmtl_jax.core._interior_point import minimize
from dbmtl_jax.core._min_norm import min_norm_weights
from dbmtl_jax.core._other_batches import combined, finite_rows, other_batches, products
from dbmtl_jax.core._parts import Merged
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._preference import Preference, priorities, shares
from dbmtl_jax.core._simplex import project
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import (
    Array,
    Float,
    Labels,
    Mask,
    Measured,
    PerTask,
    PyTree,
    Scalar,
    TaskCount,
)


def sdmgrad(
    num_tasks: TaskCount,
    *,
    lambda_: Scalar = 0.3,
    preference: Preference = None,
    labels: Labels = None,
    measured: Measured = None,
) -> TaskTransformation:
    r"""Stochastic Direction-oriented Multi-objective Gradient descent, on one batch.

    .. math:: w = \arg\min_{w \in \Delta} \Big\| \sum_t (w_t + \lambda u_t) g_t \Big\|^2, \qquad
        \text{update } \frac{1}{1 + \lambda} \sum_t (w_t + \lambda u_t) g_t

    with the simplex Δ.  λ = 0 is MGDA, and λ → ∞ the mean :math:`\sum_t u_t g_t`.  The weights are
    found exactly.

    With the extra argument `other_grads` of `update`, a sequence of the task gradients G₂ and, if
    need be, G₃ of independent batches, :math:`A = G_1 G_2^\top` over its mean size takes the place
    of the Gramian, w moves by 20 steps of projected gradient descent with momentum from where the
    last step left it, as in the paper's code, and the update is that of G₃ (of G₁ without it).

    Args:
      num_tasks: T, or the names of the tasks.
      lambda_: λ >= 0.
      preference: a user's priorities u, [T] positive numbers of which only the ratios count, or by
        name; None: 1/T each.
      labels, measured: see `dbmtl_jax.core`.

    Source: Xiao, Ban and Ji, Direction-oriented multi-objective learning, NeurIPS 2023.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.sdmgrad(num_tasks=2)
      >>> grads = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
      >>> _, state = tx.update(grads, tx.init(jnp.zeros(3)))
      >>> with jnp.printoptions(precision=3):
      ...     print(optax.tree.get(state, "weights"))
      [0.6 0.4]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("lambda_", lambda_, 0.0)
    wanted = priorities(preference, num_tasks)

    def init(shared: PyTree) -> PerTask:
        return task_vector(num_tasks, 1 / num_tasks, shared)

    def weigh(tasks: Tasks, memory: PerTask) -> tuple[PerTask, PerTask]:
        if tasks.extra_args.get("other_grads") is not None:
            raise TypeError(
                f"other_grads: expected None, as {tasks.method} weighs the gradients of one batch"
            )
        return sdmgrad_weights(tasks.gramian, lambda_=lambda_, preference=wanted), memory

    one_batch = weighted_sum(weigh, init, "gramian")

    def update(tasks: Tasks, memory: PerTask) -> Merged:
        if tasks.extra_args.get("other_grads") is None:
            return one_batch.update(tasks, memory)
        if measured is not None:
            raise TypeError("other_grads: expected None with measured=, found a sequence")
        return _of_several_batches(tasks, memory, lambda_, wanted)

    aggregator = one_batch._replace(update=update)
    return transformation(num_tasks, (), aggregator, labels, "sdmgrad", measured)


def _of_several_batches(
    tasks: Tasks, memory: PerTask, lambda_: Scalar, wanted: PerTask | None
) -> Merged:
    """The update of the last batch, with weights from the products of the first two."""
    others = other_batches(tasks, 1, 2)
    present = tasks.present & finite_rows(others, tasks.num_tasks)
    rows = tasks.task_grads
    low = lambda_ * shares(wanted, present).astype(memory.dtype)
    matrix = products(jax.tree.leaves(rows), others[0], present).astype(memory.dtype)
    moved = jnp.where(jnp.any(present), _descended(matrix, memory, low, present), memory)
    weights = jnp.where(present, (moved + low) / (1 + lambda_), 0)
    batch = others[1] if len(others) == 2 else jax.tree.leaves(rows)
    return Merged(combined(weights, present, [batch], rows), moved, weights, present=present)


_RATE, _MOMENTUM, _ITERATIONS = 10.0, 0.5, 20  # of the paper's code


def _descended(
    matrix: Float[Array, "T T"], weights: PerTask, low: PerTask, present: Mask
) -> PerTask:
    """w after steps v ← v/2 + A (w + λu), w ← Π(w - 10 v), with A over its mean size."""
    roots = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 0))
    size = jnp.sum(jnp.where(present, roots, 0)) / jnp.maximum(jnp.sum(present), 1)
    matrix = matrix / (size**2 + 1e-8)

    def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        w, v = carry
        v = _MOMENTUM * v + matrix @ (w + low)
        return project(w - _RATE * v, present), v

    start = jnp.where(present, weights, 0), jnp.zeros_like(weights)
    return jax.lax.fori_loop(0, _ITERATIONS, step, start)[0]


@exact_products
def sdmgrad_weights(
    gramian: Gramian | Float[Array, "T T"],
    *,
    lambda_: Scalar = 0.3,
    preference: Preference = None,
) -> PerTask:
    """The weights of `sdmgrad` for gradients with a given Gramian.

    Args:
      gramian: the inner products of the gradients, [T, T].
      lambda_, preference: see `sdmgrad`.

    Returns:
      (w + λu) / (1 + λ), [T], convex.

    Raises:
      ValueError: for a matrix that is not square, or an option out of range.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> with jnp.printoptions(precision=3):
      ...     print(dbmtl.sdmgrad_weights(jnp.diag(jnp.array([1.0, 3.0]))))
      [0.75 0.25]
    """
    _checks.check_range("lambda_", lambda_, 0.0)
    gramian = as_gramian(gramian)
    wanted = priorities(preference, len(gramian.norms))
    present = gramian.present
    share = shares(wanted, present).astype(gramian.norms.dtype)
    matrix = gramian.normalized
    # Beyond this w does not show any more.
    lambda_ = jnp.minimum(lambda_, 1 / jnp.finfo(share.dtype).eps).astype(share.dtype)
    low = lambda_ * share
    # In the lengths of the gradients where the solution lies: that of the preferred direction.
    slopes = matrix @ low
    weights = minimize(lambda x: (matrix @ x + slopes, matrix), jnp.ones_like(share), present)
    # Without the preferred direction gradients of any scale are as easy as those of one.
    weights = jnp.where(lambda_ > 0, weights, min_norm_weights(gramian))
    return (weights + low) / (1 + lambda_)
