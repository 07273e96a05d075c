"""Pulling cotangents back task by task: shared leaves stacked, a task's own leaves once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._types import Array, Float, PyTree
from dbmtl_jax.engine._jaxpr import dependencies
from dbmtl_jax.engine._task_map import Mode, leading_axis, map_tasks


def task_grads(
    pullback: Callable[[PyTree], PyTree],
    cotangents: PyTree,
    labels: PyTree,
    chosen: tuple[Mode, int | None],
) -> PyTree:
    """Pulls every task's cotangent back: shared leaves stacked, a task's own leaves once."""
    flat_labels, tree = jax.tree.flatten(labels)

    def pull(task: int) -> list[PyTree]:
        return jax.tree.leaves(pullback(jax.tree.map(lambda x: x[task], cotangents)))

    if chosen[0] == "unroll":
        own = {task: pull(task) for task in range(leading_axis(cotangents))}
        columns = zip(*own.values(), strict=True)
        stacked = [
            jnp.stack(column)
            for label, column in zip(flat_labels, columns, strict=True)
            if label == _labels.SHARED
        ]
    else:
        # Inside the loop or batch a task's own leaves would be made T times.  They come from a
        # pullback of that task alone instead, of which the compiler drops the shared part.
        own = {task: pull(task) for task in {x for x in flat_labels if x != _labels.SHARED}}
        stacked = map_tasks(
            lambda ct: jax.tree.leaves(_labels.shared(labels, pullback(ct))), cotangents, chosen
        )
    shared = iter(stacked)
    leaves = [
        next(shared) if label == _labels.SHARED else own[label][i]
        for i, label in enumerate(flat_labels)
    ]
    return jax.tree.unflatten(tree, leaves)


def template(labels: PyTree, params: PyTree, own: PyTree, num_tasks: int) -> PyTree:
    """What stands in the place of pending gradients: shapes, and the tasks' own leaves."""

    def leaf(label: PyTree, param: PyTree, grad: PyTree) -> PyTree:
        if label == _labels.SHARED:
            return jax.ShapeDtypeStruct((num_tasks, *jnp.shape(param)), jnp.result_type(param))
        return grad

    return jax.tree.map(leaf, labels, params, own)


def own_grads(
    pullback: Callable[[PyTree], PyTree],
    fun: Callable[[PyTree], PyTree],
    params: PyTree,
    labels: PyTree,
    one_hots: Float[Array, "T T"],
) -> PyTree:
    """The tree of params with every task's own leaves in it, each the gradient of its task alone.

    One pullback of all losses at once gives them, as long as no leaf enters another task's loss.
    The compiler drops what it makes of the shared leaves.
    """
    tasks = {label for label in jax.tree.leaves(labels) if label != _labels.SHARED}
    if not tasks:
        return params
    if _own_losses_alone(fun, params, labels, len(one_hots)):
        return pullback(jnp.ones_like(one_hots[0]))
    grads = {task: jax.tree.leaves(pullback(one_hots[task])) for task in tasks}
    return jax.tree.unflatten(
        jax.tree.structure(params),
        [
            param if label == _labels.SHARED else grads[label][i]
            for i, (label, param) in enumerate(
                zip(jax.tree.leaves(labels), jax.tree.leaves(params), strict=True)
            )
        ],
    )


def _own_losses_alone(
    fun: Callable[[PyTree], PyTree], params: PyTree, labels: PyTree, num_tasks: int
) -> bool:
    """Whether a task's own leaves verifiably enter no other loss of a sequence of losses."""
    jaxpr = jax.make_jaxpr(fun)(params).jaxpr
    if len(jaxpr.outvars) != num_tasks:
        return False  # an array of losses, all of which depend on everything
    flat_labels = jax.tree.leaves(labels)
    return all(
        flat_labels[leaf] in (_labels.SHARED, task)
        for task, leaves in enumerate(dependencies(jaxpr))
        for leaf in leaves
    )
