"""The clauses of the contract: each is a check, whose docstring is what it asserts."""

import contextlib
import functools
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dbmtl_jax._diagnostics import diagnostics
from dbmtl_jax.core._types import Array, PyTree
from dbmtl_jax.testing._samplers import sample_losses, sample_params, sample_task_grads
from dbmtl_jax.testing._subject import STEPS, Batch, Subject, batch, batches, run


def check_jit(subject: Subject) -> None:
    """One compilation serves all steps."""
    run(subject)
    assert len(subject.traces) == 1, f"it was compiled {len(subject.traces)} times"


def check_scan(subject: Subject) -> None:
    """`lax.scan`, a donated state and `jax.vmap` change nothing."""
    params = sample_params()
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *batches(subject.num_tasks))

    def body(state: Any, batch: Batch) -> tuple[Any, PyTree]:
        grads, losses, mask = batch
        merged, state = subject.tx.update(grads, state, params, losses=losses, task_mask=mask)
        return state, merged

    scanned = jax.jit(functools.partial(jax.lax.scan, body), donate_argnums=0)
    updates, last = run(subject)
    state, found = scanned(subject.tx.init(params), stacked)
    subject.assert_close((found, state), (updates, last))

    twice = jax.tree.map(lambda x: jnp.stack([x, x]), subject.tx.init(params))
    first = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), stacked)
    _, batched = jax.jit(jax.vmap(body))(twice, first)
    subject.assert_close(batched, jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), updates))


def check_state(subject: Subject) -> None:
    """The state is a tree of arrays whose shapes and dtypes no step changes (`lax.cond`)."""
    state = subject.tx.init(sample_params())
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        where = f"state{jax.tree_util.keystr(path)}"
        assert isinstance(leaf, jax.Array), f"{where}: expected an array, found {type(leaf)}"
        assert not leaf.weak_type, f"{where}: expected a dtype of its own, found a weak type"
    grads, losses, mask = batch(subject.num_tasks, 0)
    _, moved = subject.update(grads, state, losses, mask)
    chex.assert_trees_all_equal_structs(moved, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, state)

    def maybe(flag: Array) -> Any:
        return jax.lax.cond(
            flag, lambda: subject.update(grads, state, losses, mask)[1], lambda: state
        )

    chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(maybe, jnp.array(True)), state)


def check_dtypes(subject: Subject) -> None:
    """Updates keep the dtypes of the gradients, and stay finite in half precision."""

    @jax.jit
    def step(params: PyTree, grads: PyTree, states: Any) -> Any:
        losses = sample_losses(subject.num_tasks)
        return [
            subject.tx.update(g, state, p, losses=losses)
            for p, g, state in zip(params, grads, states, strict=True)
        ]

    dtypes = (jnp.bfloat16, jnp.float16)
    params = [sample_params(dtype=dtype) for dtype in dtypes]
    grads = [sample_task_grads(subject.num_tasks, dtype=dtype) for dtype in dtypes]
    states = [subject.tx.init(p) for p in params]
    for p, state, (merged, moved) in zip(params, states, step(params, grads, states), strict=True):
        chex.assert_trees_all_equal_dtypes(merged, p)
        chex.assert_trees_all_equal_dtypes(moved, state)
        chex.assert_tree_all_finite(merged)


def check_extra_arguments(subject: Subject) -> None:
    """Keywords of `update` that it does not know are ignored, as in optax."""
    grads, losses, _ = batch(subject.num_tasks, 0)
    state, params = subject.tx.init(sample_params()), sample_params()

    def program(**extra: Any) -> str:
        update = functools.partial(subject.tx.update, losses=losses, **extra)
        return str(jax.make_jaxpr(update)(grads, state, params))

    assert program(value=1.0, anything="else") == program(), "the program is another one"


def check_checkpoints(subject: Subject) -> None:
    """A state that was written to bytes and read again goes on where it was."""
    grads, losses, mask = batch(subject.num_tasks, STEPS)
    _, state = run(subject)
    leaves, structure = jax.tree.flatten(state)
    read = pickle.loads(pickle.dumps([np.asarray(leaf) for leaf in leaves]))
    restored = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in read])
    found = subject.update(grads, restored, losses, mask)
    expected = subject.update(grads, state, losses, mask)
    chex.assert_trees_all_equal(found, expected)


def check_masks(subject: Subject) -> None:
    """What stands in the rows of masked tasks, NaN included, is of no consequence."""
    grads, losses, _ = batch(subject.num_tasks, 0)
    mask = jnp.arange(subject.num_tasks) != _last(subject)
    state = subject.tx.init(sample_params())
    clean = subject.update(grads, state, losses, mask)
    for value in (0.0, jnp.nan, jnp.inf):
        spoilt = _spoilt(grads, losses, _last(subject), value)
        merged, moved = subject.update(spoilt[0], state, spoilt[1], mask)
        if subject.aggregates:
            chex.assert_trees_all_equal(merged, clean[0])
        chex.assert_trees_all_equal(moved, clean[1])
    if subject.num_tasks == 1 and subject.aggregates:
        chex.assert_trees_all_equal(clean[0], sample_params())


def check_bad_tasks(subject: Subject) -> None:
    """A task whose loss or gradient is not finite is as if masked, then and later, and counted."""
    if not subject.aggregates:
        return
    bad = _last(subject)
    everyone = jnp.ones(subject.num_tasks, bool)
    grads, losses, _ = batch(subject.num_tasks, 0)
    _, state = subject.update(grads, subject.tx.init(sample_params()), losses, everyone)
    others = jnp.arange(subject.num_tasks) != bad
    masked, after_mask = subject.update(grads, state, losses, others)
    for value in (jnp.nan, -jnp.inf):
        for bad_grads, bad_losses in (
            _spoilt(grads, losses, bad, value),
            (_spoilt(grads, losses, bad, value)[0], losses),
            (grads, losses.at[bad].set(value)),
        ):
            merged, moved = subject.update(bad_grads, state, bad_losses, everyone)
            chex.assert_tree_all_finite((merged, moved))
            subject.assert_close(merged, masked)
            later = subject.update(grads, moved, losses, everyone)
            subject.assert_close(later[0], subject.update(grads, after_mask, losses, everyone)[0])
            with _of_a_method():
                counted = diagnostics(moved).skipped - diagnostics(state).skipped
                np.testing.assert_array_equal(counted, ~others)
                np.testing.assert_array_equal(diagnostics(moved).present, others)


def check_no_task_left(subject: Subject) -> None:
    """With every task masked, or bad, the update is zero and the state stays finite."""
    if not subject.aggregates:
        return
    grads, losses, _ = batch(subject.num_tasks, 0)
    everyone = jnp.ones(subject.num_tasks, bool)
    state = run(subject)[1]
    nans = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), grads)
    for case in (
        (grads, state, losses, ~everyone),
        (nans, state, losses, everyone),
        (grads, state, jnp.full_like(losses, jnp.inf), everyone),
    ):
        merged, moved = subject.update(*case)
        chex.assert_trees_all_equal(merged, sample_params())
        chex.assert_tree_all_finite(moved)


def check_own_parameters(subject: Subject) -> None:
    """Own parameters have no task axis, and do not move while their task is absent."""
    factory: Callable[..., Any] = subject.factory
    if not subject.aggregates or "labels" not in _parameters(factory):
        return
    bad = _last(subject)
    labels = {"shared": "shared", "own": bad}
    tx = optax.with_extra_args_support(factory(subject.num_tasks, labels=labels))
    params = {"shared": jnp.zeros(3), "own": jnp.zeros(2)}
    grads = {
        "shared": sample_task_grads(subject.num_tasks, shapes=(3,)),
        "own": jnp.ones(2),
    }
    losses = sample_losses(subject.num_tasks)
    update = jax.jit(lambda g, s: tx.update(g, s, params, losses=losses))
    merged, _ = update(grads, tx.init(params))
    chex.assert_trees_all_equal_shapes_and_dtypes(merged, params)
    chex.assert_tree_all_finite(merged)
    assert np.all(np.asarray(merged["own"]) > 0), "a task's own parameter does not follow its task"
    grads["own"] = jnp.array([jnp.nan, 1.0])
    merged, _ = update(grads, tx.init(params))
    np.testing.assert_array_equal(merged["own"], 0, "an own parameter of a bad task moves")
    chex.assert_tree_all_finite(merged)


def _last(subject: Subject) -> int:
    """The task that is masked or goes wrong."""
    return subject.num_tasks - 1


def _spoilt(grads: PyTree, losses: Array, task: int, value: float) -> tuple[PyTree, Array]:
    """A task's gradients and loss set to a value."""
    spoilt = jax.tree.map(lambda g: g.at[task].set(value), grads)
    return spoilt, losses.at[task].set(value)


def _parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}


@contextlib.contextmanager
def _of_a_method() -> Iterator[None]:
    """Passes over transformations that do not count bad tasks, as no method of the library is."""
    with contextlib.suppress(ValueError):
        yield
