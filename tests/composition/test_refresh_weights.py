"""`refresh_weights`: the weights of a step in k, and one pullback in between."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import METHODS, testing
from tests.helpers import samplers

T = 3
LABELS = {"w": "shared", "heads": [0, 1, 2]}
KEYS = jax.random.split(jax.random.key(0), 3)
PARAMS = {
    "w": jax.random.normal(KEYS[0], (4, 6)),
    "heads": [jax.random.normal(key, (6,)) for key in jax.random.split(KEYS[1], T)],
}
X = jax.random.normal(KEYS[2], (7, 4))
LOSS_BALANCERS = ("ew", "gls", "rlw", "uw", "dwa", "imtl_l", "igbv2")


def losses_of(params, x):
    z = jnp.tanh(x @ params["w"])
    return [10.0**t * jnp.mean((z @ head - x[:, t]) ** 2) for t, head in enumerate(params["heads"])]


def stepper(tx, stream=True):
    @jax.jit
    def step(state, x, mask):
        losses, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS, stream=stream)(
            PARAMS, x
        )
        return tx.update(grads, state, PARAMS, losses=losses, task_mask=mask)

    return lambda state, x, mask=(True,) * T: step(state, x, jnp.asarray(mask))


def rows(x):
    losses, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS)(PARAMS, x)
    return np.asarray(losses), np.asarray(grads["w"])


def weighted(weights, grads):
    return np.einsum("t,tij->ij", weights, grads)


@pytest.mark.parametrize("name", samplers.AT_ONCE)
def test_refreshes_are_steps_of_the_method_and_in_between_its_weights_are_kept(name):
    plain = METHODS[name](T, labels=LABELS)
    step, exact = stepper(dbmtl.refresh_weights(plain, 3)), stepper(plain)
    state, expected = dbmtl.refresh_weights(plain, 3).init(PARAMS), plain.init(PARAMS)
    for k in range(5):
        updates, state = step(state, X + k / 10)
        if k % 3 == 0:
            merged, expected = exact(expected, X + k / 10)
            np.testing.assert_allclose(updates["w"], merged["w"], rtol=1e-3, atol=1e-3)
        seen, then = dbmtl.diagnostics(state), dbmtl.diagnostics(expected)
        np.testing.assert_allclose(seen.weights, then.weights, rtol=1e-3)
        np.testing.assert_allclose(seen.norms, then.norms, rtol=1e-4)
        whole = weighted(seen.weights, rows(X + k / 10)[1])
        np.testing.assert_allclose(updates["w"], whole, rtol=1e-3, atol=1e-3)


def test_loss_weights_are_those_of_each_step():
    """IMTL: IMTL-L learns in every step, and IMTL-G weighs at refreshes what it has scaled."""
    tx = dbmtl.refresh_weights(dbmtl.imtl(T, weight_optimizer=optax.sgd(0.1), labels=LABELS), 2)
    step, state, factors = stepper(tx), tx.init(PARAMS), []
    for k in range(4):
        updates, state = step(state, X + k / 10)
        seen, grads = dbmtl.diagnostics(state), rows(X + k / 10)[1]
        factors.append(np.asarray(seen.loss_weights))
        scaled = grads * factors[-1][:, None, None]
        if k % 2 == 0:
            flat = scaled.reshape(T, -1)
            weights = dbmtl.imtl_g_weights(jnp.asarray(flat @ flat.T))
        np.testing.assert_allclose(seen.weights, weights, rtol=1e-3)
        np.testing.assert_allclose(updates["w"], weighted(weights, scaled), rtol=1e-3, atol=1e-3)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in itertools.pairwise(factors))


@pytest.mark.parametrize("average", ["gradients", "norms"])
def test_db_mtl_averages_over_refreshes_and_takes_the_logarithm_of_each_steps_losses(average):
    beta = 0.5
    tx = dbmtl.refresh_weights(dbmtl.db_mtl(T, beta, average=average, labels=LABELS), 2)
    step, state, kept = stepper(tx), tx.init(PARAMS), 0.0
    for k in range(4):
        losses, grads = rows(X + k / 10)
        logs = grads / losses[:, None, None]
        if k % 2 == 0:
            kept = beta * kept + (1 - beta) * np.sqrt((logs**2).sum(axis=(1, 2)))
            norms = kept
        updates, state = step(state, X + k / 10)
        np.testing.assert_allclose(
            updates["w"], weighted(norms.max() / norms, logs), rtol=1e-3, atol=1e-5
        )


def test_weights_are_refreshed_when_other_tasks_are_present():
    plain = dbmtl.imtl_g(T, labels=LABELS)
    tx = dbmtl.refresh_weights(plain, 100)
    step, exact = stepper(tx), stepper(plain)
    state = tx.init(PARAMS)
    for k, mask in enumerate([(True,) * T, (True, False, True), (True, False, True), (True,) * T]):
        updates, state = step(state, X + k, mask)
        merged, _ = exact(plain.init(PARAMS), X + k, mask)
        if k != 2:
            np.testing.assert_allclose(updates["w"], merged["w"], rtol=1e-3, atol=1e-4)
        else:
            assert not np.allclose(updates["w"], merged["w"], rtol=1e-3)
        if not mask[1]:
            np.testing.assert_array_equal(updates["heads"][1], 0)


def test_the_heads_factors_are_kept_too():
    options = {"weight_optimizer": optax.sgd(0.1), "labels": LABELS}
    plain = dbmtl.grad_norm(T, **options)
    tx = dbmtl.refresh_weights(plain, 2)
    step, state = stepper(tx), tx.init(PARAMS)
    own = jax.grad(lambda p: sum(losses_of(p, X)))(PARAMS)["heads"]
    for _ in range(6):
        updates, state = step(state, X)
        weights = dbmtl.diagnostics(state).weights
        for t in range(T):
            np.testing.assert_allclose(updates["heads"][t], weights[t] * own[t], rtol=1e-4)
    assert np.ptp(np.asarray(weights)) > 0.01


def test_between_refreshes_one_backward_pass_is_made():
    """Counted: the backward pass calls back to the host."""
    calls = []

    @jax.custom_vjp
    def watched(x):
        return x

    def backward(_, cotangent):
        jax.debug.callback(lambda: calls.append(None))
        return (cotangent,)

    watched.defvjp(lambda x: (x, None), backward)

    def fun(params, x):
        z = watched(jnp.tanh(x @ params["w"]))
        return [jnp.mean((z @ head - x[:, t]) ** 2) for t, head in enumerate(params["heads"])]

    tx = dbmtl.refresh_weights(dbmtl.db_mtl(T, average="norms", labels=LABELS), 4)

    @jax.jit
    def step(state, x):
        losses, grads = dbmtl.value_and_task_grads(fun, labels=LABELS, stream=True)(PARAMS, x)
        return tx.update(grads, state, PARAMS, losses=losses)

    state, passes = tx.init(PARAMS), []
    for _ in range(6):
        _, state = jax.block_until_ready(step(state, X))
        jax.effects_barrier()
        passes.append(len(calls))
        calls.clear()
    assert passes == [T + 1, 1, 1, 1, T + 1, 1]


@pytest.mark.parametrize("name", LOSS_BALANCERS)
def test_a_loss_balancer_has_nothing_to_refresh(name):
    method = METHODS[name](T)
    assert dbmtl.refresh_weights(method, 5) is method


@pytest.mark.parametrize(
    ("balancer", "found"),
    [
        (dbmtl.grad_drop(T), "grad_drop"),
        (dbmtl.mtadam(T), "mtadam"),
        (dbmtl.meta_balance(T), "meta_balance"),
        (dbmtl.moco(T), "moco"),
        (dbmtl.grad_vac(T, per_leaf=True), "grad_vac"),
        (dbmtl.scale_by_log_loss(T), "scale_by_log_loss"),
        (optax.sgd(0.1), "GradientTransformation"),
        (dbmtl.chain(dbmtl.mgda(T), optax.sgd(0.1)), "Chain"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_has_no_weights_is_refused_by_name(balancer, found):
    with pytest.raises(TypeError, match=f"balancer: expected .*{found}"):
        dbmtl.refresh_weights(balancer, 4)


@pytest.mark.parametrize(("every", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_another_number_of_steps_is_refused(every, error):
    with pytest.raises(error, match="every"):
        dbmtl.refresh_weights(dbmtl.mgda(T), every)


def test_stacked_gradients_are_refused():
    tx = dbmtl.refresh_weights(dbmtl.mgda(T, labels=LABELS), 4)
    with pytest.raises(TypeError, match=r"refresh_weights\(mgda\) takes pending gradients"):
        stepper(tx, stream=False)(tx.init(PARAMS), X)


def refreshed(num_tasks, labels=None):
    return dbmtl.refresh_weights(dbmtl.db_mtl(num_tasks, labels=labels), 2)


def test_it_keeps_the_contract():
    testing.assert_contract(refreshed, stream=True)


def test_the_contract_needs_pending_gradients_to_be_asked_for():
    with pytest.raises((AssertionError, TypeError), match="pending"):
        testing.assert_contract(refreshed, clauses=["masks"])


@pytest.mark.parametrize("field", ["weights", "norms", "present", "skipped"])
def test_the_states_fields_are_found_by_their_names(field):
    """`optax.tree.get` raises where a name stands twice."""
    for name in ("db_mtl", "imtl"):
        state = dbmtl.refresh_weights(METHODS[name](T, labels=LABELS), 3).init(PARAMS)
        assert optax.tree.get(state, field).shape == (T,)


def test_what_is_refreshed_is_not_refreshed_again_nor_accumulated():
    once = dbmtl.refresh_weights(dbmtl.mgda(T), 2)
    with pytest.raises(TypeError, match="balancer: expected a method that is not refreshed"):
        dbmtl.refresh_weights(once, 10)
    with pytest.raises(TypeError, match=r"tx: refresh_weights\(mgda\) takes pending gradients"):
        dbmtl.multi_steps(dbmtl.chain(once, optax.sgd(0.1)), 2)


@jax.custom_vjp
def spoilt(x):
    """The identity, whose derivative is NaN in every direction but zero."""
    return x


spoilt.defvjp(lambda x: (x, None), lambda _, ct: (jnp.where(ct != 0, jnp.nan, 0.0),))


def test_debug_nans_raises_for_a_task_that_is_left_out_otherwise():
    tx = dbmtl.refresh_weights(dbmtl.mgda(2), 2)

    def step(w, state):
        fun = dbmtl.value_and_task_grads(lambda w: (w.sum(), spoilt(w).sum()), stream=True)
        losses, grads = fun(w)
        return tx.update(grads, state, w, losses=losses)

    arguments = jnp.ones(2), tx.init(jnp.ones(2))
    updates, state = jax.jit(step)(*arguments)
    np.testing.assert_array_equal(updates, 1)
    np.testing.assert_array_equal(state.skipped, [0, 1])
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
        jax.block_until_ready(jax.jit(lambda *a: step(*a))(*arguments))


def test_a_task_that_joins_late_has_the_weight_of_its_norm():
    tx = dbmtl.refresh_weights(dbmtl.db_mtl(T, 0.9, labels=LABELS), 1)
    step, state = stepper(tx), tx.init(PARAMS)
    for k in range(8):
        _, state = step(state, X, (True, k == 7, True))
    losses, grads = rows(X)
    logs = grads / losses[:, None, None]
    norms = np.sqrt((logs**2).sum(axis=(1, 2)))
    np.testing.assert_allclose(dbmtl.diagnostics(state).weights, norms.max() / norms, rtol=1e-3)
