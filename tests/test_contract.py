"""What optax and JAX expect of every transformation, checked for all of them alike."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers import samplers

T = 3


def log_sum(num_tasks, labels=None):
    return optax.chain(
        dbmtl.scale_by_log_loss(num_tasks, labels=labels),
        dbmtl.sum_tasks(num_tasks, labels=labels),
    )


TRANSFORMATIONS = samplers.METHODS | {
    "db_mtl, beta 0": functools.partial(dbmtl.db_mtl, beta=0.0),
    "db_mtl, schedule": functools.partial(
        dbmtl.db_mtl, beta=dbmtl.inverse_power_schedule(0.9, 0.5), debias=True
    ),
    "db_mtl, median": functools.partial(dbmtl.db_mtl, scale="median"),
    "db_mtl, mean": functools.partial(dbmtl.db_mtl, scale="mean"),
    "db_mtl, min": functools.partial(dbmtl.db_mtl, scale="min"),
    "moco, normalize": functools.partial(dbmtl.moco, normalize=True),
    "balance_magnitudes": dbmtl.balance_magnitudes,
    "log, sum": log_sum,
    "scale_by_log_loss": dbmtl.scale_by_log_loss,
    "scale_by_uw": dbmtl.scale_by_uw,
    "task_ema": dbmtl.task_ema,
    "unit rows, sum": lambda num_tasks, labels=None: optax.chain(
        dbmtl.normalize_rows(num_tasks, labels=labels), dbmtl.sum_tasks(num_tasks, labels=labels)
    ),
    "clipped rows, sum": lambda num_tasks, labels=None: optax.chain(
        dbmtl.clip_rows(num_tasks, 0.5, labels=labels), dbmtl.sum_tasks(num_tasks, labels=labels)
    ),
}
MAGNIFIED = {"aligned_mtl", "cagrad"}
"""Small eigenvalues magnify what the order of additions changes."""


@pytest.fixture
def tx(name):
    return TRANSFORMATIONS[name](T)


IN_SHORT = ("jit", "scan", "state", "masks", "bad tasks", "no task left")
"""The clauses for options of a method whose other clauses hold as they do for its defaults."""


def options_alone(name):
    return name.startswith("db_mtl, ") or name in ("moco, normalize", "clipped rows, sum")


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_contract(name):
    magnified = 10 if name in MAGNIFIED else 1
    clauses = IN_SHORT if options_alone(name) else None
    testing.assert_contract(
        TRANSFORMATIONS[name], clauses=clauses, rtol=1e-5 * magnified, atol=1e-6 * magnified
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TRANSFORMATIONS if options_alone(name)])
def test_all_clauses_hold_for_options(name):
    testing.assert_contract(TRANSFORMATIONS[name])


def all_but_the_first(params):
    """What is measured: all parameters but the first, if there are more."""
    leaves, structure = jax.tree.flatten(params)
    return jax.tree.unflatten(structure, [i > 0 or len(leaves) == 1 for i in range(len(leaves))])


@pytest.mark.slow
@pytest.mark.parametrize("name", samplers.READING)
def test_the_contract_holds_with_measured_parameters(name):
    factory = functools.partial(samplers.METHODS[name], measured=all_but_the_first)
    magnified = 10 if name in MAGNIFIED else 1
    testing.assert_contract(factory, rtol=1e-5 * magnified, atol=1e-6 * magnified)


@pytest.mark.slow
@pytest.mark.parametrize("name", samplers.READING)
def test_the_contract_holds_for_weights_that_are_refreshed(name):
    def factory(num_tasks, labels=None):
        return dbmtl.refresh_weights(samplers.METHODS[name](num_tasks, labels=labels), 2)

    testing.assert_contract(factory, stream=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["db_mtl", "cagrad", "uw", "grad_drop"])
def test_contract_of_a_single_task(name):
    testing.assert_contract(samplers.METHODS[name], num_tasks=1, rtol=1e-4, atol=1e-5)


def inputs(steps=4, dtype=jnp.float32, shapes=testing.SHAPES):
    """Stacked over steps: gradients, losses and masks."""
    rows = [
        (
            testing.sample_task_grads(T, k, shapes, dtype),
            testing.sample_losses(T, k),
            jnp.array([True, k % 2 == 0, True]),
        )
        for k in range(steps)
    ]
    return jax.tree.map(lambda *xs: jnp.stack(xs), *rows)


def run(tx, params, batches, update=None):
    """The loop that everything else must agree with: every step's update, and the last state."""
    update = update or jax.jit(tx.update)
    state = tx.init(params)
    updates = []
    for k in range(batches[1].shape[0]):
        grads, losses, mask = jax.tree.map(lambda x, k=k: x[k], batches)
        u, state = update(grads, state, params, losses=losses, task_mask=mask)
        updates.append(u)
    return jax.tree.map(lambda *xs: jnp.stack(xs), *updates), state


def assert_close(actual, expected, name=""):
    """Up to what the order of additions changes, which small eigenvalues magnify."""
    magnified = 10 if name in ("aligned_mtl", "cagrad") else 1
    chex.assert_trees_all_close(actual, expected, rtol=1e-5 * magnified, atol=1e-6 * magnified)


@pytest.mark.parametrize("name", ["db_mtl", "pcgrad", "grad_drop", "mtadam", "meta_balance"])
def test_the_tree_does_not_matter(tx, name):
    """Nested, or a tuple of leaves: the same numbers, however the method treats its leaves."""
    nested = inputs()
    flat = (tuple(jax.tree.leaves(nested[0])), *nested[1:])
    params = testing.sample_params()
    expected, _ = run(tx, params, nested)
    got, _ = run(tx, tuple(jax.tree.leaves(params)), flat)
    assert_close(jax.tree.leaves(expected), list(got), name)


@pytest.mark.parametrize("tx", [dbmtl.balance_magnitudes(1), dbmtl.sum_tasks(1)])
def test_norms_accumulate_in_float32(tx):
    """In bfloat16 the squares would be off by up to 0.4 %, and their sum stop growing at 256."""
    entry = jnp.asarray(0.1, jnp.bfloat16)
    grads = jnp.full((1, 4096), entry)
    _, state = tx.update(grads, tx.init(grads[0]), losses=jnp.ones(1))
    np.testing.assert_allclose(optax.tree.get(state, "norms"), 64 * float(entry), rtol=1e-5)


@pytest.mark.parametrize("name", ["ew", "uw", "db_mtl", "mtadam"])
def test_chains_with_an_optimizer(tx, name):
    """In front of Adam, and with gradient accumulation around the optimizer alone."""
    params = testing.sample_params()
    safe_adam = optax.apply_if_finite(optax.adam(1e-2), max_consecutive_errors=3)
    accumulated = optax.MultiSteps(safe_adam, every_k_schedule=2).gradient_transformation()
    updates, _ = run(optax.chain(tx, accumulated), params, inputs(2))
    moved = optax.apply_updates(params, jax.tree.map(lambda u: u[-1], updates))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(moved))


@pytest.mark.parametrize("name", ["ew", "uw", "db_mtl"])
def test_aggregates_within_optaxs_own_process(tx, name):
    """`optax.experimental.aggregating.process`, whose parts must take extra arguments."""
    aggregating = pytest.importorskip("optax.experimental").aggregating
    plain = optax.with_extra_args_support
    processed = aggregating.process(plain(optax.identity()), tx, plain(optax.sgd(0.1)))
    params = testing.sample_params()
    got, _ = run(processed, params, inputs(2))
    expected, _ = run(optax.chain(tx, optax.sgd(0.1)), params, inputs(2))
    assert_close(got, expected, name)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_params_like_parts_of_the_state_are_found(tx):
    params = testing.sample_params()
    state = tx.init(params)
    marked = optax.tree.map_params(tx, lambda x: jnp.full_like(x, 7), state)
    # By shape, as a method's own networks are no such parts, whatever their rank.
    shapes = {(T, *p.shape) for p in jax.tree.leaves(params)} - {(T,)}
    stacked = [leaf for leaf in jax.tree.leaves(marked) if leaf.shape in shapes]
    assert all(jnp.all(leaf == 7) for leaf in stacked)
    chex.assert_trees_all_equal_shapes_and_dtypes(marked, state)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_orbax_restores_the_state(tx, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    params = testing.sample_params()
    # Other values than those that `init` would give, without compiling a step for them.
    state = jax.tree.map(lambda x: x + jnp.ones_like(x), tx.init(params))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", tx.init(params))
    chex.assert_trees_all_equal(restored, state)
