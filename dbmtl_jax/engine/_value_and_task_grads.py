"""Task gradients of a single function that returns all losses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._types import Labels, PyTree
from dbmtl_jax.engine._jacobian import jacobian_of
from dbmtl_jax.engine._losses import stack_losses, with_aux
from dbmtl_jax.engine._pending import PendingTaskGrads
from dbmtl_jax.engine._pullbacks import own_grads, task_grads, template
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
      fun: `fun(params, *args, **kwargs) -> losses`, [T] or a sequence of T scalars; with
        `has_aux`, a pair (losses, aux).
      labels: see `dbmtl_jax.core`.
      has_aux: whether `fun` returns auxiliary outputs, too, such as batch statistics.
      chunk_size: run so many tasks at a time, as a batch, to save memory; None: as `mode` says.
        Not to be combined with mode="unroll" or with `stream`.
      mode: how the T pullbacks run.  "unroll": one after the other in the program; "loop":
        `jax.lax.map`, with the smallest program and memory, but slow for convolutions on CPUs;
        "vmap": as a batch, for accelerators (not with `stream`); "auto": on CPUs "unroll" for up to
        8 tasks or for convolutions, else "loop"; elsewhere "vmap".  The logger `dbmtl_jax` reports
        what "auto" chose, at the level DEBUG.
      stream: return pending gradients.  `tx.update` of any method takes them in the place of
        stacked ones and computes only what it needs, one task at a time: this saves memory, and
        for most methods time.  "auto" then means "unroll" for convolutions on CPUs, else "loop".

    Returns:
      `fun(params, *args, **kwargs) -> (losses [T], grads)`, or `((losses, aux), grads)`.  `grads`
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
        def losses_and_aux(p):
            losses, aux = with_aux(fun, has_aux)(p, *args, **kwargs)
            return stack_losses(losses), aux

        losses, pullback, aux = jax.vjp(losses_and_aux, params, has_aux=True)
        num_tasks = losses.shape[0]
        chosen = choose(mode, chunk_size, num_tasks, losses_and_aux, params, stream=stream)
        labels_ = _labels.resolve(labels, params, num_tasks)
        one_hots = jnp.eye(num_tasks, dtype=losses.dtype)
        if stream:
            own = own_grads(
                lambda ct: pullback(ct)[0],
                lambda p: with_aux(fun, has_aux)(p, *args, **kwargs)[0],
                params,
                labels_,
                one_hots,
            )
            jacobian = jacobian_of(
                lambda p: losses_and_aux(p)[0],
                params,
                lambda ct: pullback(ct)[0],
                one_hots,
                labels_,
                unroll=chosen[0] == "unroll",
            )
            grads = PendingTaskGrads(labels_, template(labels_, params, own, num_tasks), jacobian)
        else:
            grads = task_grads(lambda ct: pullback(ct)[0], one_hots, labels_, chosen)
        return ((losses, aux) if has_aux else losses), grads

    return value_and_task_grads_fun
