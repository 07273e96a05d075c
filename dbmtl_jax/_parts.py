"""Methods as chains of parts, and parts as optax transformations.

Within one transformation the tasks' gradients travel as a `Stack`, with a weight for every row.

Between transformations that a user chains with `optax.chain` they travel as plain arrays, scaled.
There a task that has no usable gradient is a row of NaN, the one value that no gradient can
legitimately have: so parts that know nothing of each other agree without a side channel, also when
other elementwise transformations stand between them.  Pending gradients (`_pending`) travel as
such, their cotangents scaled, until somebody computes them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._pending import PendingRows, PendingTaskGrads, template
from dbmtl_jax._stack import Rows, Stack, StackedRows
from dbmtl_jax._strict import strict
from dbmtl_jax._task_linalg import scale_tasks, squared_norms

Reads = Literal["sum", "norms", "products", "rows"]
"""What a method reads of the rows; all of them also read weighted sums."""


class Part(NamedTuple):
    """A step of a method that maps a stack to a stack.

    `init(shared) -> state` sees the tree of shared parameters;
    `update(stack, state, losses) -> (stack, state)` the stack and the raw losses [T] or None.
    `settle(state, present) -> state` corrects what it noted of tasks that were found absent later.
    """

    init: Callable[[Any], Any]
    update: Callable[[Stack, Any, Any], tuple[Stack, Any]]
    averages: bool = False  # whether it sees every row, and leaves averages in their place
    settle: Callable[[Any, jax.Array], Any] = lambda state, present: state


class Aggregator(NamedTuple):
    """The end of a method: it merges the rows.

    `update(stack, state, losses) -> (merged tree, stack, state)`; the stack has the last word on
    the own parameters' weights and on which tasks were present.  What it `reads` of
    the rows is formed in the pass over them that checks these, and of pending gradients nothing
    else is computed.
    """

    init: Callable[[Any], Any]
    update: Callable[[Stack, Any, Any], tuple[Any, Stack, Any]]
    reads: Reads = "rows"


class MultiTaskState(NamedTuple):
    """The state of a method."""

    skipped: jax.Array  # [T] int32: steps in which an unmasked task was not usable
    parts: tuple[Any, ...]
    aggregator: Any


def _stack(updates: Any, step: _contract.Step, num_tasks: int, reads: Reads) -> Stack:
    """The stack of a step, without the tasks that are masked or not finite.

    The sum of squares is what finds a NaN or an infinity: one vectorised reduction, where a pass
    of `isfinite` does not vectorise on a CPU.  A gradient whose squared norm overflows
    (‖g_t‖ > 1.8e19 in float32) therefore counts as not finite.  Pending gradients are only
    computed for that if they are read one by one anyway; else their cotangents are checked.
    """
    rows: Rows
    if isinstance(updates, PendingTaskGrads):
        rows = updates.rows()
        checked = rows.squared_cotangents()
        updates = updates.template
    else:
        rows = StackedRows(_partition.shared(step.labels, updates), num_tasks)
        checked = jnp.zeros((num_tasks,))
        reads = "norms" if reads == "sum" else reads
    products = rows.products() if reads == "products" else None
    squares = None
    if reads != "sum":
        squares = rows.squares() if products is None else jnp.diagonal(products)
        checked = squares + checked
    present = step.mask
    if not strict():
        present &= jnp.isfinite(checked)
        if step.losses is not None:
            present &= jnp.isfinite(step.losses)
        for task, leaf in _partition.own_leaves(step.labels, updates):
            finite = jnp.isfinite(squared_norms([leaf[None]], 1)[0])
            present = present.at[task].set(present[task] & finite)
    ones = jnp.ones((num_tasks,), checked.dtype)
    return Stack(rows, squares, products, ones, ones, present)


def method(
    num_tasks: int,
    parts: Sequence[Part],
    aggregator: Aggregator,
    labels: _partition.Labels,
    *,
    losses_required_by: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Parts and an aggregator as one transformation [T, *shape] → [*shape].

    A task's own parameters get their gradient times the weights that the parts give them; those
    of an absent task get zero.
    """

    def init(params: Any) -> MultiTaskState:
        shared = _partition.shared(_partition.resolve(labels, params, num_tasks), params)
        return MultiTaskState(
            skipped=jnp.zeros((num_tasks,), jnp.int32),
            parts=tuple(part.init(shared) for part in parts),
            aggregator=aggregator.init(shared),
        )

    # Averages find the tasks that are not usable by themselves.
    reads = "sum" if any(part.averages for part in parts) else aggregator.reads

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        del extra_args
        step = _contract.check_update(
            num_tasks, labels, template(updates), params, losses, task_mask, losses_required_by
        )
        if isinstance(updates, PendingTaskGrads) and reads == "rows":
            updates = updates.stacked()
        stack = _stack(updates, step, num_tasks, reads)
        part_states = []
        for part, part_state in zip(parts, state.parts, strict=True):
            stack, part_state = part.update(stack, part_state, step.losses)
            part_states.append(part_state)
        merged, stack, aggregator_state = aggregator.update(stack, state.aggregator, step.losses)

        def place(label, leaf, shared):
            if label == _partition.SHARED:
                return shared.astype(leaf.dtype)
            own = stack.own_weights[label] * leaf
            return jnp.where(stack.present[label], own, 0).astype(leaf.dtype)

        new_state = MultiTaskState(
            state.skipped + (step.mask & ~stack.present),
            tuple(
                part.settle(part_state, stack.present)
                for part, part_state in zip(parts, part_states, strict=True)
            ),
            aggregator_state,
        )
        return jax.tree.map(place, step.labels, template(updates), merged), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def transformation(
    num_tasks: int,
    part: Part,
    labels: _partition.Labels,
    *,
    losses_required_by: str | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A single part as a transformation [T, *shape] → [T, *shape], for chains of the user's."""

    def init(params: Any) -> Any:
        return part.init(_partition.shared(_partition.resolve(labels, params, num_tasks), params))

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        del extra_args
        step = _contract.check_update(
            num_tasks, labels, template(updates), params, losses, task_mask, losses_required_by
        )
        stack, state = part.update(_stack(updates, step, num_tasks, "sum"), state, step.losses)
        absent = step.mask & ~stack.present
        weights = jnp.where(absent, jnp.nan, stack.weights)
        own_weights = jnp.where(absent, jnp.nan, stack.own_weights)
        if isinstance(stack.rows, PendingRows):
            return updates.scaled(weights, own_weights), state

        def place(label, leaf, row):
            if label == _partition.SHARED:
                return scale_tasks(weights, row).astype(leaf.dtype)
            return (own_weights[label] * leaf).astype(leaf.dtype)

        return jax.tree.map(place, step.labels, template(updates), stack.tree), state

    return optax.GradientTransformationExtraArgs(init, update)
