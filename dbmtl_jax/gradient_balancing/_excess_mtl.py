"""ExcessMTL: weights that grow with how far each task is from its optimum."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks
from dbmtl_jax.core._gradient_balancer import gradient_balancer
from dbmtl_jax.core._task_linalg import per_task, stacked_zeros, task_vector, wide_dtype
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Array, Count, Int, Labels, PerTask, PyTree, Scalar, TaskCount

_EPS = 1e-7


class ExcessMTLState(NamedTuple):
    """What ExcessMTL keeps between steps."""

    counts: Int[Array, " T"]  # the steps in which each task took part
    squares: PyTree  # S, sums of squared gradients, [T, *shape]
    first: PerTask  # E⁰, the mean excess of the warm-up
    log_weights: PerTask  # log w, up to a constant


def excess_mtl(
    num_tasks: TaskCount,
    *,
    eta: Scalar = 1.0,
    warmup_steps: Count = 0,
    scale_own: bool = True,
    labels: Labels = None,
) -> TaskTransformation:
    r"""Robust multi-task learning with excess risks.

    .. math:: S_t \leftarrow S_t + g_t \circ g_t, \qquad
        E_t = \sum \frac{g_t \circ g_t}{\sqrt{S_t + 10^{-7}}}, \qquad
        w_t \propto w_t \exp(\eta E_t / E_t^0), \qquad \text{update } \sum_t w_t g_t

    E estimates the excess risk, how far a task's loss is above the least that it can be, so that
    tasks that are noisy but done do not get large weights.  w is on the simplex and starts at 1/T.
    During the warm-up (of at least one step) w stays, and E⁰ is the mean of E.

    Args:
      num_tasks: T, or the names of the tasks.
      eta: η >= 0, the step size of the weights.
      warmup_steps: the length of the warm-up, at least one step.
      scale_own: whether the gradients of a task's own parameters are multiplied by w_t, or left as
        they are.
      labels: see `dbmtl_jax.core`.

    An absent task keeps what is known of it, and is left out of the simplex for the step.

    Source: He et al., Robust multi-task learning with excess risks, ICML 2024, Eqs. 6, 7 and 9.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.excess_mtl(num_tasks=2)
      >>> grads, state = jnp.array([[1.0, 0.0], [0.0, 4.0]]), tx.init(jnp.zeros(2))
      >>> for k in range(3):
      ...   _, state = tx.update(grads / (1 + jnp.array([[k], [0]])), state)
      >>> with jnp.printoptions(precision=2):
      ...     print(optax.tree.get(state, "weights"))
      [0.28 0.72]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_range("eta", eta, 0.0)
    _checks.check_count("warmup_steps", warmup_steps, 0)

    def init(shared: PyTree) -> ExcessMTLState:
        zeros = task_vector(num_tasks, 0, shared)
        return ExcessMTLState(
            jnp.zeros((num_tasks,), jnp.int32),
            stacked_zeros(num_tasks, shared),
            zeros,
            jnp.zeros_like(zeros),
        )

    def weigh(tasks: Tasks, memory: ExcessMTLState) -> tuple[PerTask, ExcessMTLState]:
        present = tasks.present
        excess = jnp.zeros_like(memory.first)
        sums, structure = jax.tree.flatten(memory.squares)
        new = []
        for g, total in zip(jax.tree.leaves(tasks.task_grads), sums, strict=True):
            # |g|², also of complex gradients.
            wide = g.astype(wide_dtype(g))
            square = jnp.real(wide * jnp.conj(wide)).astype(wide_dtype(total))
            total = jnp.where(per_task(present, total), total + square, total)
            new.append(total)
            ratio = square / jnp.sqrt(jnp.real(total) + _EPS)
            excess += jnp.sum(ratio, axis=tuple(range(1, ratio.ndim)))
        counts = jnp.where(present, optax.safe_increment(memory.counts), memory.counts)
        warm = counts <= jnp.maximum(warmup_steps, 1)
        mean = memory.first + (excess - memory.first) / jnp.maximum(counts, 1)
        first = jnp.where(present & warm, mean, memory.first)
        growth = eta * excess / (first + _EPS)
        log_weights = memory.log_weights + jnp.where(present & ~warm, growth, 0)
        log_weights -= jnp.max(log_weights)
        weights = jax.nn.softmax(log_weights, where=present | ~jnp.any(present))
        squares = jax.tree.unflatten(structure, new)
        return weights, ExcessMTLState(counts, squares, first, log_weights)

    return gradient_balancer(
        num_tasks,
        weigh,
        init=init,
        reads="rows",
        own_weights=(lambda weights, memory: weights) if scale_own else None,
        of_parameters=True,
        labels=labels,
        name="excess_mtl",
    )
