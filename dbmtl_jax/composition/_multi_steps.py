"""Accumulation of task gradients over micro-batches."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.composition._chain import Chain
from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._loss_balancer import LossBalancingState
from dbmtl_jax.core._names import NumTasks
from dbmtl_jax.core._rows import gathered, template_of
from dbmtl_jax.core._task_linalg import per_task, stacked_zeros, task_vector, wide_dtype
from dbmtl_jax.core._transformation import MultiTaskState, TaskTransformation
from dbmtl_jax.core._types import Array, Count, Int, Label, Labels, Mask, PerTask, PyTree
from dbmtl_jax.core._usable import tasks_of


class MultiStepsState(NamedTuple):
    """What is accumulated between two steps."""

    mini_step: Int[Array, ""]  # micro-batches since the last step
    gradient_step: Int[Array, ""]  # steps taken
    counts: Int[Array, " T"]  # of these micro-batches, those in which the task was present
    tried: Mask  # whether the task was in one of them, present or unusable
    losses: PerTask  # the sums of the raw losses
    grads: PyTree  # the sums of the gradients, [T, *shape] and [*shape]; none for frozen leaves
    inner: PyTree  # the state of the transformation


def multi_steps(
    tx: optax.GradientTransformation,
    every_k: Count | Callable[[Array], Array],
    *,
    labels: Labels = None,
) -> optax.GradientTransformationExtraArgs:
    r"""One step of a chain for every k micro-batches, equal to one step on all of them.

    .. math:: \bar g_t = \frac{1}{n_t} \sum_{j : t \text{ present}} g_{t,j}, \qquad
        \bar\ell_t = \frac{1}{n_t} \sum_{j : t \text{ present}} \ell_{t,j}

    The gradients and raw losses of each task are averaged over the n_t micro-batches in which it is
    present; then `tx` takes one step with them.  `optax.MultiSteps` behind a method would balance
    each micro-batch by itself, which is another method.  Pending gradients (`stream=True`) are
    added one task at a time.

    Args:
      tx: a chain with a method.
      every_k: the number of micro-batches, or a schedule: a function of the number of steps taken.
      labels: the labels of the method; needed only if `tx` does not tell (`dbmtl_jax.chain` and
        methods do).

    Returns:
      A transformation of task gradients whose updates are zero but for every k-th call.  A task
      that is masked in all micro-batches is masked in the step; one that was unusable whenever it
      was not masked is skipped and counted.

    Raises:
      TypeError, ValueError: for an `every_k` that is no int of at least 1.
      ValueError: in `init` if there is no method in `tx`.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.multi_steps(dbmtl.chain(dbmtl.db_mtl(2), optax.sgd(0.1)), every_k=2)
      >>> params, losses = jnp.zeros(2), jnp.array([1.0, 2.0])
      >>> updates, state = tx.update(jnp.eye(2), tx.init(params), params, losses=losses)
      >>> print(updates)
      [0. 0.]
      >>> updates, state = tx.update(jnp.eye(2), state, params, losses=losses)
      >>> print(bool((updates != 0).all()))
      True
    """
    if not callable(every_k):
        _checks.check_count("every_k", every_k)
    inner = optax.with_extra_args_support(tx)
    methods = tx.methods if isinstance(tx, Chain) else [tx]
    known = [method for method in methods if isinstance(method, TaskTransformation)]
    for method in known:
        if method.name.startswith("refresh_weights("):
            raise TypeError(
                f"tx: {method.name} takes pending gradients, and multi_steps adds arrays; use one "
                "of the two"
            )
    if labels is None and known:
        labels = known[0].labels

    def init(params: PyTree) -> MultiStepsState:
        state = inner.init(params)
        num_tasks = known[0].num_tasks if known else _num_tasks(state)
        resolved = _labels.resolve(labels, params, num_tasks)

        def zeros(label: Label, param: Array) -> PyTree:
            if label == _labels.FROZEN:
                return optax.MaskedNode()
            if label == _labels.SHARED:
                return stacked_zeros(num_tasks, param)
            return jnp.zeros(jnp.shape(param), wide_dtype(param))

        return MultiStepsState(
            mini_step=jnp.zeros((), jnp.int32),
            gradient_step=jnp.zeros((), jnp.int32),
            counts=jnp.zeros((num_tasks,), jnp.int32),
            tried=jnp.zeros((num_tasks,), bool),
            losses=task_vector(num_tasks, 0, _labels.shared(resolved, params)),
            grads=jax.tree.map(zeros, resolved, params),
            inner=state,
        )

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        if extra_args.get("other_grads") is not None:
            raise TypeError("other_grads: expected None, as multi_steps averages one batch's")
        num_tasks = known[0].num_tasks if known else _named(len(state.counts), losses, task_mask)
        updates = gathered(updates)
        template = template_of(updates)
        step = _checks.check_update(num_tasks, labels, template, params, losses, task_mask)
        tasks = tasks_of(updates, step, num_tasks, "sum", extra_args, "multi_steps")

        shared = _labels.shared(step.labels, state.grads)
        ones = jnp.ones_like(tasks.scales)
        sums, _, present = tasks.rows.averaged(
            shared, ones, tasks.present, lambda gradient, total: total + gradient
        )

        def accumulate(label: Label, leaf: PyTree, total: PyTree, row: PyTree) -> PyTree:
            if label == _labels.FROZEN:
                return total
            if label == _labels.SHARED:
                return row
            return jnp.where(present[label], total + leaf.astype(total.dtype), total)

        grads = jax.tree.map(accumulate, step.labels, template, state.grads, sums)
        known_losses = 0 if step.losses is None else jnp.where(present, step.losses, 0)
        every = every_k(state.gradient_step) if callable(every_k) else every_k
        grown = state._replace(
            mini_step=state.mini_step + 1,
            counts=state.counts + present,
            tried=state.tried | step.mask,
            losses=(state.losses + known_losses).astype(state.losses.dtype),
            grads=grads,
        )

        def take(grown: MultiStepsState) -> tuple[PyTree, MultiStepsState]:
            # 0/0 for a task that was never usable: the method then counts it as skipped.
            count = grown.counts.astype(grown.losses.dtype)

            def mean(label: Label, leaf: PyTree, total: PyTree) -> Array:
                if label == _labels.FROZEN:
                    return jnp.zeros(leaf.shape, leaf.dtype)
                divisor = per_task(count, total) if label == _labels.SHARED else count[label]
                return (total / divisor).astype(leaf.dtype)

            means = jax.tree.map(mean, step.labels, template, grown.grads)
            given: dict[str, Any] = {} if losses is None else {"losses": grown.losses / count}
            given["task_mask"] = grown.tried
            names = getattr(num_tasks, "names", None)
            if names is not None:
                given = {key: dict(zip(names, x, strict=True)) for key, x in given.items()}
            moved, inner_state = inner.update(means, grown.inner, params, **given, **extra_args)
            cleared = jax.tree.map(jnp.zeros_like, grown._replace(inner=()))
            return moved, cleared._replace(
                gradient_step=optax.safe_increment(grown.gradient_step), inner=inner_state
            )

        def wait(grown: MultiStepsState) -> tuple[PyTree, MultiStepsState]:
            shapes = jax.eval_shape(take, grown)[0]
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), grown

        return jax.lax.cond(grown.mini_step >= every, take, wait, grown)

    return optax.GradientTransformationExtraArgs(init, update)


def _num_tasks(state: PyTree) -> int:
    """T as the state of a method tells it."""
    kinds = (MultiTaskState, LossBalancingState)
    for node in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, kinds)):
        if isinstance(node, MultiTaskState):
            return len(node.skipped)
        if isinstance(node, LossBalancingState):
            return len(node.loss_weights)
    raise ValueError("tx: expected a chain with a method of dbmtl_jax, found none in its state")


def _named(number: int, losses: Any, task_mask: Any) -> NumTasks:
    """T with the names that the losses or the mask come with."""
    for given in (losses, task_mask):
        if isinstance(given, Mapping):
            return NumTasks(number, given)
    return NumTasks(number)
