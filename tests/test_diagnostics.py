"""Reading what a method saw and did."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers.samplers import METHODS

T = 3
WITHOUT_WEIGHTS = {"grad_drop", "modo", "mtadam", "meta_balance"}
LOSS_BALANCERS = {name for name, p in dbmtl.PROPERTIES.items() if p.heads == "loss weight"}
WRAPPERS = {
    "alone": lambda tx: tx,
    "chain": lambda tx: optax.chain(tx, optax.sgd(0.1)),
    "chain in a chain": lambda tx: optax.chain(optax.chain(tx, optax.clip(1.0)), optax.sgd(0.1)),
}


def step(tx, state=None, **extra):
    params = testing.sample_params()
    arguments = {"losses": testing.sample_losses(T)} | extra
    state = tx.init(params) if state is None else state
    return tx.update(testing.sample_task_grads(T), state, params, **arguments)[1]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", METHODS)
def test_the_fields_are_the_same_for_every_method(name, wrapper):
    tx = WRAPPERS[wrapper](METHODS[name](T))
    mask = jnp.array([True, True, False])
    seen = dbmtl.diagnostics(step(tx, task_mask=mask))
    assert (seen.weights is None) == (name in WITHOUT_WEIGHTS)
    first = dbmtl.diagnostics(tx.init(testing.sample_params()))
    assert (first.weights is None) == (name in WITHOUT_WEIGHTS)
    assert (seen.loss_weights is None) == (name not in LOSS_BALANCERS)
    for field in seen:
        assert field is None or field.shape == (T,)
    np.testing.assert_array_equal(seen.present, mask)
    np.testing.assert_array_equal(seen.skipped, 0)
    np.testing.assert_array_equal(np.isnan(seen.norms), ~mask)  # the third was never seen


def test_norms_and_weights_are_those_of_the_update():
    tx = dbmtl.balance_magnitudes(T)
    norms = np.asarray(dbmtl.task_norms(testing.sample_task_grads(T)))
    seen = dbmtl.diagnostics(step(tx))
    np.testing.assert_allclose(seen.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(seen.weights, norms.max() / norms, rtol=1e-5)


def test_nothing_is_seen_before_the_first_step():
    state = dbmtl.db_mtl(T).init(testing.sample_params())
    seen = dbmtl.diagnostics(state)
    for field in (seen.norms, seen.weights, seen.loss_weights):
        assert np.all(np.isnan(field))
    assert not np.any(seen.present)


def test_a_task_that_is_absent_later_has_no_weight():
    tx = dbmtl.db_mtl(T)
    state = step(tx, step(tx), losses=jnp.array([1.0, jnp.nan, 2.0]))
    seen = dbmtl.diagnostics(state)
    np.testing.assert_array_equal(seen.skipped, [0, 1, 0])
    for field in (seen.norms, seen.weights, seen.loss_weights):
        np.testing.assert_array_equal(field == 0, [False, True, False])


def test_factors_of_several_loss_balancers_are_multiplied():
    tx = optax.chain(dbmtl.scale_by_log_loss(T), dbmtl.scale_by_uw(T, initial=0.0), dbmtl.mgda(T))
    seen = dbmtl.diagnostics(step(tx))
    np.testing.assert_allclose(seen.loss_weights, 0.5 / testing.sample_losses(T), rtol=1e-5)


def test_norms_that_nobody_computes_are_not_known():
    """A loss balancer on gradients that stream has one backward pass."""
    tx = dbmtl.uw(2)
    fun = dbmtl.value_and_task_grads(lambda w: (w.sum(), (w**2).sum()), stream=True)
    losses, grads = fun(jnp.ones(3))
    _, state = tx.update(grads, tx.init(jnp.ones(3)), losses=losses)
    seen = dbmtl.diagnostics(state)
    assert np.all(np.isnan(seen.norms))
    np.testing.assert_array_equal(state.norms, -1)
    assert np.all(seen.loss_weights > 0)
    assert np.all(seen.present)


def test_injected_hyperparameters_and_jit():
    tx = optax.inject_hyperparams(dbmtl.db_mtl, static_args=("num_tasks", "scale", "log_losses"))(
        num_tasks=T, beta=0.5
    )
    seen = jax.jit(lambda state: dbmtl.diagnostics(state))(step(tx))
    assert np.all(seen.norms > 0)


def test_by_group_through_multi_transform():
    tx = optax.multi_transform(
        {"a": dbmtl.db_mtl(2), "b": dbmtl.ew(2), "c": optax.sgd(0.1)},
        {"x": "a", "y": "b", "z": "c"},
    )
    params = {"x": jnp.zeros(2), "y": jnp.zeros(3), "z": jnp.zeros(1)}
    grads = {"x": jnp.ones((2, 2)), "y": 2 * jnp.ones((2, 3)), "z": jnp.ones(1)}
    _, state = tx.update(grads, tx.init(params), params, losses=jnp.ones(2))
    seen = dbmtl.diagnostics(optax.chain(tx, optax.sgd(1.0)).init(params))
    assert sorted(seen) == ["a", "b"]
    seen = dbmtl.diagnostics(state)
    np.testing.assert_allclose(seen["b"].norms, 2 * np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(seen["a"].present, True)


def test_an_nnx_optimizer():
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.ones(3))

    model = Model()
    optimizer = nnx.Optimizer(model, optax.chain(dbmtl.db_mtl(2), optax.sgd(0.1)), wrt=nnx.Param)
    grads = nnx.state(model, nnx.Param)
    grads = jax.tree.map(lambda w: jnp.stack([w, 2 * w]), grads)
    optimizer.update(model, grads, losses=jnp.ones(2))
    for source in (optimizer, optimizer.opt_state):
        seen = dbmtl.diagnostics(source)
        np.testing.assert_allclose(seen.norms[1] / seen.norms[0], 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("tx", "count"),
    [(optax.adam(0.1), 0), (optax.chain(dbmtl.ew(1), optax.adam(0.1), dbmtl.ew(1)), 2)],
)
def test_one_method_is_expected(tx, count):
    with pytest.raises(ValueError, match=f"state of one method of dbmtl_jax, found {count}"):
        dbmtl.diagnostics(tx.init(jnp.zeros(2)))


@pytest.mark.parametrize("names", [("a",), "ab", ("a", "b", "c", "d")])
@pytest.mark.parametrize("read", [dbmtl.diagnostics, dbmtl.report_skipped])
def test_names_are_those_of_all_tasks(names, read):
    state = dbmtl.ew(T).init(testing.sample_params())
    with pytest.raises(ValueError, match=f"names: expected the names of {T} tasks"):
        read(state, names=names)
