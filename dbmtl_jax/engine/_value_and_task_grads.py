"""Task gradients of a single function that returns all losses."""

from collections.abc import Callable

from dbmtl_jax.core import _labels
from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._names import NumTasks
from dbmtl_jax.core._types import Labels, PyTree
from dbmtl_jax.engine._derivative import cut, derivative_of
from dbmtl_jax.engine._jacobian import assemble, row_structs
from dbmtl_jax.engine._losses import (
    check_differentiable,
    checked_losses,
    like_losses,
    num_tasks_of,
    with_aux,
)
from dbmtl_jax.engine._own import jacobian_of, own_grads
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._shard_map import axes_of_losses, check_stream, varying_over
from dbmtl_jax.engine._task_map import Mode, check_options, choose


def value_and_task_grads(
    fun: Callable[..., PyTree],
    *,
    labels: Labels = None,
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
    stream: bool = False,
) -> Callable[..., tuple[PyTree, PyTree]]:
    r"""Like `jax.value_and_grad`, for a function that returns the losses of T tasks.

    .. math:: J = \left[\nabla_\theta \ell_1, \dots, \nabla_\theta \ell_T\right]

    computed with one forward pass and T pullbacks of one-hot cotangents.  The result is that of
    `jax.grad` for each loss by itself, but the tasks share the forward pass.

    Args:
      fun: `fun(params, *args, **kwargs) -> losses`: an array [T], a flat sequence of T scalars, or
        a flat mapping of T scalars by name; with `has_aux`, it returns a pair (losses, aux).
      labels: see `dbmtl_jax.core`.
      has_aux: whether `fun` returns auxiliary outputs, too, such as batch statistics.
      chunk_size: run so many tasks at a time, as a batch, to save memory; None: as `mode` says.
        Not to be combined with mode="unroll" or with `stream`.
      mode: how the T pullbacks run.  "unroll": one after the other in the program; "loop":
        `jax.lax.map`, with the smallest program, but slower for convolutions on CPUs;
        "vmap": as a batch, for GPUs (not with `stream`).  "auto" goes by the platform that the
        program is compiled for: "unroll" on CPUs for up to 4 tasks or for convolutions and on TPUs
        for up to 12 tasks, else "loop"; "vmap" on GPUs, which starts the fewest kernels, but may
        take more memory.  The logger `dbmtl_jax` reports what "auto" chose, at the level DEBUG.
      stream: return pending gradients.  `tx.update` of any method takes them in the place of
        stacked ones and computes only what it needs, one task at a time: this saves memory, and
        on CPUs and TPUs time for most methods.  "auto" then means "unroll" for convolutions on
        CPUs, else "loop".

    Returns:
      `fun(params, *args, **kwargs) -> (losses [T], grads)`, or `((losses, aux), grads)`; with names
      the losses are a dict, and row t is that of the t-th name in sorted order.  `grads`
      is a tree like params: a shared leaf is [T, *shape], and its row t is ∇ℓ_t; a leaf of task t
      is [*shape], the gradient of ℓ_t.  With `stream`, `grads` is a `PendingTaskGrads` that stands
      for that tree within the same trace; its method `stacked()` computes the tree.

    Raises:
      ValueError: for a bad option, or if `fun` returns anything but T scalars.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> def fun(w):
      ...   return jnp.sum(w**2), jnp.sum(3 * w)
      >>> losses, grads = dbmtl.value_and_task_grads(fun)(jnp.array([1.0, 2.0]))
      >>> print(losses)
      [5. 9.]
      >>> print(grads)
      [[2. 4.]
       [3. 3.]]
    """
    check_options(mode, chunk_size, stream)

    def value_and_task_grads_fun(params, *args, **kwargs):
        found: list[NumTasks] = []

        moving = Moving(labels, params)

        def losses_and_aux(p):
            losses, aux = with_aux(fun, has_aux)(moving.whole(p), *args, **kwargs)
            values = checked_losses(losses)
            found.append(num_tasks_of(losses))
            return values, aux

        check_differentiable(moving.params)
        axes = axes_of_losses(lambda p: losses_and_aux(p)[0], moving.params)
        check_stream(axes, stream)
        varying = varying_over(axes, moving.params)
        losses, derivative, aux = derivative_of(losses_and_aux, varying)
        num_tasks = found[0]
        all_labels = _labels.resolve(labels, params, num_tasks)
        labels_ = moving.of(all_labels)
        pieces = cut(derivative, _labels.is_shared(labels_))
        chosen = choose(mode, chunk_size, num_tasks, derivative.contains, stream=stream)
        jacobian = jacobian_of(pieces, labels_, varying, chosen)
        own = own_grads(derivative, pieces, labels_)
        if stream:
            template = assemble(labels_, row_structs(labels_, varying, num_tasks), own)
            grads = PendingTaskGrads(all_labels, moving.with_zeros(template), jacobian)
        else:
            grads = moving.with_zeros(assemble(labels_, jacobian.stacked(), own))
        values = like_losses(losses, num_tasks)
        return ((values, aux) if has_aux else values), grads

    return value_and_task_grads_fun
