"""What optax and JAX expect of every transformation, checked for all of them alike."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from tests.helpers import samplers

T = 3
TRANSFORMATIONS = samplers.METHODS | {
    "db_mtl, beta 0": functools.partial(dbmtl.db_mtl, beta=0.0),
    "db_mtl, schedule": functools.partial(
        dbmtl.db_mtl, beta=dbmtl.inverse_power_schedule(0.9, 0.5), debias=True
    ),
    "scale_by_log_loss": dbmtl.scale_by_log_loss,
    "task_ema": dbmtl.task_ema,
    "balance_magnitudes": dbmtl.balance_magnitudes,
    "sum_tasks": dbmtl.sum_tasks,
}
STACKED = {"scale_by_log_loss", "task_ema"}


@pytest.fixture(params=TRANSFORMATIONS)
def name(request):
    return request.param


@pytest.fixture
def tx(name):
    return TRANSFORMATIONS[name](T)


def inputs(steps=4, dtype=jnp.float32, shapes=samplers.SHAPES):
    """Stacked over steps: gradients, losses and masks."""
    rows = [
        (
            samplers.task_grads(T, k, shapes, dtype),
            samplers.losses(T, k),
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


def test_one_compilation_for_many_steps(tx, name):
    params = samplers.params_like()
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(tx.update, n=1))
    jitted, state = run(tx, params, inputs(), update)
    plain, plain_state = run(tx, params, inputs(), tx.update)
    assert_close((jitted, state), (plain, plain_state), name)


def test_scan_vmap_and_donation_change_nothing(tx, name):
    params = samplers.params_like()
    batches = inputs()

    def body(state, batch):
        grads, losses, mask = batch
        update, state = tx.update(grads, state, params, losses=losses, task_mask=mask)
        return state, update

    @functools.partial(jax.jit, donate_argnums=0)
    def scanned(state, batches):
        return jax.lax.scan(body, state, batches)

    expected, expected_state = run(tx, params, batches)
    state, updates = scanned(tx.init(params), batches)
    assert_close((updates, state), (expected, expected_state), name)

    twice = jax.tree.map(lambda x: jnp.stack([x, x]), tx.init(params))
    first = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), batches)
    _, batched = jax.vmap(body)(twice, first)
    assert_close(batched, jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), expected), name)


def test_state_is_stable_under_cond(tx):
    params = samplers.params_like()
    grads, losses, _ = jax.tree.map(lambda x: x[0], inputs())
    state = tx.init(params)

    @jax.jit
    def maybe(flag, state):
        return jax.lax.cond(
            flag, lambda s: tx.update(grads, s, params, losses=losses)[1], lambda s: s, state
        )

    chex.assert_trees_all_equal(maybe(False, state), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(maybe(True, state), state)


def test_state_holds_nothing_but_arrays(tx):
    for leaf in jax.tree.leaves(tx.init(samplers.params_like())):
        assert isinstance(leaf, jax.Array)
        assert not leaf.weak_type


def test_the_tree_does_not_matter(tx, name):
    """Nested, or a tuple of leaves: the same numbers."""
    nested = inputs()
    flat = (tuple(jax.tree.leaves(nested[0])), *nested[1:])
    params = samplers.params_like()
    expected, _ = run(tx, params, nested)
    got, _ = run(tx, tuple(jax.tree.leaves(params)), flat)
    assert_close(jax.tree.leaves(expected), list(got), name)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_updates_keep_the_gradients_dtype_and_shape(tx, name, dtype):
    params = samplers.params_like(dtype=dtype)
    updates, _ = run(tx, params, inputs(2, dtype))
    leading = (2, T) if name in STACKED else (2,)
    chex.assert_trees_all_equal_dtypes(jax.tree.map(lambda u: u[0], updates), params)
    for update, param in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        chex.assert_shape(update, (*leading, *param.shape))
    chex.assert_tree_all_finite(updates)


@pytest.mark.parametrize("tx", [dbmtl.balance_magnitudes(1), dbmtl.sum_tasks(1)])
def test_norms_accumulate_in_float32(tx):
    """In bfloat16 the squares would be off by up to 0.4 %, and their sum stop growing at 256."""
    entry = jnp.asarray(0.1, jnp.bfloat16)
    grads = jnp.full((1, 4096), entry)
    _, state = tx.update(grads, tx.init(grads[0]), losses=jnp.ones(1))
    np.testing.assert_allclose(optax.tree.get(state, "norms"), 64 * float(entry), rtol=1e-5)


def test_unknown_extra_arguments_are_ignored(tx):
    params = samplers.params_like()
    grads, losses, _ = jax.tree.map(lambda x: x[0], inputs())
    state = tx.init(params)
    expected = tx.update(grads, state, params, losses=losses)
    got = tx.update(grads, state, params, losses=losses, value=1.0, anything="else")
    chex.assert_trees_all_equal(got, expected)


def test_chains_with_an_optimizer(tx, name):
    """In front of Adam, and with gradient accumulation around the optimizer alone."""
    if name in STACKED:
        pytest.skip("does not aggregate")
    params = samplers.params_like()
    safe_adam = optax.apply_if_finite(optax.adam(1e-2), max_consecutive_errors=3)
    accumulated = optax.MultiSteps(safe_adam, every_k_schedule=2).gradient_transformation()
    updates, _ = run(optax.chain(tx, accumulated), params, inputs(2))
    moved = optax.apply_updates(params, jax.tree.map(lambda u: u[-1], updates))
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(moved))


def test_aggregates_within_optaxs_own_process(tx, name):
    """`optax.experimental.aggregating.process`, whose parts must take extra arguments."""
    if name in STACKED:
        pytest.skip("does not aggregate")
    aggregating = pytest.importorskip("optax.experimental").aggregating
    plain = optax.with_extra_args_support
    processed = aggregating.process(plain(optax.identity()), tx, plain(optax.sgd(0.1)))
    params = samplers.params_like()
    got, _ = run(processed, params, inputs(2))
    expected, _ = run(optax.chain(tx, optax.sgd(0.1)), params, inputs(2))
    assert_close(got, expected, name)


def test_params_like_parts_of_the_state_are_found(tx):
    params = samplers.params_like()
    state = tx.init(params)
    marked = optax.tree.map_params(tx, lambda x: jnp.full_like(x, 7), state)
    # By shape, as a method's own networks are no such parts, whatever their rank.
    shapes = {(T, *p.shape) for p in jax.tree.leaves(params)} - {(T,)}
    stacked = [leaf for leaf in jax.tree.leaves(marked) if leaf.shape in shapes]
    assert all(jnp.all(leaf == 7) for leaf in stacked)
    chex.assert_trees_all_equal_shapes_and_dtypes(marked, state)


def test_orbax_restores_the_state(tx, tmp_path):
    ocp = pytest.importorskip("orbax.checkpoint")
    params = samplers.params_like()
    _, state = run(tx, params, inputs())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", tx.init(params))
    chex.assert_trees_all_equal(restored, state)


def test_injected_hyperparameters_may_be_traced():
    build = optax.inject_hyperparams(
        dbmtl.db_mtl, static_args=("num_tasks", "scale", "log_losses", "debias")
    )
    tx = build(num_tasks=T, beta=0.9)
    params = samplers.params_like()
    got, _ = run(tx, params, inputs(), jax.jit(tx.update))
    expected, _ = run(dbmtl.db_mtl(T, 0.9), params, inputs())
    assert_close(got, expected)
