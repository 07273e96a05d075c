"""MTAdam: an Adam with moments for every task."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._parts import Aggregator, method
from dbmtl_jax._stack import Stack
from dbmtl_jax._task_linalg import accumulation_dtype, per_task, squared_norms


class MTAdamState(NamedTuple):
    """What MTAdam keeps between steps."""

    counts: jax.Array  # how many steps each task took part in, int32 [T]
    magnitudes: Any  # n, the tree of params with leaves [T]
    mu: Any  # m, the tree of params with leaves [T, *shape]
    nu: Any  # v, the same


def scale_by_mtadam(
    num_tasks: int,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.9,
    eps: float = 1e-8,
    labels: _partition.Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adam for several loss terms: in the place of Adam, not before it.

    For every parameter array by itself,

    .. math::
        n_t &\leftarrow \beta_3 n_t + (1 - \beta_3) \|g_t\|, \qquad
        \hat g_t = \frac{n_0}{n_t} g_t \\
        m_t &\leftarrow \beta_1 m_t + (1 - \beta_1) \hat g_t, \qquad
        v_t \leftarrow \beta_2 v_t + (1 - \beta_2) \hat g_t^2 \\
        &\text{update } \sum_t \frac{\hat m_t}{\sqrt{\max_s \hat v_s} + \epsilon}

    with n = ‖g‖ at the first step and m̂, v̂ the moments corrected for their start at zero.  Chain it
    with `optax.scale_by_learning_rate`.  A task's own parameters, of which it alone has a
    gradient, are given plain Adam.

    Args:
      num_tasks: T.
      b1: β1, of the first moments.
      b2: β2, of the second moments.
      b3: β3, of the magnitudes.
      eps: ε.
      labels: "shared" or a task index for each parameter, see `db_mtl`.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape] without a learning
      rate; its `update` takes `task_mask` [T].  What is kept of an absent task stands still, and it
      has no part in the update; its own parameters move on as with Adam and a gradient of zero.

    Raises:
      TypeError, ValueError: for a bad option, and in `update`, while tracing, for gradients that
        are not stacked.

    Source: Malkiel and Wolf, MTAdam: Automatic balancing of multiple training loss terms,
    EMNLP 2021.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = optax.chain(dbmtl.scale_by_mtadam(num_tasks=2), optax.scale_by_learning_rate(0.1))
      >>> updates, _ = tx.update(jnp.array([[1.0, 0.0], [0.0, 50.0]]), tx.init(jnp.zeros(2)))
      >>> with jnp.printoptions(precision=4):
      ...     print(updates)
      [-0.1 -0.1]
    """
    num_tasks = _contract.check_num_tasks(num_tasks)
    for name, value in (("b1", b1), ("b2", b2), ("b3", b3)):
        _contract.check_range(name, value, 0.0, 1.0, open_high=True)
    _contract.check_range("eps", eps, 0.0)

    def init(shared: Any) -> MTAdamState:
        def zeros(param: jax.Array) -> jax.Array:
            return jnp.zeros((num_tasks, *param.shape), accumulation_dtype(param))

        return MTAdamState(
            counts=jnp.zeros((num_tasks,), jnp.int32),
            magnitudes=jax.tree.map(
                lambda param: jnp.zeros((num_tasks,), accumulation_dtype(param)), shared
            ),
            mu=jax.tree.map(zeros, shared),
            nu=jax.tree.map(zeros, shared),
        )

    def update(stack: Stack, state: MTAdamState, losses: Any) -> tuple[Any, Stack, MTAdamState]:
        present = stack.present
        counts = jnp.where(present, optax.safe_increment(state.counts), state.counts)

        def moments(leaf: jax.Array, n: jax.Array, m: jax.Array, v: jax.Array) -> _Leaf:
            norms = jnp.abs(stack.weights) * jnp.sqrt(squared_norms([leaf], num_tasks))
            moved = jnp.where(counts > 1, b3 * n + (1 - b3) * norms, norms)
            n = jnp.where(present, moved, n).astype(n.dtype)
            known = (n > 0) & (n[0] > 0)
            ratios = jnp.where(known, n[0] / jnp.where(known, n, 1), 1) * stack.weights

            here = per_task(present, m)
            gradient = jnp.where(here, per_task(ratios, m) * leaf.astype(m.dtype), 0)
            m = jnp.where(here, b1 * m + (1 - b1) * gradient, m).astype(m.dtype)
            v = jnp.where(here, b2 * v + (1 - b2) * gradient**2, v).astype(v.dtype)

            k = jnp.maximum(counts, 1).astype(m.dtype)
            m_hat = m / per_task(1 - b1**k, m)
            v_hat = v / per_task(1 - b2**k, v)
            largest = jnp.max(v_hat, axis=0, where=here, initial=0)
            total = jnp.sum(m_hat, axis=0, where=here)
            # With ε = 0 an entry without any gradient would be 0/0.
            divisor = jnp.sqrt(largest) + eps
            return _Leaf(total / jnp.where(divisor > 0, divisor, 1), n, m, v)

        leaves = jax.tree.map(moments, stack.tree, state.magnitudes, state.mu, state.nu)
        result = jax.tree.transpose(
            jax.tree.structure(stack.tree), jax.tree.structure(_Leaf(0, 0, 0, 0)), leaves
        )
        new_state = MTAdamState(counts, result.magnitudes, result.mu, result.nu)
        return result.update, stack, new_state

    def is_own(tree: Any) -> Any:
        resolved = _partition.resolve(labels, tree, num_tasks)
        return jax.tree.map(lambda label, _: label != _partition.SHARED, resolved, tree)

    shared = method(num_tasks, (), Aggregator(init, update), labels)
    if labels is None:
        return shared
    own = optax.masked(optax.scale_by_adam(b1=b1, b2=b2, eps=eps), is_own)
    return optax.chain(shared, own)


class _Leaf(NamedTuple):
    update: Any
    magnitudes: Any
    mu: Any
    nu: Any
