"""Pending gradients of one function of every task's slices, each from a pass of its own.

The program contains the function once, whatever the number of tasks, and keeps nothing of a task's
forward pass: a row, and each part of a sum of rows, is computed from the start.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._precision import products_as_now
from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.engine._jacobian import Jacobian, assemble, row_structs
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._task_arguments import Slices
from dbmtl_jax.engine._task_map import Chosen, Way, map_tasks

_LOOP = Way("loop")


def pending_of_slices(
    loss: Callable[..., tuple[Array, PyTree]],
    params: PyTree,
    slices: Slices,
    labels: PyTree,
    moving: Moving,
) -> tuple[tuple[Array, PyTree], PendingTaskGrads]:
    """The losses [T], auxiliary outputs [T, ...], and pending gradients.

    Args:
      loss: `(params, *args of a task) -> (loss, aux)`.
      params: those that are differentiated.
      slices: the arguments of all tasks.
      labels: the tree of labels of all parameters.
      moving: what of all parameters is differentiated.
    """
    num_tasks = slices.num_tasks
    own_labels = moving.of(labels)
    flat, structure = jax.tree.flatten(params)
    is_shared = _labels.is_shared(own_labels)
    leaves = [jnp.asarray(leaf) for leaf, here in zip(flat, is_shared, strict=True) if here]
    own = [leaf for leaf, here in zip(flat, is_shared, strict=True) if not here]

    def loss_of(
        mapped: Sequence[Array], shared: Sequence[Array], own: Sequence[Array]
    ) -> tuple[Array, PyTree]:
        """A task's loss and auxiliary output as a function of both kinds of leaves."""
        rest = {True: iter(shared), False: iter(own)}
        whole = jax.tree.unflatten(structure, [next(rest[here]) for here in is_shared])
        return loss(whole, *slices.arguments(mapped))

    def of_shared(mapped: Sequence[Array]) -> Callable[..., Array]:
        return lambda *shared: loss_of(mapped, shared, own)[0]

    def with_own_grads(mapped: Sequence[Array]) -> tuple[tuple[Array, PyTree], list[Array]]:
        """A task's loss, and its gradients of the leaves that belong to some task."""
        if not own:
            return loss_of(mapped, leaves, own), []
        of_own = functools.partial(loss_of, mapped, leaves)
        return jax.value_and_grad(of_own, has_aux=True)(own)

    (losses, aux), grads = map_tasks(with_own_grads, slices.mapped, _LOOP)
    rest = iter(grads)
    own_grads = [
        None if label == _labels.SHARED else next(rest)[label]
        for label in jax.tree.leaves(own_labels)
    ]

    def of_task(task: int | Array, seed: Array) -> list[Array]:
        mapped = [jax.lax.dynamic_index_in_dim(x, task, keepdims=False) for x in slices.mapped]
        return list(jax.vjp(of_shared(mapped), *leaves)[1](seed))

    def pull(cotangents: Sequence[Array], *, unrolled: bool = False) -> list[Array]:
        (seeds,) = cotangents

        def add(task: Array, total: list[Array]) -> list[Array]:
            # 0 times an infinite derivative is NaN.
            row = (jnp.where(seeds[task] != 0, g, 0) for g in of_task(task, seeds[task]))
            return [a + b for a, b in zip(total, row, strict=True)]

        return jax.lax.fori_loop(0, num_tasks, add, [jnp.zeros_like(leaf) for leaf in leaves])

    def push_all(tangents: Sequence[Array]) -> list[Array]:
        def slope(mapped: Sequence[Array]) -> Array:
            return jax.jvp(of_shared(mapped), tuple(leaves), tuple(tangents))[1]

        return list(map_tasks(slope, slices.mapped, _LOOP))

    seeds = jnp.eye(num_tasks, dtype=losses.dtype)
    jacobian = Jacobian(
        num_tasks,
        lambda task, one: [(one * seeds[task]).astype(seeds.dtype)],
        products_as_now(pull),
        products_as_now(lambda tangents: [jnp.stack(push_all(tangents))]),
        chosen=Chosen.everywhere("loop"),
        stored=[[seeds[task]] for task in range(num_tasks)],
        leaves=leaves,
        push_all=products_as_now(push_all),
        alone=products_as_now(lambda task: of_task(task, jnp.ones((), losses.dtype))),
        sources_tell=False,
    )
    template = assemble(own_labels, row_structs(own_labels, params, num_tasks), own_grads)
    return (losses, aux), PendingTaskGrads(labels, moving.with_zeros(template), jacobian)
