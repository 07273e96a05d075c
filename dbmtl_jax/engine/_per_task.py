"""Task gradients when every task has a batch of its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _labels
from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._names import NumTasks, check_num_tasks, in_order
from dbmtl_jax.core._types import Labels, PyTree
from dbmtl_jax.engine._jaxpr import contains
from dbmtl_jax.engine._losses import check_differentiable, scalar_loss
from dbmtl_jax.engine._pending_slices import pending_of_slices
from dbmtl_jax.engine._shard_map import axes_of_losses, check_stream, varying_over
from dbmtl_jax.engine._task_arguments import Axes, Slices, by_task
from dbmtl_jax.engine._task_map import Mode, check_options, choose, map_tasks
from dbmtl_jax.engine._value_and_task_grads import value_and_task_grads


def per_task_value_and_grads(
    fun: Callable[..., PyTree]
    | Sequence[Callable[..., PyTree]]
    | Mapping[str, Callable[..., PyTree]],
    *,
    labels: Labels = None,
    has_aux: bool = False,
    in_axes: Axes | str = "auto",
    chunk_size: int | None = None,
    mode: Mode = "auto",
    stream: bool = False,
) -> Callable[..., tuple[PyTree, PyTree]]:
    """Per-task gradients when every task has a batch of its own (Algorithm 1 of the paper).

    Each task has its own forward and backward pass, so T of them cost what a loop over
    `jax.value_and_grad` costs, and batch normalisation computes its statistics for each task alone.

    Args:
      fun: `fun(params, *args, **kwargs) -> loss`, a scalar, called with task t's part of every
        positional argument; or T such functions, one per task; or a mapping of them by name.
        Keyword arguments are passed on to every task as they are.
      in_axes: where a positional argument's part for task t is.  An int, None or a sequence of
        them, as for `jax.vmap`: a slice of every array along that axis, None for arrays that all
        tasks share.  "sequence": entry t of each argument, a list or tuple, whose entries may
        differ in shape and structure.  "auto": slices along the first axis or entries, whichever
        fits; where both do, ValueError.  With a mapping of functions every argument is a mapping of
        the tasks' parts, and in_axes is not used.
      labels: see `dbmtl_jax.core`.
      has_aux: whether `fun` returns (loss, aux).
      chunk_size, mode: how the tasks run if there is one function and arrays are sliced, as in
        `value_and_task_grads`; otherwise they are unrolled.
      stream: return pending gradients, as in `value_and_task_grads`.  The tasks are unrolled, but
        with mode="loop", for one function of slices: then the program contains the function once
        and keeps nothing of the forward passes, and what is asked for is computed from the start,
        such as a sum of rows after their norms.

    Returns:
      `fun(params, *args, **kwargs) -> (losses [T], grads)`, with names the losses by name.  With
      `has_aux` it returns `((losses, aux), grads)`: aux is stacked over the tasks if arrays are
      sliced, otherwise a list with an entry for each task, or a mapping by name.

    Raises:
      ValueError: for a bad option, a loss that is not a scalar, arguments of which no part, or
        more than one, can be task t's, or a number of functions other than T.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> fun = dbmtl.per_task_value_and_grads(lambda w, x: jnp.sum(w * x))
      >>> losses, grads = fun(jnp.array([1.0, 1.0]), jnp.array([[1.0, 2.0], [3.0, 4.0]]))
      >>> print(losses, grads.shape)
      [3. 7.] (2, 2)

      Batches of different sizes:

      >>> fun = dbmtl.per_task_value_and_grads(lambda w, x: jnp.sum(x @ w))
      >>> losses, grads = fun(jnp.array([1.0, 1.0]), [jnp.ones((5, 2)), jnp.ones((3, 2))])
      >>> print(losses)
      [10.  6.]
    """
    check_options(mode, chunk_size, stream)
    names: NumTasks | None = None
    is_one = callable(fun) or not isinstance(fun, Iterable)
    if isinstance(fun, Mapping):
        names = check_num_tasks(list(fun))
        functions = in_order("fun", fun, names)
    else:
        functions = [fun] if is_one else list(cast("Iterable[Callable[..., Any]]", fun))
    if not functions:
        raise ValueError("fun: expected at least one function, found none")

    def per_task_value_and_grads_fun(params, *args, **kwargs):
        if names is not None:
            columns = [in_order(f"args[{i}]", arg, names) for i, arg in enumerate(args)]
            parts: Slices | list[tuple[Any, ...]] = [
                tuple(column[t] for column in columns) for t in range(names)
            ]
        else:
            parts = by_task(args, in_axes, None if is_one else len(functions))
        num_tasks = names or NumTasks(parts.num_tasks if isinstance(parts, Slices) else len(parts))
        if isinstance(parts, Slices) and is_one and (not stream or mode == "loop"):
            chosen = None if stream else (mode, chunk_size)
            return _mapped(functions[0], params, parts, kwargs, labels, has_aux, chosen)
        keys = num_tasks.names or range(num_tasks)
        each = functions * num_tasks if is_one else functions
        of = parts.of_task if isinstance(parts, Slices) else parts.__getitem__

        def losses_of(p):
            values, auxes = {}, {}
            for t, (key, one) in enumerate(zip(keys, each, strict=True)):
                name = "fun" if is_one else f"fun[{key!r}]"
                values[key], auxes[key] = scalar_loss(one, name, has_aux)(p, *of(t), **kwargs)
            if names is not None:
                return values, auxes
            return list(values.values()), list(auxes.values())

        engine = value_and_task_grads(
            losses_of, labels=labels, has_aux=True, mode="unroll", stream=stream
        )
        (losses, aux), grads = engine(params)
        if isinstance(parts, Slices):
            aux = jax.tree.map(lambda *leaves: jnp.stack(leaves), *aux)
        return ((losses, aux) if has_aux else losses), grads

    return per_task_value_and_grads_fun


def _mapped(
    fun: Callable[..., PyTree],
    params: PyTree,
    slices: Slices,
    kwargs: dict[str, Any],
    labels: Labels,
    has_aux: bool,
    options: tuple[Mode, int | None] | None,
) -> tuple[PyTree, PyTree]:
    """One function of every task's slices, in the chosen mode; without one, pending gradients."""
    moving = Moving(labels, params)
    check_differentiable(moving.params)

    def loss(p, *args):
        return scalar_loss(fun, "fun", has_aux)(moving.whole(p), *args, **kwargs)

    all_labels = _labels.resolve(labels, params, slices.num_tasks)
    if options is None:
        axes = axes_of_losses(lambda p: loss(p, *slices.of_task(0))[0], moving.params)
        check_stream(axes, True)
        varying = varying_over(axes, moving.params)
        values, pending = pending_of_slices(loss, varying, slices, all_labels, moving)
        return (values if has_aux else values[0]), pending

    def rows_of(p):
        one = slices.of_task(0)
        traced = jax.make_jaxpr(lambda p: loss(p, *one))(p).jaxpr
        chosen = choose(*options, slices.num_tasks, lambda name: contains(traced, name))
        differentiated = jax.value_and_grad(loss, has_aux=True)

        def of_task(mapped):
            return differentiated(p, *slices.arguments(mapped))

        return chosen.run(lambda way: map_tasks(of_task, slices.mapped, way))

    axes = axes_of_losses(lambda p: rows_of(p)[0][0], moving.params)
    (losses, aux), rows = rows_of(varying_over(axes, moving.params))
    labels_ = moving.of(all_labels)
    grads = jax.tree.map(
        lambda label, leaf: leaf if label == _labels.SHARED else leaf[label], labels_, rows
    )
    return ((losses, aux) if has_aux else losses), moving.with_zeros(grads)
