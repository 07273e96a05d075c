"""Micro-batches: k of them give the step of the large batch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl

T, K = 3, 2
KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {
    "w": jax.random.normal(KEYS[0], (4, 6)),
    "heads": [jax.random.normal(key, (6,)) for key in jax.random.split(KEYS[1], T)],
    "still": jnp.arange(3.0),
}
LABELS = {"w": "shared", "heads": [0, 1, 2], "still": "frozen"}
X, Y = jax.random.normal(KEYS[2], (8, 4)), jax.random.normal(KEYS[3], (8, T))
MICRO = list(zip(jnp.split(X, K), jnp.split(Y, K), strict=True))


def losses_of(params, x, y):
    z = jnp.tanh(x @ params["w"])
    return [10.0**t * jnp.mean((z @ h - y[:, t]) ** 2) for t, h in enumerate(params["heads"])]


def method(name):
    factory = {"moco": functools.partial(dbmtl.moco, rho=0.1)}.get(name, dbmtl.METHODS[name])
    return dbmtl.chain(factory(T, labels=LABELS), optax.adam(0.1))


@functools.lru_cache(maxsize=32)
def stepper(name, stream, every_k):
    tx = method(name)
    if every_k:
        tx = dbmtl.multi_steps(tx, every_k)

    @jax.jit
    def step(params, state, x, y, mask, factor):
        def scaled(p, x, y):
            return [loss * f for loss, f in zip(losses_of(p, x, y), factor, strict=True)]

        fun = dbmtl.value_and_task_grads(scaled, labels=LABELS, stream=stream)
        losses, grads = fun(params, x, y)
        return tx.update(grads, state, params, losses=losses, task_mask=mask)

    return tx, step


EVERYONE, HEALTHY = jnp.ones(T, bool), jnp.ones(T)
WITHOUT_TASK_1 = {
    "masked": (EVERYONE.at[1].set(False), HEALTHY),
    "bad": (EVERYONE, HEALTHY.at[1].set(jnp.nan)),
}
"""The mask, and what the losses are multiplied by."""


@pytest.mark.parametrize(
    ("name", "stream"),
    [("db_mtl", False), ("db_mtl", True), ("cagrad", False), ("uw", True), ("mtadam", False)],
)
def test_two_rounds_are_two_steps_with_all(name, stream):
    tx, step = stepper(name, stream, K)
    whole, whole_step = stepper(name, False, None)
    state, expected_state = tx.init(PARAMS), whole.init(PARAMS)
    params = PARAMS
    for _ in range(2):
        for k, (x, y) in enumerate(MICRO):
            updates, state = step(params, state, x, y, EVERYONE, HEALTHY)
            if k < K - 1:
                chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, PARAMS))
        expected, expected_state = whole_step(params, expected_state, X, Y, EVERYONE, HEALTHY)
        chex.assert_trees_all_close(updates, expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(updates["still"], 0)
        chex.assert_trees_all_close(state.inner, expected_state, rtol=1e-3, atol=1e-5)
        params = optax.apply_updates(params, updates)
    assert state.gradient_step == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("why", ["masked", "bad"])
def test_a_task_is_averaged_over_the_micro_batches_it_was_in(stream, why):
    """Task 1 is missing from the second micro-batch: its mean is the first's gradient."""
    tx, step = stepper("db_mtl", stream, K)
    mask, factor = WITHOUT_TASK_1[why]
    _, state = step(PARAMS, tx.init(PARAMS), *MICRO[0], EVERYONE, HEALTHY)
    found, state = step(PARAMS, state, *MICRO[1], mask, factor)

    rows = [dbmtl.value_and_task_grads(losses_of, labels=LABELS)(PARAMS, *m) for m in MICRO]
    (losses, grads), (others, more) = rows
    mean = jnp.where(jnp.arange(T) == 1, losses, (losses + others) / 2)
    means = jax.tree.map(lambda a, b: (a + b) / 2, grads, more)
    means["w"] = means["w"].at[1].set(grads["w"][1])
    means["heads"][1] = grads["heads"][1]
    means["still"] = grads["still"]
    whole = method("db_mtl")
    expected, _ = whole.update(means, whole.init(PARAMS), PARAMS, losses=mean)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(dbmtl.diagnostics(state.inner).skipped, 0)


@pytest.mark.parametrize("why", ["masked", "bad"])
def test_a_task_that_was_never_usable(why):
    tx, step = stepper("db_mtl", False, K)
    mask, factor = WITHOUT_TASK_1[why]
    state = tx.init(PARAMS)
    for x, y in MICRO:
        updates, state = step(PARAMS, state, x, y, mask, factor)
    chex.assert_tree_all_finite(updates)
    found = dbmtl.diagnostics(state.inner)
    np.testing.assert_array_equal(found.present, [True, False, True])
    np.testing.assert_array_equal(found.skipped, [0, why == "bad", 0])


def test_the_number_may_be_a_schedule():
    tx = dbmtl.multi_steps(dbmtl.chain(dbmtl.ew(1), optax.sgd(1.0)), lambda step: step + 1)
    state, steps = tx.init(jnp.zeros(1)), []
    for _ in range(6):
        updates, state = tx.update(jnp.ones((1, 1)), state, jnp.zeros(1))
        steps.append(bool(updates[0] != 0))
    assert steps == [True, False, True, False, False, True]


def test_names_and_optaxs_own_chain():
    """T is what the method's state says, and names are those of the losses."""
    tx = dbmtl.multi_steps(optax.chain(dbmtl.db_mtl(["b", "a"]), optax.sgd(1.0)), 2)
    params, losses = jnp.zeros(2), {"a": jnp.ones(()), "b": jnp.ones(())}
    state = tx.init(params)
    for _ in range(2):
        updates, state = tx.update(jnp.eye(2), state, params, losses=losses)
    assert np.all(np.asarray(updates) != 0)


def test_what_has_no_method_is_refused():
    with pytest.raises(ValueError, match="tx: expected a chain with a method"):
        dbmtl.multi_steps(optax.sgd(0.1), 2).init(jnp.zeros(2))
    with pytest.raises(TypeError, match=r"every_k: expected an int, found 2\.5"):
        dbmtl.multi_steps(dbmtl.ew(2), 2.5)
