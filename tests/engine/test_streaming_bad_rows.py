"""Pending gradients that are not finite: whose row is left out, and when a step is lost."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from tests.engine.streaming import (
    LABELS,
    METHODS,
    SUMS,
    T,
    assert_close,
    batches,
    init,
    stepper,
    task_grads,
)


def test_a_bad_slice_is_left_out_of_a_sum_of_which_no_row_was_read():
    tx = dbmtl.ew(T, labels=LABELS)
    params, (x, _, mask) = init(), next(batches(with_ill=False))
    state = tx.init(params)
    without_first, _ = stepper(tx, "slices", True)(
        state, params, x, jnp.zeros(T), mask.at[0].set(False)
    )
    ill = jnp.zeros(T).at[0].set(1e30)
    updates, state = stepper(tx, "slices", True)(tx.init(params), params, x, ill, mask)
    assert_close(updates, without_first)
    assert list(state.skipped) == [1, 0, 0]


@pytest.mark.parametrize("name", sorted(SUMS))
def test_an_ill_task_costs_the_others_nothing_where_only_the_sum_is_computed(name):
    tx = METHODS[name](T, labels=LABELS)
    step = stepper(tx, "loop", True)
    params = init()
    x, mask = jnp.ones((6, 4)), jnp.array([True, True, False])
    updates, state = step(tx.init(params), params, x, jnp.array([1e30, 0, 0]), mask)
    assert jnp.all(jnp.isfinite(updates["encoder"]["w"]))
    assert jnp.any(updates["encoder"]["w"] != 0)
    assert not jnp.any(updates["heads"][0])
    assert list(optax.tree.get(state, "skipped")) == [1, 0, 0]


def test_where_what_all_share_overflows_the_step_is_lost():
    """No row was computed, so nobody can tell whose fault it is: all are skipped."""
    tx = dbmtl.ew(2)

    def fun(w):
        z = w * 1e30
        return [jnp.sum(z * 1e9), jnp.sum(z)]

    @jax.jit
    def step(state, w):
        losses, grads = dbmtl.value_and_task_grads(fun, stream=True)(w)
        return tx.update(grads, state, w, losses=losses)

    updates, state = step(tx.init(jnp.ones(2)), jnp.zeros(2))
    np.testing.assert_array_equal(updates, 0)
    assert list(optax.tree.get(state, "skipped")) == [1, 1]


@pytest.mark.parametrize("mode", ["unroll", "loop"])
@pytest.mark.parametrize("name", ["db_mtl", "db_mtl, beta 0", "mgda", "grad_drop"])
def test_a_row_that_overflows_in_the_shared_part_is_found(name, mode):
    """Its cotangent is finite; only its norm or its product with itself tells."""
    tx = METHODS[name](2)

    def fun(w):
        z = w * 1e30
        return [jnp.sum(z) * 1e9 + 1, jnp.sum(z) * 1e-30 + 1]

    losses, grads = dbmtl.value_and_task_grads(fun, stream=True, mode=mode)(jnp.zeros(2))
    updates, state = tx.update(grads, tx.init(jnp.zeros(2)), losses=losses)
    assert list(optax.tree.get(state, "skipped")) == [1, 0]
    chex.assert_tree_all_finite((updates, state))  # an average stays what it was
    assert jnp.all(updates > 0)
    loss_weights = optax.tree.get(state, "loss_weights")
    assert loss_weights is None or loss_weights[0] == 0


def test_a_masked_task_may_be_ill():
    tx = dbmtl.ew(T, labels=LABELS)
    params, x, ill = init(), jnp.ones((6, 4)), jnp.array([1e30, 0, 0])
    updates, state = stepper(tx, "loop", True)(tx.init(params), params, x, ill, ill == 0)
    _, grads = task_grads("loop", False, params, x, ill)
    expected = jax.tree.map(lambda g: g[1] + g[2], grads["encoder"])
    chex.assert_trees_all_close(updates["encoder"], expected, rtol=1e-5, atol=1e-5)
    assert not jnp.any(optax.tree.get(state, "skipped"))


def test_strict_mode_raises():
    tx = dbmtl.ew(T, labels=LABELS)
    params = init()
    step = stepper(tx, "loop", True)
    arguments = (params, jnp.ones((6, 4)), jnp.full(T, 1e30), jnp.ones(T, bool))
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        step(tx.init(params), *arguments)


@pytest.mark.parametrize("name", ["mgda", "cagrad", "balance_magnitudes", "grad_norm"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_task_is_left_behind_an_infinite_derivative(name, masked):
    """What all losses share has an infinite slope: even a zero cotangent becomes NaN there."""
    tx = getattr(dbmtl, name)(2)
    params = jnp.array([0.0, 1.0])

    def losses_of(p):
        z = jnp.sqrt(p)
        return [z.sum(), (2 * z).sum()]

    losses, grads = dbmtl.value_and_task_grads(losses_of, stream=True)(params)
    mask = jnp.zeros(2, bool) if masked else None
    updates, _ = tx.update(grads, tx.init(params), params, losses=losses, task_mask=mask)
    np.testing.assert_array_equal(updates, 0)
