"""A chain says which of its parts stands in the wrong place."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing

T = 3
PARAMS = testing.sample_params()
GRADS, LOSSES = testing.sample_task_grads(T), testing.sample_losses(T)


def step(tx, params=PARAMS, grads=GRADS):
    return tx.update(grads, tx.init(params), params, losses=LOSSES)


def test_it_is_optaxs_chain():
    parts = (dbmtl.scale_by_log_loss(T), dbmtl.cagrad(T), optax.adam(0.1))
    found, state = step(dbmtl.chain(*parts))
    expected, expected_state = step(optax.chain(*parts))
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(state, expected_state)


def test_nested_chains_are_flattened():
    inner = dbmtl.chain(dbmtl.scale_by_uw(T), dbmtl.pcgrad(T))
    tx = dbmtl.chain(dbmtl.chain(inner), optax.sgd(0.1))
    assert len(tx.parts) == len(tx.init(PARAMS)) == 3


def test_pending_gradients_go_through():
    tx = dbmtl.chain(dbmtl.scale_by_log_loss(2), dbmtl.db_mtl(2), optax.sgd(0.1))
    params = jnp.ones(3)
    for stream in (False, True):
        losses, grads = dbmtl.value_and_task_grads(
            lambda p: [jnp.sum(p**2), jnp.sum(p)], stream=stream
        )(params)
        updates, _ = tx.update(grads, tx.init(params), params, losses=losses)
        assert updates.shape == (3,)


@pytest.mark.parametrize("optimizer", [optax.adam(0.1), optax.sgd(0.1, momentum=0.9)])
def test_an_optimizer_in_front_of_the_method(optimizer):
    tx = dbmtl.chain(optimizer, dbmtl.db_mtl(T))
    message = r"chain: part 0.*must stand behind the method"
    with jax.numpy_rank_promotion("allow"), pytest.raises(ValueError, match=message):
        step(tx)
    # Shapes that cannot be broadcast are JAX's own error, with a note.
    with pytest.raises(ValueError, match=message):
        step(tx)


@pytest.mark.parametrize("part", [dbmtl.scale_by_uw, dbmtl.task_ema])
@pytest.mark.parametrize("stream", [False, True])
def test_no_method(part, stream):
    tx = dbmtl.chain(part(2), optax.sgd(0.1)) if not stream else dbmtl.chain(part(2))
    params = jnp.ones(3)
    losses, grads = dbmtl.value_and_task_grads(
        lambda p: [jnp.sum(p**2), jnp.sum(p)], stream=stream
    )(params)
    with pytest.raises(ValueError, match="no part merges the tasks' gradients; end with a method"):
        tx.update(grads, tx.init(params), params, losses=losses)


def test_a_leaf_that_is_masked_out_of_the_method():
    mask = jax.tree.map(lambda p: p.ndim > 0, PARAMS)
    path, first = jax.tree_util.tree_leaves_with_path(PARAMS)[0]
    mask = jax.tree.map(lambda p: p is not first, PARAMS)
    tx = dbmtl.chain(optax.masked(dbmtl.ew(T), mask), optax.sgd(0.1))
    with pytest.raises(ValueError, match="no part merges the tasks' gradients of this leaf") as e:
        step(tx)
    assert jax.tree_util.keystr(path) in str(e.value)


def test_a_line_search_behind_a_method():
    """It refuses `losses`, which `without_task_args` keeps from it."""

    def losses_of(w):
        return jnp.stack([jnp.sum((w - 1) ** 2) + 1, 100 * jnp.sum((w + 1) ** 2) + 1])

    def total(w):
        return jnp.sum(jnp.log(losses_of(w)))

    def step(search, w):
        tx = dbmtl.chain(dbmtl.scale_by_log_loss(2), dbmtl.sum_tasks(2), search)
        losses, grads = dbmtl.value_and_task_grads(losses_of)(w)
        known = {"value": total(w), "grad": jax.grad(total)(w), "value_fn": total}
        return w + tx.update(grads, tx.init(w), w, losses=losses, **known)[0]

    w = jnp.full(3, 0.5)
    for search in (optax.lbfgs(), optax.scale_by_backtracking_linesearch(20)):
        with pytest.raises((TypeError, ValueError), match="losses"):
            step(search, w)
    assert total(step(dbmtl.without_task_args(optax.lbfgs()), w)) < total(w)


def test_a_second_method_is_refused():
    with pytest.raises(ValueError, match="num_tasks=3 tasks stacked"):
        step(dbmtl.chain(dbmtl.ew(T), dbmtl.pcgrad(T)))


def test_what_is_no_transformation_is_refused():
    with pytest.raises(TypeError, match="expected transformations, found 'adam' as part 1"):
        dbmtl.chain(dbmtl.ew(T), "adam")


def test_a_state_of_another_chain_is_refused():
    tx = dbmtl.chain(dbmtl.ew(T), optax.sgd(0.1))
    with pytest.raises(ValueError, match="expected the state of 2 parts, found 1 entries"):
        tx.update(GRADS, tx.init(PARAMS)[:1], PARAMS, losses=LOSSES)


def test_frozen_parameters_stay_where_they_are():
    """Also behind weight decay."""
    labels = {"free": "shared", "still": "frozen"}
    params = {"free": jnp.ones(2), "still": jnp.ones(2)}
    grads = {"free": jnp.ones((T, 2)), "still": jnp.zeros(2)}
    for tx in (
        dbmtl.chain(dbmtl.db_mtl(T, labels=labels), optax.adamw(0.1, weight_decay=0.5)),
        dbmtl.chain(dbmtl.chain(dbmtl.ew(T, labels=labels)), optax.add_decayed_weights(0.1)),
        dbmtl.chain(optax.chain(dbmtl.ew(T, labels=labels)), optax.adamw(0.1), labels=labels),
    ):
        updates, _ = step(tx, params, grads)
        np.testing.assert_array_equal(updates["still"], 0)
        assert np.all(np.asarray(updates["free"]) != 0)


def test_parts_behind_the_method_do_not_see_frozen_parameters():
    """Adam's moments of integers would change their dtype, and be of no use."""
    labels = {"free": "shared", "still": "frozen"}
    params = {"free": jnp.ones(2), "still": jnp.arange(3)}
    grads = {"free": jnp.ones((T, 2)), "still": jnp.zeros(3, int)}
    tx = dbmtl.chain(
        dbmtl.db_mtl(T, labels=labels), optax.clip_by_global_norm(1.0), optax.adamw(0.1)
    )

    def body(carry, _):
        params, state = carry
        updates, state = tx.update(grads, state, params, losses=LOSSES)
        return (optax.apply_updates(params, updates), state), updates

    state = tx.init(params)
    assert not any(leaf.shape == (3,) for leaf in jax.tree.leaves(state[2]))
    (moved, _), updates = jax.lax.scan(body, (params, state), None, length=2)
    chex.assert_trees_all_equal(moved["still"], params["still"])
    assert updates["still"].dtype == params["still"].dtype
