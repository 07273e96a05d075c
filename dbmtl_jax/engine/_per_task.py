"""Task gradients when every task has a batch of its own."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._names import check_num_tasks, in_order
from dbmtl_jax.core._types import Labels, PyTree
from dbmtl_jax.engine._jaxpr import contains
from dbmtl_jax.engine._losses import check_differentiable, scalar_loss
from dbmtl_jax.engine._shard_map import axes_of_losses, varying_over
from dbmtl_jax.engine._task_map import Mode, check_options, choose, leading_axis, map_tasks


def per_task_value_and_grads(
    fun: Callable[..., PyTree]
    | Sequence[Callable[..., PyTree]]
    | Mapping[str, Callable[..., PyTree]],
    *,
    labels: Labels = None,
    has_aux: bool = False,
    chunk_size: int | None = None,
    mode: Mode = "auto",
) -> Callable[..., tuple[PyTree, PyTree]]:
    """Per-task gradients when every task has a batch of its own.

    The result is that of `jax.vmap(jax.value_and_grad(fun), in_axes=(None, 0, ...))`.  Each task
    has its own forward pass, so batch normalisation computes its statistics for each task alone.

    Args:
      fun: `fun(params, *args) -> loss`, a scalar, called with task t's slice of every argument;
        or T such functions, one per task (these always run unrolled).  With a mapping of them by
        name every argument is a mapping of the tasks' batches, and losses and auxiliary outputs
        are mappings, too.
      labels: see `dbmtl_jax.core`.
      has_aux: whether `fun` returns (loss, aux).
      chunk_size, mode: how the tasks run, as in `value_and_task_grads`.

    Returns:
      `fun(params, *args) -> (losses [T], grads)`, where every array in args is [T, ...].  With
      `has_aux` it returns `((losses, aux), grads)`, with aux stacked over the tasks.

    Raises:
      ValueError: for a bad option, a loss that is not a scalar, arguments whose first axes
        differ, or a number of functions other than T.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> fun = dbmtl.per_task_value_and_grads(lambda w, x: jnp.sum(w * x))
      >>> losses, grads = fun(jnp.array([1.0, 1.0]), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      >>> print(losses, grads.shape)
      [3. 7.] (2, 2)
    """
    check_options(mode, chunk_size)
    if isinstance(fun, Mapping):
        return _by_name(fun, labels, has_aux)
    functions = [fun] if callable(fun) else list(fun)
    differentiated = [
        jax.value_and_grad(scalar_loss(f, "fun", has_aux), has_aux=True) for f in functions
    ]

    def per_task_value_and_grads_fun(params, *args):
        check_differentiable(params)
        num_tasks = leading_axis(args)
        if not callable(fun) and len(functions) != num_tasks:
            raise ValueError(
                f"fun: expected {num_tasks} functions, one for each slice of the arguments' "
                f"first axis, found {len(functions)}"
            )

        def rows_of(p):
            if callable(fun):
                one_task = jax.tree.map(lambda x: x[0], args)
                traced = jax.make_jaxpr(lambda p: fun(p, *one_task))(p).jaxpr
                chosen = choose(mode, chunk_size, num_tasks, lambda name: contains(traced, name))
                return map_tasks(lambda a: differentiated[0](p, *a), args, chosen)
            slices = [jax.tree.map(lambda x, t=t: x[t], args) for t in range(num_tasks)]
            rows = [f(p, *a) for f, a in zip(differentiated, slices, strict=True)]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

        axes = axes_of_losses(lambda p: rows_of(p)[0][0], params)
        (losses, aux), grads = rows_of(varying_over(axes, params))
        labels_ = _labels.resolve(labels, params, num_tasks)
        own = jax.tree.map(
            lambda label, leaf: leaf if label == _labels.SHARED else leaf[label], labels_, grads
        )
        return ((losses, aux) if has_aux else losses), own

    return per_task_value_and_grads_fun


def _by_name(
    functions: Mapping[str, Callable[..., PyTree]], labels: Labels, has_aux: bool
) -> Callable[..., tuple[PyTree, PyTree]]:
    """The tasks' functions, each with its own entry of every argument."""
    num_tasks = check_num_tasks(list(functions))
    names = list(num_tasks.names or ())

    def by_name(params, *args):
        check_differentiable(params)
        columns = [in_order(f"args[{i}]", arg, num_tasks) for i, arg in enumerate(args)]

        def of_task(p, task):
            loss_of = scalar_loss(functions[names[task]], f"fun[{names[task]!r}]", has_aux)
            arguments = [column[task] for column in columns]
            return jax.value_and_grad(loss_of, has_aux=True)(p, *arguments)

        tasks = range(num_tasks)
        axes = axes_of_losses(lambda p: [of_task(p, task)[0][0] for task in tasks], params)
        params = varying_over(axes, params)
        found, rows = zip(*(of_task(params, task) for task in tasks), strict=True)
        losses, auxes = zip(*found, strict=True)
        labels_ = _labels.resolve(labels, params, num_tasks)
        grads = jax.tree.map(
            lambda label, *leaves: jnp.stack(leaves) if label == _labels.SHARED else leaves[label],
            labels_,
            *rows,
        )
        values = dict(zip(names, losses, strict=True))
        aux_of = dict(zip(names, auxes, strict=True))
        return ((values, aux_of) if has_aux else values), grads

    return by_name
