"""Gradient balancing: aggregators, which merge the tasks' gradients into one update."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from dbmtl_jax.core import _checks
from dbmtl_jax.core._parts import READS, Aggregator, Merged, Reads, Weighed
from dbmtl_jax.core._rows import StackedRows
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._tasks import Tasks
from dbmtl_jax.core._transformation import TaskTransformation, transformation
from dbmtl_jax.core._types import (
    Array,
    Labels,
    Mask,
    Measured,
    Memory,
    PerTask,
    PyTree,
    TaskCount,
)
from dbmtl_jax.core._usable import sum_of_usable

Weigh: TypeAlias = Callable[[Tasks, Memory], tuple[PerTask, Memory]]
Merge: TypeAlias = Callable[[Tasks, Memory], tuple[PyTree, Memory]]


def no_memory(shared: PyTree) -> tuple[()]:
    """The memory of a method that keeps nothing between steps."""
    return ()


def gradient_balancer(
    num_tasks: TaskCount,
    weigh: Weigh | None = None,
    *,
    merge: Merge | None = None,
    init: Callable[[PyTree], Memory] = no_memory,
    reads: Reads | None = None,
    own_weights: Callable[[PerTask, Memory], PerTask] | None = None,
    per_leaf: bool = False,
    of_parameters: bool | None = None,
    labels: Labels = None,
    measured: Measured = None,
    name: str | None = None,
) -> TaskTransformation:
    r"""Makes a method from a function that weighs the tasks' gradients.

    .. math:: \text{update } \sum_t w_t g_t, \qquad
        w, \text{memory} = \mathrm{weigh}(\text{tasks}, \text{memory})

    The gradient balancers of this library are made with it.  The method handles labels, masks,
    unusable tasks, pending gradients (`stream=True`), several devices and checkpoints.

    Args:
      num_tasks: T, or the names of the tasks.
      weigh: `(tasks, memory) -> (w [T], memory)`.  It runs inside the compiled step.  Of `tasks`
        (a `Tasks`) it may read `norms` [T], `losses` [T], `present` [T] bool, `extra_args`,
        with `reads="gramian"` also `cosines` [T, T] and `gramian`, and with `reads="rows"` also
        `task_grads`, the gradients [T, *shape].  Norms, cosines and gradients of absent tasks
        are 0, and the weights that it returns for them are ignored.
      merge: replaces `weigh` in a method whose update is no weighted sum:
        `(tasks, memory) -> (updates [*shape], memory)`.  It may read all of the above.
      init: `shared -> memory`: the memory before the first step, a tree of arrays, given the
        shared parameters (with `optax.MaskedNode` in the place of the others).
      reads: what `weigh` reads: "sum" (neither norms nor gradients), "norms" (the default),
        "gramian" or "rows".  Of pending gradients only this is computed; what it reads beyond that
        is computed once more.
      own_weights: `(w, new memory) -> factors [T]` for the gradients of the tasks' own parameters;
        None: these stay as they are.  Not with `merge` or `per_leaf`, which have no weights.
      per_leaf: balance every parameter array by itself.  `init` and `weigh` then see one array at
        a time, and each array has a memory of its own.
      of_parameters: whether the method refuses gradients of a representation
        (`wrt="representation"`); None: with `merge` and `per_leaf` it does.  If it takes them,
        `merge` sees gradients [T, *representation] and returns one [*representation].
      labels: which parameters are shared and which belong to one task; see `dbmtl_jax.core`.
      measured: of which shared parameters norms, inner products and gradients are read; see
        `dbmtl_jax.core`.  Not with `merge` or `per_leaf`.
      name: the method's name, for error messages; None: that of the function in which `weigh` or
        `merge` is defined.

    Returns:
      A transformation of stacked gradients [T, *shape] into updates [*shape]; its state is a
      `MultiTaskState`, with the memory in the field `aggregator`.

    Raises:
      TypeError: unless exactly one of `weigh` and `merge` is given, for an option that does not go
        with it, or if num_tasks is no int.
      ValueError: for num_tasks < 1 or another value of `reads`.

    Example:
      Each task counts by how much its gradient agrees with the others:

      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> def agreement(num_tasks, labels=None):
      ...   def weigh(tasks, memory):
      ...     return jnp.maximum(tasks.cosines.mean(axis=1), 0), memory
      ...   return dbmtl.gradient_balancer(num_tasks, weigh, reads="gramian", labels=labels)
      >>> tx = agreement(2)
      >>> grads = jnp.array([[1.0, 0.0], [0.0, 4.0]])
      >>> updates, _ = tx.update(grads, tx.init(jnp.zeros(2)))
      >>> print(updates)
      [0.5 2. ]
    """
    num_tasks = _checks.check_num_tasks(num_tasks)
    _checks.check_functions(weigh=weigh, merge=merge, init=init, own_weights=own_weights)
    if own_weights is not None and (merge is not None or per_leaf):
        other = "per_leaf" if merge is None else "merge"
        raise TypeError(f"own_weights: expected None with {other}, which has no weights")
    if measured is not None and (merge is not None or per_leaf):
        other = "per_leaf" if merge is None else "merge"
        raise TypeError(f"measured: expected None with {other}, which merges what it reads")
    if of_parameters is None:
        of_parameters = per_leaf or merge is not None
    if weigh is not None and merge is None:
        _checks.check_option("reads", reads, (None, *READS))
        aggregator = weighted_sum(weigh, init, reads or "norms", own_weights)
        name = name or defining_name(weigh)
    elif merge is not None and weigh is None:
        if reads is not None:
            raise TypeError(f"reads: expected None with merge, which reads all, found {reads!r}")
        aggregator = _merger(merge, init)
        name = name or defining_name(merge)
    else:
        found = "neither" if weigh is None else "both"
        raise TypeError(f"weigh, merge: expected one of the two, found {found}")
    if per_leaf:
        aggregator = _for_each_leaf(aggregator, num_tasks)
    aggregator = aggregator._replace(of_parameters=of_parameters)
    return transformation(num_tasks, (), aggregator, labels, name, measured)


def defining_name(function: Callable[..., object]) -> str:
    """The name of the function in which another one is defined, or of this one itself."""
    return getattr(function, "__qualname__", "this method").partition(".")[0]


def sum_of_tasks() -> Aggregator:
    """Σ_t g_t."""

    def weigh(tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
        return jnp.ones_like(tasks.scales), memory

    return weighted_sum(weigh, reads="sum")


def weighted_sum(
    weigh: Weigh,
    init: Callable[[PyTree], Memory] = no_memory,
    reads: Reads = "norms",
    own_weights: Callable[[PerTask, Memory], PerTask] | None = None,
) -> Aggregator:
    """The aggregator Σ_t w_t g_t; the arguments are those of `gradient_balancer`."""

    def weigh_tasks(tasks: Tasks, memory: Memory) -> Weighed:
        weights, memory = weighed(weigh, tasks, memory)
        present = tasks.present
        if not strict():
            present &= jnp.isfinite(weights)
        own = None if own_weights is None else lambda weights: own_weights(weights, memory)
        return Weighed(weights, memory, own, present)

    return Aggregator(init, summed(weigh_tasks), reads, weigh_tasks)


def summed(
    weigh: Callable[[Tasks, Memory], Weighed],
) -> Callable[[Tasks, Memory], Merged]:
    """The `update` of an aggregator that weighs the tasks and sums."""

    def update(tasks: Tasks, memory: Memory) -> Merged:
        weights, memory, own, present = weigh(tasks, memory)
        updates, present, checked = _sum(tasks._replace(present=present), weights)
        weights = jnp.where(present, weights, 0)
        factors = None if own is None else own(weights)
        return Merged(updates, memory, weights, factors, present, checked)

    return update


def _sum(tasks: Tasks, weights: PerTask) -> tuple[PyTree, Mask, bool]:
    """Σ_t w_t g_t, which tasks took part, and whether the sum was checked."""
    summed = tasks.rows if tasks.summed is None else tasks.summed.rows
    rows_were_read = tasks.squares is not None and summed.of_parameters
    if summed is tasks.rows and (rows_were_read or summed.sources_tell):
        return tasks.sum(weights), tasks.present, False
    return *sum_of_usable(tasks, weights), True


def weighed(weigh: Weigh, tasks: Tasks, memory: Memory) -> tuple[PerTask, Memory]:
    """Calls `weigh`; raises ValueError for weights of another shape than [T].

    Raises:
      TypeError: for anything but a pair.
    """
    weights, memory = pair_of("weigh", weigh(tasks, memory), "weights")
    if jnp.shape(weights) != (tasks.num_tasks,):
        raise ValueError(
            f"weigh: expected weights of shape ({tasks.num_tasks},), found {jnp.shape(weights)}"
        )
    return jnp.asarray(weights), memory


def pair_of(name: str, found: Any, first: str) -> tuple[Any, Memory]:
    """What a user's function returned, if it is a pair.

    Raises:
      TypeError: for anything else.
    """
    if not (isinstance(found, tuple) and len(found) == 2):
        kind = f"a tuple of {len(found)}" if isinstance(found, tuple) else type(found).__name__
        raise TypeError(f"{name}: expected a pair ({first}, memory), found {kind}")
    return found


def _merger(merge: Merge, init: Callable[[PyTree], Memory]) -> Aggregator:
    """The updates that `merge` returns."""

    def update(tasks: Tasks, memory: Memory) -> Merged:
        updates, memory = pair_of("merge", merge(tasks, memory), "updates")
        params = jax.tree.map(
            lambda row: jax.ShapeDtypeStruct(row.shape[1:], row.dtype), tasks.rows.shapes
        )
        what = "the shared parameters" if tasks.rows.of_parameters else "the representation"
        _checks.check_same_shapes("merge: updates", updates, what, params)
        return Merged(tasks.rows.to_parameters(updates), memory)

    return Aggregator(init, update)


class _OfLeaf(NamedTuple):
    """What an aggregator returns for one leaf."""

    updates: Array
    memory: Memory


def _for_each_leaf(aggregator: Aggregator, num_tasks: int) -> Aggregator:
    """Balances every leaf by itself; the memory is the tree of params with one for each leaf."""

    def init(shared: PyTree) -> PyTree:
        return jax.tree.map(aggregator.init, shared)

    def update(tasks: Tasks, memory: PyTree) -> Merged:
        def balance(leaf: Array, memory: Memory) -> _OfLeaf:
            rows = StackedRows(leaf, num_tasks)
            alone = tasks._replace(rows=rows, squares=rows.squared_norms(), products=None)
            merged = aggregator.update(alone, memory)
            return _OfLeaf(merged.updates, merged.memory)

        balanced = jax.tree.map(balance, tasks.rows.tree(), memory)

        def pick(field: int) -> PyTree:
            return jax.tree.map(
                lambda pair: pair[field], balanced, is_leaf=lambda x: isinstance(x, _OfLeaf)
            )

        return Merged(pick(0), pick(1))

    return Aggregator(init, update)
