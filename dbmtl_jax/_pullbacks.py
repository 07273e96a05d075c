"""Pulling cotangents back task by task: shared leaves stacked, a task's own leaves once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from dbmtl_jax import _partition
from dbmtl_jax._task_map import Mode, leading_axis, map_tasks


def task_grads(
    pullback: Callable[[Any], Any], cotangents: Any, labels: Any, chosen: tuple[Mode, int | None]
) -> Any:
    """Pulls every task's cotangent back: shared leaves stacked, a task's own leaves once."""
    flat_labels, tree = jax.tree.flatten(labels)

    def pull(task: int) -> list[Any]:
        return jax.tree.leaves(pullback(jax.tree.map(lambda x: x[task], cotangents)))

    if chosen[0] == "unroll":
        own = {task: pull(task) for task in range(leading_axis(cotangents))}
        columns = zip(*own.values(), strict=True)
        stacked = [
            jnp.stack(column)
            for label, column in zip(flat_labels, columns, strict=True)
            if label == _partition.SHARED
        ]
    else:
        # Inside the loop or batch a task's own leaves would be made T times.  They come from a
        # pullback of that task alone instead, of which the compiler drops the shared part.
        own = {task: pull(task) for task in {x for x in flat_labels if x != _partition.SHARED}}
        stacked = map_tasks(
            lambda ct: jax.tree.leaves(_partition.shared(labels, pullback(ct))), cotangents, chosen
        )
    shared = iter(stacked)
    leaves = [
        next(shared) if label == _partition.SHARED else own[label][i]
        for i, label in enumerate(flat_labels)
    ]
    return jax.tree.unflatten(tree, leaves)


def template(labels: Any, params: Any, own: Any, num_tasks: int) -> Any:
    """What stands in the place of pending gradients: shapes, and the tasks' own leaves."""

    def leaf(label: Any, param: Any, grad: Any) -> Any:
        if label == _partition.SHARED:
            return jax.ShapeDtypeStruct((num_tasks, *jnp.shape(param)), jnp.result_type(param))
        return grad

    return jax.tree.map(leaf, labels, params, own)


def own_grads(
    pullback: Callable[[Any], Any],
    fun: Callable[[Any], Any],
    params: Any,
    labels: Any,
    one_hots: jax.Array,
) -> Any:
    """The tree of params with every task's own leaves in it, each the gradient of its task alone.

    One pullback of all losses at once gives them, as long as no leaf enters another task's loss.
    The compiler drops what it makes of the shared leaves.
    """
    tasks = {label for label in jax.tree.leaves(labels) if label != _partition.SHARED}
    if not tasks:
        return params
    if _own_losses_alone(fun, params, labels, len(one_hots)):
        return pullback(jnp.ones_like(one_hots[0]))
    grads = {task: jax.tree.leaves(pullback(one_hots[task])) for task in tasks}
    return jax.tree.unflatten(
        jax.tree.structure(params),
        [
            param if label == _partition.SHARED else grads[label][i]
            for i, (label, param) in enumerate(
                zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True)
            )
        ],
    )


def _own_losses_alone(fun: Callable[[Any], Any], params: Any, labels: Any, num_tasks: int) -> bool:
    """Whether a task's own leaves verifiably enter no other loss of a sequence of losses."""
    jaxpr = jax.make_jaxpr(fun)(params).jaxpr
    outputs = range(num_tasks)
    if len(jaxpr.outvars) != num_tasks:
        return False  # an array of losses, all of which depend on everything
    for task in outputs:
        _, used = partial_eval.dce_jaxpr(jaxpr, [output == task for output in outputs])
        for label, is_used in zip(jax.tree.leaves(labels), used, strict=True):
            if is_used and label not in (_partition.SHARED, task):
                return False
    return True
