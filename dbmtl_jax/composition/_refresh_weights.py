"""Weights that are computed anew in some steps only."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._parts import READS, Aggregator, Merged, Part, Weighed
from dbmtl_jax.core._rows import StackedRows
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Summed, Tasks
from dbmtl_jax.core._transformation import TaskTransformation, like, reads_of, transformation
from dbmtl_jax.core._types import Array, Count, Int, Mask, Memory, PerTask, PyTree
from dbmtl_jax.core._usable import reading, sum_of_usable


class RefreshState(NamedTuple):
    """The weights of the last refresh, and what the method keeps between refreshes."""

    age: Int[Array, ""]  # steps since the last refresh, itself included
    kept_weights: PerTask
    kept_own_weights: PerTask
    kept_norms: PerTask  # of the gradients as they were read then
    refreshed: Mask  # the tasks that took part then
    parts: tuple[Memory, ...]
    aggregator: Memory


def refresh_weights(balancer: TaskTransformation, every: Count) -> TaskTransformation:
    r"""A method whose weights are computed anew only every few steps.

    .. math:: \text{update } \sum_t w_t g_t

    with the gradients g of this step and the weights w of the last refresh.  A refresh, in every
    k-th step, takes T backward passes, and every step one more, of the weighted sum.  Between
    refreshes a step costs about as much as one of equal weighting.  The weights are also refreshed
    when other tasks are present than at the last refresh.

    The losses' weights (log-losses, for example) are those of each step.  All else that the method
    keeps changes at refreshes only: steps that it counts are refreshes, and averages are averages
    over refreshes.  DB-MTL averages norms (`average="norms"` saves the memory for its other
    average) and sums the gradients of the step.

    Args:
      balancer: a method, such as `db_mtl(num_tasks)`, whose update is a weighted sum.  A loss
        balancer is returned as it is.
      every: k >= 1.

    Returns:
      A method.  Its `update` takes pending gradients (`stream=True`).

    Raises:
      TypeError: for anything but a method of this library, for one whose update is no weighted sum
        over whole gradients (`grad_drop`, `mtadam`, `meta_balance`, `moco`, `grad_vac` with
        `per_leaf`), and in `update` for stacked gradients, with which nothing would be saved.
      TypeError, ValueError: for an `every` that is no int of at least 1.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.refresh_weights(dbmtl.balance_magnitudes(2), every=4)
      >>> fun = dbmtl.value_and_task_grads(lambda w: (w[0] ** 2, 9 * w[1]), stream=True)
      >>> params = jnp.array([1.0, 1.0])
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...   losses, grads = fun(params)
      ...   updates, state = tx.update(grads, state, params, losses=losses)
      ...   print(updates, dbmtl.diagnostics(state).weights)
      ...   params += 1.0
      [9. 9.] [4.5 1. ]
      [18.  9.] [4.5 1. ]
      [27.  9.] [4.5 1. ]
    """
    if not isinstance(balancer, TaskTransformation):
        raise TypeError(
            f"balancer: expected a method of dbmtl_jax, found a {type(balancer).__name__}; parts "
            "that scale stand in front: chain(scale_by_…, refresh_weights(method, every))"
        )
    aggregator, name = balancer.aggregator, balancer.name
    if name.startswith("refresh_weights("):
        raise TypeError(f"balancer: expected a method that is not refreshed yet, found {name}")
    if aggregator is None or aggregator.weigh is None or aggregator.of_parameters:
        what = "a method" if aggregator is None else "a method that weighs whole gradients"
        raise TypeError(f"balancer: expected {what}, found {name}")
    _checks.check_count("every", every)
    number = _parts_of_losses(balancer.parts)
    if number == len(balancer.parts) and aggregator.reads == "sum":
        return balancer
    early, late = balancer.parts[:number], balancer.parts[number:]
    return transformation(
        balancer.num_tasks,
        early,
        _refreshing(balancer.num_tasks, late, aggregator, aggregator.weigh, every),
        balancer.labels,
        f"refresh_weights({name})",
        balancer.measured,
    )


def _parts_of_losses(parts: tuple[Part, ...]) -> int:
    """How many parts, from the first on, read losses alone."""
    reads_rows = (i for i, part in enumerate(parts) if part.reads != "sum" or part.averages)
    return next(reads_rows, len(parts))


def _refreshing(
    num_tasks: int,
    parts: tuple[Part, ...],
    aggregator: Aggregator,
    weigh: Callable[[Tasks, Memory], Weighed],
    every: Count,
) -> Aggregator:
    """The parts and the aggregator, run in some steps only."""
    reads = max(reads_of(parts, aggregator), "norms", key=READS.index)

    def init(shared: PyTree) -> RefreshState:
        return RefreshState(
            age=jnp.zeros((), jnp.int32),
            kept_weights=task_vector(num_tasks, 0, shared),
            kept_own_weights=task_vector(num_tasks, 1, shared),
            kept_norms=task_vector(num_tasks, 0, shared),
            refreshed=jnp.zeros((num_tasks,), bool),
            parts=tuple(part.init(shared) for part in parts),
            aggregator=aggregator.init(shared),
        )

    def update(tasks: Tasks, state: RefreshState) -> Merged:
        if isinstance(tasks.rows, StackedRows):
            raise TypeError(
                f"updates: {tasks.method} takes pending gradients (stream=True), found stacked "
                "ones, all of which are computed already"
            )

        def refresh() -> RefreshState:
            # What parts make of the gradients is read alone: these are summed as they are.
            inside = tasks._replace(rows=tasks.rows.in_branch())
            seen, part_states = reading(inside, reads), []
            seen = seen._replace(summed=seen.summed or Summed(tasks.rows, tasks.scales))
            for part, part_state in zip(parts, state.parts, strict=True):
                seen, part_state = part.update(seen, part_state)
                part_states.append(part_state)
            weights, memory, own, present = weigh(seen, state.aggregator)
            settled = [
                part.settle(part_state, present)
                for part, part_state in zip(parts, part_states, strict=True)
            ]
            weights = jnp.where(present, weights, 0)
            new = RefreshState(
                age=jnp.zeros_like(state.age),
                kept_weights=weights,
                kept_own_weights=jnp.ones_like(weights) if own is None else own(weights),
                kept_norms=jnp.where(present, seen.norms, 0),
                refreshed=present,
                parts=tuple(settled),
                aggregator=memory,
            )
            return like(new, state)

        due = (state.age == 0) | jnp.any(tasks.present != state.refreshed)
        state = jax.lax.cond(due, refresh, lambda: state)
        age = (state.age + 1) % every
        present = tasks.present & state.refreshed
        updates, present = sum_of_usable(tasks._replace(present=present), state.kept_weights)
        return Merged(
            updates,
            state._replace(age=age),
            weights=state.kept_weights,
            own_weights=state.kept_own_weights,
            present=present,
            checked=True,
            norms=state.kept_norms,
        )

    return Aggregator(init, update, "sum", weigh)
