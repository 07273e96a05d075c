"""Methods as chains of parts, and parts as optax transformations.

Within one transformation the tasks' gradients travel as a `Stack`: the rows as they came, and for
every row a weight.  Weighting is postponed until rows are summed or averaged, because a reduction
over scaled or selected rows does not vectorise on CPUs and runs several times slower than one over
plain arrays.

Between transformations that a user chains with `optax.chain` they travel as plain arrays, scaled.
There a task that has no usable gradient is a row of NaN, the one value that no gradient can
legitimately have: so parts that know nothing of each other agree without a side channel, also when
other elementwise transformations stand between them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax import _contract, _partition
from dbmtl_jax._task_linalg import gramian, scale_tasks, squared_norms, weighted_sum


class Stack(NamedTuple):
    """The gradients of T tasks: row t is `weights[t]` times row t of every leaf."""

    tree: Any  # the shared leaves [T, *shape], `optax.MaskedNode` in the place of tasks' own
    squares: jax.Array  # ‖row t‖² without its weight, over all leaves together, [T]
    products: jax.Array | None  # the rows' inner products without weights, [T, T], if asked for
    weights: jax.Array  # [T]
    own_weights: jax.Array  # [T], of the tasks' own parameters
    present: jax.Array  # [T] bool: the tasks that take part in this step

    @property
    def norms(self) -> jax.Array:
        """‖row t‖ with its weight, [T]; 0 for absent tasks."""
        norms = jnp.sqrt(jnp.where(self.present, self.squares, 0))
        return norms * jnp.where(self.present, jnp.abs(self.weights), 0)

    @property
    def cosines(self) -> jax.Array:
        """C_ij = cos(row i, row j), [T, T]; 0 for absent rows and for zero ones.

        With the norms d, the Gramian G Gᵀ is d_i d_j C_ij.  Kept apart, float32 holds the two
        for tasks of any scale, where the Gramian itself would lose the small ones.
        """
        products = self.products
        if products is None:
            products = gramian(jax.tree.leaves(self.tree), self.squares.shape[0])
        lengths = jnp.sqrt(jnp.where(self.present, self.squares, 0))
        usable = lengths > 0
        signs = jnp.where(usable, jnp.sign(self.weights) / jnp.where(usable, lengths, 1), 0)
        products = jnp.where(usable[:, None] & usable[None, :], products, 0)
        # One factor at a time: their product may overflow.
        cosines = products * signs[:, None] * signs[None, :]
        return jnp.fill_diagonal(cosines, usable.astype(cosines.dtype), inplace=False)

    @property
    def gramian(self) -> jax.Array:
        """G Gᵀ [T, T] over the square of the largest norm, which no dtype overflows with."""
        largest = jnp.max(self.norms)
        unit = self.norms / jnp.where(largest > 0, largest, 1)
        return self.cosines * unit[:, None] * unit[None, :]

    def scaled(self, weights: jax.Array) -> Self:
        """Every row, and the task's own parameters, times a weight [T]."""
        return self._replace(weights=self.weights * weights, own_weights=self.own_weights * weights)

    def sum(self, weights: jax.Array) -> Any:
        """Σ_t w_t row_t over the present tasks: the tree of updates."""
        combined = jnp.where(self.present, self.weights * weights, 0)
        return jax.tree.map(lambda leaf: weighted_sum(combined, self.present, leaf), self.tree)


class Part(NamedTuple):
    """A step of a method that maps a stack to a stack.

    `init(shared) -> state` sees the tree of shared parameters;
    `update(stack, state, losses) -> (stack, state)` the stack and the raw losses [T] or None.
    """

    init: Callable[[Any], Any]
    update: Callable[[Stack, Any, Any], tuple[Stack, Any]]


class Aggregator(NamedTuple):
    """The end of a method: it merges the rows.

    `update(stack, state, losses) -> (merged tree, own_weights [T], state)`.  Where it uses the
    cosines, `gramian` has them formed in the pass over the rows that checks these.
    """

    init: Callable[[Any], Any]
    update: Callable[[Stack, Any, Any], tuple[Any, jax.Array, Any]]
    gramian: bool = False


class MultiTaskState(NamedTuple):
    """The state of a method."""

    skipped: jax.Array  # [T] int32: steps in which an unmasked task was not usable
    parts: tuple[Any, ...]
    aggregator: Any


def strict() -> bool:
    """Whether an unusable task is to raise.

    Under `jax_debug_nans` nobody leaves it out: its NaN reaches the update, where JAX finds it.
    """
    return bool(jax.config.jax_debug_nans)  # type: ignore[attr-defined]


def _stack(
    updates: Any, step: _contract.Step, num_tasks: int, with_products: bool = False
) -> Stack:
    """The stack of a step, without the tasks that are masked or not finite.

    The sum of squares is what finds a NaN or an infinity: one vectorised reduction, where a pass
    of `isfinite` does not vectorise on a CPU.  A gradient whose squared norm overflows
    (‖g_t‖ > 1.8e19 in float32) therefore counts as not finite.
    """
    tree = _partition.shared(step.labels, updates)
    leaves = jax.tree.leaves(tree)
    products = gramian(leaves, num_tasks) if with_products else None
    squares = squared_norms(leaves, num_tasks) if products is None else jnp.diagonal(products)
    present = step.mask
    if not strict():
        present &= jnp.isfinite(squares)
        if step.losses is not None:
            present &= jnp.isfinite(step.losses)
        for task, leaf in _partition.own_leaves(step.labels, updates):
            finite = jnp.isfinite(squared_norms([leaf[None]], 1)[0])
            present = present.at[task].set(present[task] & finite)
    ones = jnp.ones((num_tasks,), squares.dtype)
    return Stack(tree, squares, products, ones, ones, present)


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

    def update(updates, state, params=None, *, losses=None, task_mask=None, **extra_args):
        del extra_args
        step = _contract.check_update(
            num_tasks, labels, updates, params, losses, task_mask, losses_required_by
        )
        stack = _stack(updates, step, num_tasks, aggregator.gramian)
        part_states = []
        for part, part_state in zip(parts, state.parts, strict=True):
            stack, part_state = part.update(stack, part_state, step.losses)
            part_states.append(part_state)
        merged, own_weights, aggregator_state = aggregator.update(
            stack, state.aggregator, step.losses
        )

        def place(label, leaf, shared):
            if label == _partition.SHARED:
                return shared.astype(leaf.dtype)
            return jnp.where(stack.present[label], own_weights[label] * leaf, 0).astype(leaf.dtype)

        skipped = state.skipped + (step.mask & ~stack.present)
        new_state = MultiTaskState(skipped, tuple(part_states), aggregator_state)
        return jax.tree.map(place, step.labels, updates, merged), new_state

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
            num_tasks, labels, updates, params, losses, task_mask, losses_required_by
        )
        stack, state = part.update(_stack(updates, step, num_tasks), state, step.losses)
        absent = step.mask & ~stack.present
        weights = jnp.where(absent, jnp.nan, stack.weights)
        own_weights = jnp.where(absent, jnp.nan, stack.own_weights)

        def place(label, leaf, row):
            if label == _partition.SHARED:
                return scale_tasks(weights, row).astype(leaf.dtype)
            return (own_weights[label] * leaf).astype(leaf.dtype)

        return jax.tree.map(place, step.labels, updates, stack.tree), state

    return optax.GradientTransformationExtraArgs(init, update)
