"""Task gradients with regard to the representation that an encoder makes for T heads."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._names import NumTasks, in_order
from dbmtl_jax.core._precision import products_as_now
from dbmtl_jax.core._types import PyTree
from dbmtl_jax.engine._jacobian import Jacobian, row_structs
from dbmtl_jax.engine._losses import check_differentiable, with_aux
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._shard_map import axes_of_losses, check_stream, varying_over
from dbmtl_jax.engine._task_map import Chosen


def of_representation(
    functions: tuple[Callable[..., Any], Sequence[Callable[..., Any]]],
    num_tasks: NumTasks,
    labels: PyTree,
    has_aux: bool,
    params: PyTree,
    args: tuple[Any, ...],
) -> tuple[list[jax.Array], tuple[Any, list[Any]], PendingTaskGrads]:
    """The losses of T heads, auxiliary outputs, and pending gradients ∂ℓ_t/∂z.

    Args:
      functions: the encoder, `(params, *args) -> z` or (z, aux), and T heads, `(params, z, *args)
        -> (loss, aux)`.
      num_tasks: T, the number of tasks.
      labels: the tree of labels of the parameters.
      has_aux: whether the encoder returns auxiliary outputs.
      params: (encoder_params, head_params).
      args: the further arguments.
    """
    encoder, heads = functions
    first = Moving(labels[0], params[0])
    rest = [
        Moving(own_labels, own)
        for own_labels, own in zip(
            in_order("labels[1]", labels[1], num_tasks),
            in_order("params[1]", params[1], num_tasks),
            strict=True,
        )
    ]
    moving = first.params, [head.params for head in rest]
    check_differentiable(moving)
    tasks = range(num_tasks)

    def encode(p):
        return with_aux(encoder, has_aux, "encoder")(first.whole(p), *args)

    def loss_of(task, p, z):
        return heads[task](rest[task].whole(p), z, *args)

    def losses_of(p):
        z, _ = encode(p[0])
        return [loss_of(task, p[1][task], z)[0] for task in tasks]

    axes = axes_of_losses(losses_of, moving)
    check_stream(axes, True)
    shared, own = varying_over(axes, moving)
    z, push, encoder_aux = jax.linearize(encode, shared, has_aux=True)
    check_differentiable(z, "what the encoder returns")

    def pulled_back(task):
        of_head = jax.value_and_grad(loss_of, argnums=(1, 2), has_aux=True)
        return of_head(task, own[task], z)

    found = [pulled_back(task) for task in tasks]
    cotangents = [jax.tree.leaves(cotangent) for _, (_, cotangent) in found]
    pullback = jax.linear_transpose(push, shared)
    structure = jax.tree.structure(shared)

    def pull(cotangent, *, unrolled=False):
        whole = jax.tree.unflatten(jax.tree.structure(z), cotangent)
        return jax.tree.leaves(pullback(whole)[0])

    jacobian = Jacobian(
        num_tasks,
        products_as_now(
            lambda task, one: [
                (one * c).astype(c.dtype) for c in jax.tree.leaves(pulled_back(task)[1][1])
            ]
        ),
        products_as_now(pull),
        products_as_now(lambda row: jax.tree.leaves(push(jax.tree.unflatten(structure, row)))),
        chosen=Chosen.everywhere("loop"),
        stored=cotangents,
        leaves=list(map(jnp.asarray, jax.tree.leaves(shared))),
    )
    every = _labels.resolve(None, shared, num_tasks)
    rows = jax.tree.unflatten(structure, row_structs(every, shared, num_tasks))
    own_grads = [head.with_zeros(grad) for head, (_, (grad, _)) in zip(rest, found, strict=True)]
    # The heads keep the container they came in, so that grads and params are one tree.
    container = jax.tree.structure(params[1], is_leaf=lambda x: x is not params[1])
    template = first.with_zeros(rows), jax.tree.unflatten(container, own_grads)
    grads = PendingTaskGrads(labels, template, jacobian, of_representation=True)
    losses, head_aux = ([pair[i] for (pair, _) in found] for i in (0, 1))
    return losses, (encoder_aux, head_aux), grads
