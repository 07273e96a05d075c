"""`optax.chain` with checks of where its parts stand."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core._frozen import Moving
from dbmtl_jax.core._rows import TaskGrads, gathered, template_of
from dbmtl_jax.core._transformation import TaskTransformation
from dbmtl_jax.core._types import Labels, PyTree


class Chain(optax.GradientTransformationExtraArgs):
    """A chain that knows its parts."""

    parts: tuple[optax.GradientTransformationExtraArgs, ...]

    def __new__(cls, init, update, parts):
        self = super().__new__(cls, init, update)
        self.parts = parts
        return self

    @property
    def methods(self) -> list[TaskTransformation]:
        """The parts that are transformations of task gradients."""
        return [part for part in self.parts if isinstance(part, TaskTransformation)]


def chain(*parts: optax.GradientTransformation, labels: Labels = None) -> Chain:
    """`optax.chain`, with an error for a part that stands in the wrong place.

    In front of a method gradients are [T, *shape], behind it [*shape].  An optimizer in front of
    the method would adapt to stacked gradients, and without a method stacked gradients would be
    added to the parameters: JAX broadcasts both without a word.  (An optimizer without a state,
    plain `optax.sgd` for example, is a factor, and is taken for one.)  What leaves the chain has
    the shapes of the parameters, zeros for those that a part labels "frozen" (whatever weight decay
    adds to them), and no state changes its shape.

    Args:
      parts: transformations, as for `optax.chain`; nested chains of this function are flattened.
      labels: those of the method, if it stands within a wrapper such as
        `optax.inject_hyperparams`; otherwise they are known.  Only what they say about frozen
        parameters is read.  Parts behind the method do not see these.

    Returns:
      A transformation whose state is the tuple of the parts' states.

    Raises:
      ValueError: in `update`, while tracing: for an update that has another shape than its
        parameter, and for a state that changes its shape; the message names the part.
      TypeError: for a part that is no transformation.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = dbmtl.chain(dbmtl.db_mtl(2), optax.sgd(0.1))
      >>> params, losses = jnp.zeros(2), jnp.array([1.0, 2.0])
      >>> updates, state = tx.update(jnp.eye(2), tx.init(params), params, losses=losses)
      >>> print(updates.shape)
      (2,)
      >>> wrong = dbmtl.chain(dbmtl.scale_by_uw(2), optax.sgd(0.1))
      >>> _ = wrong.update(jnp.eye(2), wrong.init(params), params, losses=losses)
      Traceback (most recent call last):
      ...
      ValueError: chain: expected updates of shape (2,), found (2, 2): no part merges the tasks' ...
    """
    flat: list[optax.GradientTransformationExtraArgs] = []
    for i, part in enumerate(parts):
        if not isinstance(part, optax.GradientTransformation):
            raise TypeError(f"chain: expected transformations, found {part!r} as part {i}")
        inner = part.parts if isinstance(part, Chain) else (part,)
        flat += [optax.with_extra_args_support(tx) for tx in inner]

    given = [labels, *(getattr(tx, "labels", None) for tx in flat)]
    known = next((found for found in given if found is not None), None)
    merging = [i for i, tx in enumerate(flat) if getattr(tx, "aggregator", None) is not None]
    scaling = [
        i for i, tx in enumerate(flat) if isinstance(tx, TaskTransformation) and not tx.aggregator
    ]
    # The parts behind the method: these do not see frozen parameters.
    behind = range(merging[0] + 1, len(flat)) if merging else range(0)

    def init(params: PyTree) -> tuple[PyTree, ...]:
        seen = Moving(known, params).params
        return tuple(tx.init(seen if i in behind else params) for i, tx in enumerate(flat))

    def update(updates, state, params=None, **extra_args):
        if len(state) != len(flat):
            raise ValueError(
                f"chain: expected the state of {len(flat)} parts, found {len(state)} entries"
            )
        if extra_args.get("other_grads") is not None and scaling:
            raise TypeError(
                f"other_grads: expected None, as {_named(flat, scaling[0])} stands in front of the "
                "method and scales the gradients of one batch"
            )
        updates = gathered(updates)
        template, states = template_of(updates), []
        moving = Moving(known, template if params is None else params)
        for i, (tx, old) in enumerate(zip(flat, state, strict=True)):
            stacked = _same_shapes(template_of(updates), template)
            seen = params
            if i in behind:
                updates = moving.of(updates)
                seen = None if params is None else moving.params
            try:
                updates, new = tx.update(updates, old, seen, **extra_args)
            except Exception as error:
                if stacked and not isinstance(tx, TaskTransformation):
                    error.add_note(f"chain: {_named(flat, i)} {_IN_FRONT}")
                raise
            _check_state(_named(flat, i), old, new, stacked)
            if i in behind:
                updates = moving.with_zeros(updates)
            states.append(new)
        if isinstance(updates, TaskGrads):
            raise ValueError(f"chain: {_NO_METHOD}")
        if params is not None:
            _check_updates(updates, params, template)
        # Also where a wrapper hides the method, so that nothing stands behind it.
        return moving.with_zeros(moving.of(updates)), tuple(states)

    return Chain(init, update, tuple(flat))


_NO_METHOD = (
    "no part merges the tasks' gradients; end with a method, or with sum_tasks(num_tasks), before "
    "the optimizer"
)
_IN_FRONT = "gets stacked gradients; an optimizer must stand behind the method that merges them"


def _named(flat: Sequence[optax.GradientTransformation], i: int) -> str:
    """Which part, as an error calls it."""
    tx = flat[i]
    name = getattr(tx, "name", None) or getattr(tx.update, "__qualname__", "").partition(".")[0]
    return f"part {i} ({name})" if name not in ("", "chain") else f"part {i}"


def _check_state(part: str, old: PyTree, new: PyTree, stacked: bool) -> None:
    """Raises ValueError for a state that changes its shape."""
    if jax.tree.structure(old) == jax.tree.structure(new):  # type: ignore[operator]
        paths = jax.tree_util.tree_leaves_with_path(old)
        for (path, before), after in zip(paths, jax.tree.leaves(new), strict=True):
            if jnp.shape(before) != jnp.shape(after):
                hint = f"; it {_IN_FRONT}" if stacked else ""
                raise ValueError(
                    f"chain: {part}: expected state{jax.tree_util.keystr(path)} to keep the shape "
                    f"{jnp.shape(before)}, found {jnp.shape(after)}{hint}"
                )


def _check_updates(updates: PyTree, params: PyTree, template: PyTree) -> None:
    """Raises ValueError for an update that has another shape than its parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(updates)
    if len(leaves) != len(jax.tree.leaves(params)):
        return
    came_in = jax.tree.leaves(template)
    for (path, leaf), param, before in zip(leaves, jax.tree.leaves(params), came_in, strict=True):
        if jnp.shape(leaf) != jnp.shape(param):
            whole = _same_shapes(updates, template)
            why = _NO_METHOD if whole else "no part merges the tasks' gradients of this leaf"
            if jnp.shape(leaf) != jnp.shape(before):
                why = "a part in front of the method changes shapes"
            raise ValueError(
                f"chain: expected updates{jax.tree_util.keystr(path)} of shape "
                f"{jnp.shape(param)}, found {jnp.shape(leaf)}: {why}"
            )


def _same_shapes(tree: PyTree, other: PyTree) -> bool:
    return [*map(jnp.shape, jax.tree.leaves(tree))] == [*map(jnp.shape, jax.tree.leaves(other))]
