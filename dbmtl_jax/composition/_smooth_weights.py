"""Weights that are averaged over steps."""

from typing import NamedTuple

import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import summed
from dbmtl_jax.core._parts import Aggregator, Weighed
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import Mask, Memory, PerTask, PyTree, Scalar


class SmoothState(NamedTuple):
    """The averaged weights, and what the method keeps."""

    average: PerTask
    known: Mask  # the tasks that have weights
    method: Memory


def smooth_weights(method: TaskTransformation, decay: Scalar = 0.9) -> TaskTransformation:
    r"""A method whose weights are averaged over steps.

    .. math:: \lambda \leftarrow a \lambda + (1 - a) w, \qquad \text{update } \sum_t \lambda_t g_t

    with the method's weights w.  The average of a task starts with its first weight, and does not
    change while the task is absent.  Averages converge where weights of single batches, on the same
    data as the gradients that they weigh, are biased.

    Args:
      method: a method of this library whose update is a weighted sum over whole gradients.
      decay: a in [0, 1).

    Returns:
      A method.

    Raises:
      TypeError: for anything else than such a method.
      ValueError: for a decay out of range.

    Source: Zhou et al., On the convergence of stochastic multi-objective gradient manipulation and
    beyond, NeurIPS 2022 (CR-MOGM).

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.smooth_weights(dbmtl.balance_magnitudes(2), decay=0.5)
      >>> state = tx.init(jnp.zeros(2))
      >>> for size in (1.0, 3.0):
      ...   _, state = tx.update(jnp.array([[1.0, 0.0], [0.0, size]]), state)
      >>> print(optax.tree.get(state, "weights"))
      [2. 1.]
    """
    if not isinstance(method, TaskTransformation):
        raise TypeError(
            f"method: expected a method of dbmtl_jax, found a {type(method).__name__}; parts that "
            "scale stand in front: chain(scale_by_…, smooth_weights(method))"
        )
    aggregator, name = method.aggregator, method.name
    if aggregator is None or aggregator.weigh is None:
        what = "a method" if aggregator is None else "a method that weighs whole gradients"
        raise TypeError(f"method: expected {what}, found {name}")
    _checks.check_range("decay", decay, 0.0, 1.0, open_high=True)
    number, inner = method.num_tasks, aggregator.weigh

    def init(shared: PyTree) -> SmoothState:
        return SmoothState(
            task_vector(number, 0, shared), jnp.zeros((number,), bool), aggregator.init(shared)
        )

    def weigh(tasks: Tasks, memory: SmoothState) -> Weighed:
        weights, kept, own, present = inner(tasks, memory.method)
        moved = jnp.where(memory.known, decay * memory.average + (1 - decay) * weights, weights)
        average = jnp.where(present, moved, memory.average)
        state = SmoothState(average, memory.known | present, kept)
        return Weighed(average, state, own, present)

    smoothed = Aggregator(init, summed(weigh), aggregator.reads, weigh, aggregator.of_parameters)
    return transformation(
        number,
        method.parts,
        smoothed,
        method.labels,
        f"smooth_weights({name})",
        method.measured,
    )
