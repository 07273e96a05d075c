"""Methods as chains of parts, and parts as optax transformations.

Within one transformation the tasks' gradients travel as `Tasks`, with a scale for every row.

Between transformations that a user chains with `optax.chain` they travel as plain arrays, scaled.
There the row of an unusable task is NaN, the one value that no gradient can legitimately have.  So
transformations that know nothing of each other agree without a side channel, even if other
elementwise transformations stand between them.  Pending gradients (`_rows.TaskGrads`) stay pending
until a transformation computes them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import _checks, _labels
from dbmtl_jax.core._parts import READS, Aggregator, Part, Reads
from dbmtl_jax.core._precision import exact_products
from dbmtl_jax.core._rows import gathered, measured_leaves, scaled_own_leaf, template_of
from dbmtl_jax.core._strict import strict
from dbmtl_jax.core._task_linalg import task_vector
from dbmtl_jax.core._tasks import Summed, Tasks
from dbmtl_jax.core._types import (
    Array,
    Int,
    Label,
    Labels,
    Mask,
    Measured,
    Memory,
    PerTask,
    PyTree,
)
from dbmtl_jax.core._usable import cause_of, poisoned, tasks_of, without_a_bad_sum


class MultiTaskState(NamedTuple):
    """The state of a method.  `dbmtl_jax.diagnostics` reads the fields of size T."""

    skipped: Int[Array, " T"]  # how many steps skipped the task: unusable and not masked
    steps: Int[Array, " T"]  # in how many steps the task took part
    present: Mask  # whether it took part in the last step
    streak: Int[Array, " T"]  # of these steps, how many up to the last one without a break
    cause: Int[Array, " T"]  # why the task was skipped last: an index into `CAUSES`
    norms: PerTask  # ‖g_t‖ in the last step; 0 for an absent task, -1 if not computed
    weights: PerTask | None  # w_t in the last step, 0 for an absent task; None if there are none
    parts: tuple[Memory, ...]  # the states of the parts
    aggregator: Memory  # the memory of the aggregator


class TaskTransformation(optax.GradientTransformationExtraArgs):
    """An optax transformation of task gradients whose attributes say what it is made of."""

    num_tasks: int
    parts: tuple[Part, ...]
    aggregator: Aggregator | None  # None: [T, *shape] → [T, *shape], else [T, *shape] → [*shape]
    labels: Labels
    measured: Measured
    name: str  # for error messages

    def __new__(cls, init, update, **fields):
        self = super().__new__(cls, init, update)
        self.__dict__.update(fields)
        return self


def transformation(
    num_tasks: int,
    parts: Sequence[Part],
    aggregator: Aggregator | None,
    labels: Labels,
    name: str,
    measured: Measured = None,
) -> TaskTransformation:
    """Parts, and an aggregator if there is one, as an optax transformation.

    With an aggregator it maps [T, *shape] to [*shape].  A task's own parameters get their gradient
    times the factors that the parts and the aggregator give it, and zero if the task is absent.
    Without an aggregator it maps [T, *shape] to [T, *shape], and there is a single part, whose
    state is the whole state.  Products within `update`, also those of a user's function, are not
    rounded on accelerators; those of pending gradients are what the engine made them.
    """
    if aggregator is None:
        (part,) = parts
        init, update = _scaling(num_tasks, part, labels, measured, name)
    else:
        init, update = _merging(num_tasks, parts, aggregator, labels, measured, name)
    return TaskTransformation(
        init,
        exact_products(update),
        num_tasks=num_tasks,
        parts=tuple(parts),
        aggregator=aggregator,
        labels=labels,
        measured=measured,
        name=name,
    )


def fused(
    *transformations: TaskTransformation,
    labels: Labels = None,
    measured: Measured = None,
    name: str,
) -> TaskTransformation:
    """A chain of transformations as one, which reads the gradients once for all of them."""
    *_, last = transformations
    parts = [part for tx in transformations for part in tx.parts]
    return transformation(last.num_tasks, parts, last.aggregator, labels, name, measured)


def _merging(
    num_tasks: int,
    parts: Sequence[Part],
    aggregator: Aggregator,
    labels: Labels,
    measured: Measured,
    name: str,
) -> tuple[Callable[..., PyTree], Callable[..., tuple[PyTree, Memory]]]:
    """`init` and `update` of a method, [T, *shape] → [*shape]."""
    reads = reads_of(parts, aggregator)

    def init(params: PyTree) -> MultiTaskState:
        shared = _read_leaves(labels, measured, params, num_tasks)
        return MultiTaskState(
            # An array for each field: one buffer cannot be donated twice.
            skipped=jnp.zeros((num_tasks,), jnp.int32),
            steps=jnp.zeros((num_tasks,), jnp.int32),
            present=jnp.zeros((num_tasks,), bool),
            streak=jnp.zeros((num_tasks,), jnp.int32),
            cause=jnp.zeros((num_tasks,), jnp.int32),
            norms=task_vector(num_tasks, 0, shared),
            weights=task_vector(num_tasks, 0, shared) if aggregator.weigh else None,
            parts=tuple(part.init(shared) for part in parts),
            aggregator=aggregator.init(shared),
        )

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        if not isinstance(state, MultiTaskState) or len(state.parts) != len(parts):
            is_state = isinstance(state, MultiTaskState)
            found = "that of another method" if is_state else type(state).__name__
            raise TypeError(f"state: expected the state of {name}, found {found}")
        if jnp.shape(state.skipped) != (num_tasks,):
            found = f"one of {len(state.skipped)}"
            raise ValueError(f"state: expected a state of {num_tasks} tasks, found {found}")
        updates = gathered(updates)
        template = template_of(updates)
        step = _checks.check_update(num_tasks, labels, template, params, losses, task_mask)
        which = _labels.measured(measured, step.labels, template)
        tasks = tasks_of(updates, step, num_tasks, reads, extra_args, name, which)
        if aggregator.of_parameters and not tasks.rows.of_parameters:
            raise TypeError(
                f"updates: {name} needs gradients of the parameters, found those of a "
                'representation (wrt="representation")'
            )
        part_states = []
        for part, part_state in zip(parts, state.parts, strict=True):
            tasks, part_state = part.update(tasks, part_state)
            part_states.append(part_state)
        merged = aggregator.update(tasks, state.aggregator)
        if merged.present is not None:
            tasks = tasks._replace(present=merged.present)
        shared, present = without_a_bad_sum(merged, tasks)
        if strict():
            shared = poisoned(shared, tasks, step)
        own_scales = tasks.own_scales
        if merged.own_weights is not None:
            own_scales = own_scales * merged.own_weights

        def place(label: Label, leaf: PyTree, update: PyTree) -> Array:
            if label == _labels.SHARED:
                return update.astype(leaf.dtype)
            if label == _labels.FROZEN:
                return jnp.zeros_like(leaf)
            return jnp.where(present[label], scaled_own_leaf(label, leaf, own_scales), 0)

        skipped = step.mask & ~present
        new_state = MultiTaskState(
            skipped=counted(state.skipped, skipped),
            steps=counted(state.steps, present),
            present=present,
            # A masked step neither goes on with a streak nor ends it.
            streak=jnp.where(present, 0, counted(state.streak, skipped)),
            cause=jnp.where(skipped, cause_of(step, tasks, merged.weights), state.cause),
            norms=_seen_norms(merged.norms, tasks, present).astype(state.norms.dtype),
            weights=_recorded(merged.weights, present, state.weights),
            parts=tuple(
                part.settle(part_state, present)
                for part, part_state in zip(parts, part_states, strict=True)
            ),
            aggregator=like(merged.memory, state.aggregator),
        )
        return jax.tree.map(place, step.labels, template, shared), new_state

    return init, update


def _scaling(
    num_tasks: int, part: Part, labels: Labels, measured: Measured, name: str
) -> tuple[Callable[..., PyTree], Callable[..., tuple[PyTree, Memory]]]:
    """`init` and `update` of a single part, [T, *shape] → [T, *shape]."""

    def init(params: PyTree) -> Memory:
        return part.init(_read_leaves(labels, measured, params, num_tasks))

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        updates = gathered(updates)
        template = template_of(updates)
        step = _checks.check_update(num_tasks, labels, template, params, losses, task_mask)
        which = _labels.measured(measured, step.labels, template)
        tasks = tasks_of(updates, step, num_tasks, part.reads, extra_args, name, which)
        tasks, state = part.update(tasks, state)
        absent = step.mask & ~tasks.present
        summed = tasks.summed or Summed(tasks.rows, tasks.scales)
        scales, own_scales = (
            jnp.where(absent, jnp.nan, scales) for scales in (summed.scales, tasks.own_scales)
        )
        grads = summed.rows.task_grads(step.labels, template, scales, own_scales)
        if tasks.summed is not None and not summed.rows.of_parameters:
            # These are read with other norms than they are summed with.
            grads = grads.read_as(tasks.scales / jnp.where(summed.scales != 0, summed.scales, 1))
        return grads, state

    return init, update


def _read_leaves(labels: Labels, measured: Measured, params: PyTree, num_tasks: int) -> PyTree:
    """The shared parameters of which gradients are read."""
    _checks.check_arrays("params", params)
    resolved = _labels.resolve(labels, params, num_tasks)
    which = _labels.measured(measured, resolved, params)
    shared = _labels.shared(resolved, params)
    return shared if which is None else measured_leaves(which, shared)


def reads_of(parts: Sequence[Part], aggregator: Aggregator) -> Reads:
    """What has to be known of the rows when the first part sees them."""
    needed: list[Reads] = []
    for part in parts:
        needed.append(part.reads)
        if part.averages:
            # An averaging part finds the unusable tasks by itself.
            break
    else:
        needed.append(aggregator.reads)
    return max(needed, key=READS.index)


def counted(counts: Int[Array, " T"], here: Mask) -> Int[Array, " T"]:
    """Counts one more, up to the largest int."""
    return jnp.where(here, optax.safe_increment(counts), counts)


def _seen_norms(norms: PerTask | None, tasks: Tasks, present: Mask) -> PerTask:
    """The norms to record; -1 if they were not computed."""
    if norms is None:
        norms = jnp.full(present.shape, -1.0) if tasks.squares is None else tasks.norms
    return jnp.where(present, norms, 0)


def _recorded(weights: PerTask | None, present: Mask, old: Array | None) -> PerTask | None:
    """The weights to record, 0 for an absent task."""
    if weights is None or old is None:
        return None
    return jnp.where(present, weights, 0).astype(old.dtype)


def like(new: Memory, old: Memory) -> Memory:
    """Memory in the dtypes that it had, which a state must not change.

    Raises:
      ValueError: for memory of another structure, or an array of another shape.
    """
    _checks.check_same_shapes("memory", new, "the memory before the step", old)
    return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new, old)
