"""Pending gradients: the same numbers as with stacked ones."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import PendingTaskGrads
from tests.engine.streaming import (
    LABELS,
    METHODS,
    SUMS,
    T,
    assert_close,
    batches,
    encode,
    head,
    init,
    stepper,
    without_norms,
)

# The engines that stream in the ways there are.
ENGINES = ["unroll", "loop", "encoder", "slices"]
# For which also the other engines than "unroll" and "loop" are tried.
FEW = ("db_mtl", "db_mtl, beta 0", "pcgrad", "uw", "moco")


def transformations(factory, engine):
    """The one for stacked gradients and the one for pending ones, of different trees."""
    pending = ("shared", list(range(T))) if engine == "encoder" else LABELS
    return factory(T, labels=LABELS), factory(T, labels=pending)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", METHODS)
def test_pending_and_stacked_gradients_are_the_same(name, engine):
    if engine in ("encoder", "slices") and name not in FEW:
        pytest.skip("engines differ in where rows come from, not in what methods do with them")
    stacked_tx, pending_tx = transformations(METHODS[name], engine)
    stacked, pending = (
        stepper(tx, engine, stream) for tx, stream in ((stacked_tx, False), (pending_tx, True))
    )
    params = init()
    pair = (params["encoder"], params["heads"])
    state = stacked_tx.init(params)
    other = pending_tx.init(pair if engine == "encoder" else params)
    # In a loop over slices a bad row shows in the sum alone: see the test below.
    with_ill = not (engine == "slices" and name in SUMS)
    for batch in batches(with_ill):
        expected, state = stacked(state, params, *batch)
        updates, other = pending(other, params, *batch)
        assert_close(updates, expected)
        if name in SUMS:  # nobody knows the norms there
            assert_close(without_norms(other), without_norms(state))
        else:
            assert_close(other, state)
    assert list(optax.tree.get(state, "skipped")) == [int(with_ill), 0, 0]
    assert len(stacked.traces) == len(pending.traces) == 1


@pytest.mark.parametrize("name", ["db_mtl", "pcgrad", "uw"])
def test_a_run_may_switch_at_any_step(name):
    tx = METHODS[name](T, labels=LABELS)
    steps = {stream: stepper(tx, "loop", stream) for stream in (True, False)}
    params = init()
    state, other = tx.init(params), tx.init(params)
    for k, batch in enumerate(batches(with_ill=False)):
        expected, state = steps[False](state, params, *batch)
        updates, other = steps[k % 2 == 0](other, params, *batch)
        assert_close(updates, expected)
    assert_close(without_norms(other), without_norms(state))


def test_what_a_method_reads_beyond_what_it_says_is_computed_once_more():
    seen = {}

    def weigh(tasks, memory):
        seen.update(norms=tasks.norms, cosines=tasks.cosines, grads=tasks.task_grads)
        return jnp.ones(2), memory

    tx = dbmtl.gradient_balancer(2, weigh, reads="sum")
    _, grads = dbmtl.value_and_task_grads(
        lambda w: [3 * w[0] + 4 * w[1], 5 * w[0]], stream=True, mode="loop"
    )(jnp.ones(2))
    tx.update(grads, tx.init(jnp.ones(2)))
    np.testing.assert_allclose(seen["norms"], [5, 5], rtol=1e-6)
    np.testing.assert_allclose(seen["cosines"], [[1, 0.6], [0.6, 1]], rtol=1e-6)
    np.testing.assert_array_equal(seen["grads"], [[3, 4], [5, 0]])


def test_parameters_of_their_own_do_not_count_in_inner_products():
    """Rows are pushed forward along what is shared, and along nothing else."""

    def losses_of(p):
        return [jnp.sum(p["w"] * own) for own in p["own"]]

    params = {"w": jnp.array([1.0, 2.0]), "own": [jnp.array([3.0, 4.0]), jnp.array([5.0, 0.0])]}
    labels = {"w": "shared", "own": [0, 1]}
    _, grads = dbmtl.value_and_task_grads(losses_of, labels=labels, stream=True)(params)
    np.testing.assert_allclose(grads.rows().gramian(), [[25, 15], [15, 25]], rtol=1e-6)


@pytest.mark.parametrize("shares", [False, True])
def test_inner_products_of_complex_gradients(shares):
    """Re ⟨g_t, g_s⟩, whether losses part at parameters or behind what they share."""

    def losses_of(w):
        z = jnp.sin(w) if shares else w
        return [jnp.sum(jnp.abs(z) ** 2), jnp.sum(z.real * z.imag)]

    w = jnp.array([1.0 + 2.0j, 0.5 - 1.0j])
    _, rows = dbmtl.value_and_task_grads(losses_of)(w)
    _, pending = dbmtl.value_and_task_grads(losses_of, stream=True)(w)
    found = pending.rows().gramian()
    np.testing.assert_allclose(found, (rows @ rows.conj().T).real, rtol=1e-4)


def test_scales_of_pending_gradients_multiply():
    _, pending = dbmtl.value_and_task_grads(lambda w: [2 * w.sum(), w.sum()], stream=True)(
        jnp.ones(2)
    )
    tx = dbmtl.scale_by_log_loss(2)
    for _ in range(2):
        pending, _ = tx.update(pending, tx.init(jnp.ones(2)), losses=jnp.array([4.0, 2.0]))
    np.testing.assert_allclose(pending.stacked(), [[0.125] * 2, [0.25] * 2], rtol=1e-6)


@pytest.mark.parametrize("has_aux", [False, True])
def test_scaled_heads_of_an_encoder_keep_their_own_scales(has_aux):
    def with_aux(value, aux):
        return (value, aux) if has_aux else value

    fun = dbmtl.encoder_value_and_task_grads(
        lambda w, x: with_aux(w * x, "encoder"),
        [
            lambda v, z, x: with_aux(jnp.sum(v * z), "first"),
            lambda v, z, x: with_aux(jnp.sum(v * z) ** 2, "second"),
        ],
        has_aux=has_aux,
        stream=True,
    )
    params, x = (jnp.array([1.0, 2.0]), [jnp.array([1.0, 1.0]), jnp.array([2.0, 3.0])]), 0.5
    found, grads = fun(params, x)
    if has_aux:
        losses, auxes = found
        assert auxes == ("encoder", ["first", "second"])
    else:
        losses = found
    np.testing.assert_allclose(losses, [1.5, 16.0], rtol=1e-6)
    tx = dbmtl.scale_by_log_loss(2, labels=("shared", [0, 1]))
    scaled, _ = tx.update(grads, tx.init(params), params, losses=losses)
    w, (v, u) = params
    plain = [jax.grad(lambda w: jnp.log(jnp.sum(v * w * x)))(w)]
    plain += [jax.grad(lambda w: jnp.log(jnp.sum(u * w * x) ** 2))(w)]
    rows, heads = scaled.stacked()
    np.testing.assert_allclose(rows, plain, rtol=1e-5)
    np.testing.assert_allclose(heads[0], w * x / 1.5, rtol=1e-5)
    np.testing.assert_allclose(heads[1], 2 * w * x / 4, rtol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda: [dbmtl.scale_by_log_loss(T), dbmtl.pcgrad(T)],
        lambda: [dbmtl.scale_by_log_loss(T), dbmtl.task_ema(T), dbmtl.balance_magnitudes(T)],
        lambda: [dbmtl.scale_by_uw(T), dbmtl.task_ema(T, 0.0), dbmtl.sum_tasks(T)],
        lambda: [dbmtl.task_ema(T), optax.clip(0.1), dbmtl.mgda(T)],
    ],
)
def test_chains_take_pending_gradients(build):
    tx = optax.chain(*build())
    params = init()["encoder"]

    def fun(p, x, ill):
        z = encode(p, x, ill)
        return [head(t)(jnp.ones((5, 2)), z, x, ill) for t in range(T)]

    def step(stream, state, x, ill, mask):
        losses, grads = dbmtl.value_and_task_grads(fun, stream=stream)(params, x, ill)
        return tx.update(grads, state, params, losses=losses, task_mask=mask)

    step = jax.jit(step, static_argnums=0)
    state, other = tx.init(params), tx.init(params)
    for batch in batches(with_ill=False):
        expected, state = step(False, state, *batch)
        updates, other = step(True, other, *batch)
        assert_close(updates, expected)
        assert_close(without_norms(other), without_norms(state))


def test_scaling_leaves_them_pending_and_an_unusable_loss_travels_on():
    tx = optax.chain(dbmtl.scale_by_log_loss(2), dbmtl.balance_magnitudes(2))
    _, pending = dbmtl.value_and_task_grads(lambda w: (2 * w.sum(), -w.sum()), stream=True)(
        jnp.ones(3)
    )
    scaled, _ = dbmtl.scale_by_log_loss(2).update(
        pending, dbmtl.scale_by_log_loss(2).init(jnp.ones(3)), losses=jnp.array([2.0, -1.0])
    )
    assert isinstance(scaled, PendingTaskGrads)
    np.testing.assert_array_equal(scaled.stacked(), [[1, 1, 1], [np.nan] * 3])
    updates, state = tx.update(pending, tx.init(jnp.ones(3)), losses=jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(updates, 1, rtol=1e-6)
    assert list(state[1].skipped) == [0, 1]


def test_the_gramian_without_forward_mode():
    """Behind `jax.custom_vjp` no row can be pushed forward; in bfloat16 it is not precise."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    for fun, dtype in ((square, jnp.float32), (jnp.square, jnp.bfloat16)):
        p = jnp.linspace(0.1, 1.3, 7).astype(dtype)
        results = []
        for stream in (False, True):
            tx = dbmtl.pcgrad(2)
            losses, grads = dbmtl.value_and_task_grads(
                lambda p, fun=fun: (jnp.sum(fun(p)), -jnp.sum(p * p[::-1])), stream=stream
            )(p)
            updates, state = tx.update(grads, tx.init(p), p, losses=losses)
            results.append((updates, optax.tree.get(state, "weights")))
        (update, weights), (expected, expected_weights) = results
        np.testing.assert_allclose(weights, expected_weights, rtol=1e-5)
        chex.assert_trees_all_close(update, expected, rtol=1e-5 if dtype == jnp.float32 else 1e-2)


def test_auxiliary_outputs_pass_through():
    fun = dbmtl.value_and_task_grads(
        lambda p: ((p.sum(), (p**2).sum()), {"mean": p.mean()}), has_aux=True, stream=True
    )
    (losses, aux), grads = fun(jnp.arange(3.0))
    np.testing.assert_allclose(losses, [3, 5])
    np.testing.assert_allclose(aux["mean"], 1)
    np.testing.assert_allclose(grads.stacked(), [[1, 1, 1], [0, 2, 4]])
    tx = dbmtl.mgda(2)  # pushes rows forward, past the auxiliary output
    assert tx.update(grads, tx.init(jnp.ones(3)))[0].shape == (3,)
