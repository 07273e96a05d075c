"""Reading what any method saw and did in the last step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dbmtl_jax.core import LossBalancingState, MultiTaskState
from dbmtl_jax.core._names import check_names
from dbmtl_jax.core._types import Array, Int, Mask, PerTask
from dbmtl_jax.core._usable import CAUSES


class Diagnostics(NamedTuple):
    """What a method saw and did in the last step; each field is [T], or None."""

    norms: PerTask | None
    """The norms of the gradients that were merged; NaN where they have not been computed."""
    weights: PerTask | None
    """w_t of the update Σ_t w_t g_t; None for a method whose update is no such sum."""
    loss_weights: PerTask | None
    """What the loss balancers multiplied the gradients by; None if there is no loss balancer."""
    skipped: Int[Array, " T"]
    """In how many steps so far the task was skipped (unusable, and not masked)."""
    present: Mask
    """Which tasks took part in the last step."""


def diagnostics(opt_state: Any, names: Sequence[str] | None = None) -> Any:
    """Reads what a method saw and did in the last step, for any method and chain.

    Args:
      opt_state: the state of a method, or of anything that contains a method: `optax.chain`,
        `optax.inject_hyperparams`, `flax.nnx.Optimizer`, ...

      names: of the tasks, if they have any; each field is then a dict by name.

    Returns:
      A `Diagnostics` of arrays [T].  A task that has never taken part has NaN for its norm and
      weights; one that was absent from the last step has 0.  With `optax.multi_transform`, a dict
      from groups to `Diagnostics`.  The function also works inside `jax.jit`.

    Raises:
      ValueError: if there is no method in the state, or more than one.

    Example:
      >>> import jax.numpy as jnp, optax, dbmtl_jax as dbmtl
      >>> tx = optax.chain(dbmtl.db_mtl(2, beta=0.0), optax.sgd(0.1))
      >>> state = tx.init(jnp.zeros(2))
      >>> grads, losses = jnp.array([[3.0, 0.0], [0.0, 60.0]]), jnp.array([1.0, 10.0])
      >>> _, state = tx.update(grads, state, losses=losses)
      >>> seen = dbmtl.diagnostics(state)
      >>> print(seen.norms, seen.weights, seen.loss_weights)
      [3. 6.] [2. 1.] [1.  0.1]
    """
    states = _found(opt_state, (MultiTaskState, optax.transforms.PartitionState))
    groups = [s for s in states if isinstance(s, optax.transforms.PartitionState)]
    if groups:
        if len(states) > 1:
            raise ValueError(
                "opt_state: expected one method or one optax.multi_transform, found "
                f"{len(groups)} of the latter and {len(states) - len(groups)} methods beside it"
            )
        return {
            group: diagnostics(inner, names)
            for group, inner in groups[0].inner_states.items()
            if _found(inner, (MultiTaskState,))
        }
    if len(states) != 1:
        raise ValueError(
            f"opt_state: expected the state of one method of dbmtl_jax, found {len(states)} in "
            f"{type(opt_state).__name__}"
        )
    return _of(states[0], opt_state, names)


def report_skipped(opt_state: Any, names: Sequence[str] | None = None) -> list[str]:
    """Says which tasks were skipped, how often, for how long now, and why: a line for each.

    For training loops, outside of `jax.jit`: a task that is skipped step after step does not train,
    and nothing else tells.

    Args:
      opt_state: as for `diagnostics`.
      names: of the tasks, if they have any.

    Returns:
      A sentence for each task that was skipped in any step so far; none if all is well.

    Raises:
      ValueError: if there is no method in the state, or more than one.

    Example:
      >>> import jax.numpy as jnp, dbmtl_jax as dbmtl
      >>> tx = dbmtl.db_mtl(2)
      >>> losses = jnp.array([1.0, -0.5])
      >>> _, state = tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)), losses=losses)
      >>> print(*dbmtl.report_skipped(state))
      task 1 was skipped in 1 of 1 steps, in the last 1 of them: its loss cannot be weighed (a
      logarithm needs positive losses)
    """
    states = _found(opt_state, (MultiTaskState,))
    if not states:
        diagnostics(opt_state)  # raises
    labels = _in_order(names, states[0])
    lines = []
    for state in states:
        own = _found(state.parts, (LossBalancingState,))
        balancers = _found(opt_state, (LossBalancingState,))
        before = [_array(s.refused) for s in balancers if not any(s is part for part in own)]
        skipped, streak, steps = (_array(x) for x in (state.skipped, state.streak, state.steps))
        for task in range(len(skipped)):
            if not int(skipped[task]):
                continue
            cause = CAUSES[int(_array(state.cause)[task])]
            # A loss balancer in front of the method tells it no more than that the row is unusable.
            if cause == "gradient" and any(int(count[task]) for count in before):
                cause = "refused"
            why = _REASONS[cause]
            name = f"task {task}" if labels is None else f"task {labels[task]!r}"
            total = int(skipped[task]) + int(steps[task])
            now = f", in the last {int(streak[task])} of them" if int(streak[task]) else ""
            lines.append(f"{name} was skipped in {int(skipped[task])} of {total} steps{now}: {why}")
    return lines


_REASONS = {
    "none": "for no known reason",
    "loss": "its loss was not finite",
    "gradient": "its gradient was not finite",
    "weight": "its weight was not finite",
    "refused": "its loss cannot be weighed (a logarithm needs positive losses)",
}


def _in_order(names: Sequence[str] | None, state: MultiTaskState) -> list[str] | None:
    """The names in the order of the rows.

    Raises:
      TypeError, ValueError: for names that are not those of all tasks.
    """
    if names is None:
        return None
    ordered = sorted(check_names("names", [names] if isinstance(names, str) else names))
    number = len(_array(state.skipped))
    if len(ordered) != number:
        raise ValueError(f"names: expected the names of {number} tasks, found {ordered}")
    return ordered


def _of(state: MultiTaskState, opt_state: Any, names: Sequence[str] | None) -> Diagnostics:
    ordered, seen = _in_order(names, state), _array(state.steps) > 0
    norms, weights = _array(state.norms), _array(state.weights)
    factors = [_array(s.loss_weights) for s in _found(opt_state, (LossBalancingState,))]

    def where_seen(values: Array) -> Any:
        return by_name(jnp.where(seen, values, jnp.nan))

    def by_name(values: Array) -> Any:
        return values if ordered is None else dict(zip(ordered, values, strict=True))

    return Diagnostics(
        norms=where_seen(jnp.where(norms < 0, jnp.nan, norms)),
        weights=None if weights is None else where_seen(weights),
        loss_weights=where_seen(math.prod(factors)) if factors else None,
        skipped=by_name(_array(state.skipped)),
        present=by_name(_array(state.present)),
    )


def _array(field: Any) -> Any:
    """The one array in a field of a state: flax.nnx wraps each in a node of its own."""
    leaves = jax.tree.leaves(field)
    return leaves[0] if leaves else None


def _found(tree: Any, kinds: tuple[type, ...]) -> list[Any]:
    """The nodes of these kinds in a tree, outermost first."""
    if hasattr(tree, "opt_state") and not isinstance(tree, Mapping | tuple | list):
        tree = tree.opt_state  # flax.nnx.Optimizer, flax.training.train_state.TrainState
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kinds))
    return [leaf for leaf in leaves if isinstance(leaf, kinds)]
