"""MTAdam: Adam with moments for each task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._task_linalg import per_task, squared_norms, stacked_zeros, task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Int, Labels, PyTree, Scalar, TaskCount


class MTAdamState(NamedTuple):
    """What MTAdam keeps between steps."""

    counts: Int[Array, " T"]  # how many steps each task took part in
    magnitudes: PyTree  # n, the tree of params with leaves [T]
    mu: PyTree  # m, the tree of params with leaves [T, *shape]
    nu: PyTree  # v, the same


def mtadam(
    num_tasks: TaskCount,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9,
    eps: Scalar = 1e-8,
    labels: Labels = None,
) -> TaskTransformation:
    r"""Adam for several loss terms; it replaces Adam and is not chained in front of it.

    For every parameter array by itself,

    .. math::
        n_t &\leftarrow \beta_3 n_t + (1 - \beta_3) \|g_t\|, \qquad
        \hat g_t = \frac{n_0}{n_t} g_t \\
        m_t &\leftarrow \beta_1 m_t + (1 - \beta_1) \hat g_t, \qquad
        v_t \leftarrow \beta_2 v_t + (1 - \beta_2) \hat g_t^2 \\
        &\text{update } \sum_t \frac{\hat m_t}{\sqrt{\max_s \hat v_s} + \epsilon}

    with n = ‖g‖ at the first step, n_0 that of the first task, and m̂, v̂ the moments corrected for
    their start at zero.  The update has no learning rate yet: chain it with
    `optax.scale_by_learning_rate`.  The gradients of a task's own parameters go through plain Adam.

    Args:
      num_tasks: T, or the names of the tasks.
      b1: β1, the decay of the first moments.
      b2: β2, the decay of the second moments.
      b3: β3, the decay of the averaged norms n.
      eps: ε.
      labels: see `dbmtl_jax.core`.

    An absent task takes no part in the update, and its n, m and v do not change.  Its own
    parameters move as with Adam and a gradient of zero.

    Source: Malkiel and Wolf, MTAdam: Automatic balancing of multiple training loss terms,
    EMNLP 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = optax.chain(dbmtl.mtadam(num_tasks=2), optax.scale_by_learning_rate(0.1))
      >>> updates, _ = tx.update(jnp.array([[1.0, 0.0], [0.0, 50.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=4):
      ...     print(updates)
      [-0.1 -0.1]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    for name, value in (("b1", b1), ("b2", b2), ("b3", b3)):
        _checks.check_range(name, value, 0.0, 1.0, open_high=True)
    _checks.check_range("eps", eps, 0.0)

    def init(shared: PyTree) -> MTAdamState:
        return MTAdamState(
            counts=jnp.zeros((num_tasks,), jnp.int32),
            magnitudes=jax.tree.map(lambda param: task_vector(num_tasks, 0, param), shared),
            mu=stacked_zeros(num_tasks, shared),
            nu=stacked_zeros(num_tasks, shared),
        )

    def merge(tasks: Tasks, memory: MTAdamState) -> tuple[PyTree, MTAdamState]:
        present = tasks.present
        counts = jnp.where(present, optax.safe_increment(memory.counts), memory.counts)

        def moments(leaf: Array, n: Array, m: Array, v: Array) -> tuple[Array, Array, Array, Array]:
            norms = jnp.abs(tasks.scales) * jnp.sqrt(squared_norms([leaf], num_tasks))
            moved = jnp.where(counts > 1, b3 * n + (1 - b3) * norms, norms)
            n = jnp.where(present, moved, n).astype(n.dtype)
            known = (n > 0) & (n[0] > 0)
            ratios = jnp.where(known, n[0] / jnp.where(known, n, 1), 1) * tasks.scales

            here = per_task(present, m)
            gradient = jnp.where(here, per_task(ratios, m) * leaf.astype(m.dtype), 0)
            m = jnp.where(here, b1 * m + (1 - b1) * gradient, m).astype(m.dtype)
            v = jnp.where(here, b2 * v + (1 - b2) * gradient**2, v).astype(v.dtype)

            k = jnp.maximum(counts, 1).astype(m.dtype)
            m_hat = m / per_task(1 - b1**k, m)
            v_hat = v / per_task(1 - b2**k, v)
            largest = jnp.max(v_hat, axis=0, where=here, initial=0)
            total = jnp.sum(m_hat, axis=0, where=here)
            # With ε = 0 an entry whose gradients were all zero would be 0/0.
            divisor = jnp.sqrt(largest) + eps
            return total / jnp.where(divisor > 0, divisor, 1), n, m, v

        structure = jax.tree.structure(tasks.rows.tree())
        trees = (tasks.rows.tree(), memory.magnitudes, memory.mu, memory.nu)
        leaves = [moments(*leaf) for leaf in zip(*map(jax.tree.leaves, trees), strict=True)]
        updates, *kept = (
            jax.tree.unflatten(structure, [leaf[field] for leaf in leaves]) for field in range(4)
        )
        return updates, MTAdamState(counts, *kept)

    def is_own(tree: PyTree) -> PyTree:
        resolved = _labels.resolve(labels, tree, num_tasks)
        return jax.tree.map(lambda label, _: isinstance(label, int), resolved, tree)

    shared = gradient_balancer(num_tasks, merge=merge, init=init, labels=labels, name="mtadam")
    if labels is None:
        return shared
    own = optax.masked(optax.scale_by_adam(b1=b1, b2=b2, eps=eps), is_own)
    chained = optax.chain(shared, own)
    return TaskTransformation(chained.init, chained.update, **vars(shared))
