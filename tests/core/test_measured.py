"""`measured=`: norms and products of some parameters, a sum over all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import METHODS
from tests.helpers import samplers

T = 3
LABELS = {"first": "shared", "last": "shared", "heads": [0, 1, 2]}
MEASURED = {"first": False, "last": True, "heads": False}
KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {
    "first": jax.random.normal(KEYS[0], (4, 6)),
    "last": jax.random.normal(KEYS[1], (6, 5)),
    "heads": [jax.random.normal(key, (5,)) for key in jax.random.split(KEYS[2], T)],
}
X = jax.random.normal(KEYS[3], (7, 4))


def losses_of(params, x, spoilt=1.0):
    z = jnp.tanh(jnp.tanh(x @ params["first"]) @ params["last"])
    # What `spoilt` touches is a parameter that is not measured, in the loss of task 1 alone.
    extra = [0.0, jnp.sqrt(jnp.sum(params["first"] ** 2) * (1 - spoilt)), 0.0]
    return [
        10.0**t * jnp.mean((z @ head - x[:, t]) ** 2) + extra[t]
        for t, head in enumerate(params["heads"])
    ]


def update(tx, state, stream, x=X, spoilt=0.5):
    @jax.jit
    def step(state, x, spoilt):
        fun = dbmtl.value_and_task_grads(losses_of, labels=LABELS, stream=stream)
        losses, grads = fun(PARAMS, x, spoilt)
        return tx.update(grads, state, PARAMS, losses=losses)

    return step(state, x, jnp.asarray(spoilt))


@pytest.mark.parametrize("stream", [False, True], ids=["stacked", "streaming"])
@pytest.mark.parametrize("name", samplers.AT_ONCE)
def test_weights_are_those_of_the_measured_parameters_and_the_sum_is_over_all(name, stream):
    tx = METHODS[name](T, labels=LABELS, measured=MEASURED)
    of_measured = METHODS[name](T)
    losses, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS)(PARAMS, X, 0.5)
    state, expected = tx.init(PARAMS), of_measured.init(PARAMS["last"])
    for _ in range(2):
        updates, state = update(tx, state, stream)
        merged, expected = of_measured.update(grads["last"], expected, losses=losses)
        seen = dbmtl.diagnostics(expected)
        weights = seen.weights * (1 if seen.loss_weights is None else seen.loss_weights)
        np.testing.assert_allclose(updates["last"], merged, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            updates["first"], jnp.einsum("t,tij->ij", weights, grads["first"]), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(dbmtl.diagnostics(state).norms, seen.norms, rtol=1e-4)


@pytest.mark.parametrize("stream", [False, True], ids=["stacked", "streaming"])
def test_db_mtl_averages_measured_norms_and_sums_the_rows_of_the_step(stream):
    beta = 0.5
    tx = dbmtl.db_mtl(T, beta, labels=LABELS, measured=MEASURED)
    state, average = tx.init(PARAMS), 0.0
    assert state.parts[1].ema is None
    for k in range(3):
        losses, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS)(PARAMS, X + k, 0.5)
        scaled = {key: grads[key] / losses[:, None, None] for key in ("first", "last")}
        now = np.sqrt((np.asarray(scaled["last"]) ** 2).sum(axis=(1, 2)))
        average = beta * average + (1 - beta) * now
        norms = average / (1 - beta ** (k + 1))
        updates, state = update(tx, state, stream, X + k)
        for key, rows in scaled.items():
            expected = jnp.einsum("t,tij->ij", norms.max() / norms, rows)
            np.testing.assert_allclose(updates[key], expected, rtol=1e-3, atol=1e-4)


def test_imtl_begins_as_imtl_g():
    """Its loss weights are 1 at first."""
    txs = [factory(T, labels=LABELS, measured=MEASURED) for factory in (dbmtl.imtl, dbmtl.imtl_g)]
    found, expected = (update(tx, tx.init(PARAMS), False)[0] for tx in txs)
    for name in ("first", "last"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


@pytest.mark.parametrize("stream", [False, True], ids=["stacked", "streaming"])
@pytest.mark.parametrize("name", ["mgda", "db_mtl", "grad_norm"])
def test_a_gradient_that_is_not_finite_elsewhere_is_found_and_named(name, stream):
    tx = METHODS[name](T, labels=LABELS, measured=MEASURED)
    updates, state = update(tx, tx.init(PARAMS), stream, spoilt=1.0)
    seen = dbmtl.diagnostics(state)
    np.testing.assert_array_equal(seen.skipped, [0, 1, 0])
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((updates, state)))
    assert np.any(np.asarray(updates["first"]))


@pytest.mark.parametrize("limit", [None, 0.1])
def test_parts_measure_too(limit):
    options = {"labels": LABELS, "measured": MEASURED}
    tx = dbmtl.clip_rows(T, limit, **options) if limit else dbmtl.normalize_rows(T, **options)
    losses, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS)(PARAMS, X, 0.5)
    found, _ = tx.update(grads, tx.init(PARAMS), PARAMS, losses=losses)
    norms = jnp.sqrt(jnp.sum(grads["last"] ** 2, axis=(1, 2)))
    factors = (found["last"] / grads["last"])[:, 0, 0]
    expected = 1 / norms if limit is None else jnp.minimum(limit / norms, 1)
    np.testing.assert_allclose(factors, expected, rtol=1e-5)
    np.testing.assert_allclose(found["first"], factors[:, None, None] * grads["first"], rtol=1e-5)


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"first": False, "last": False, "heads": True}, "at least one shared parameter"),
        ({"first": 1, "last": True, "heads": True}, r"measured\['first'\]: expected True or False"),
        ({"first": True}, "measured: expected an entry for params"),
    ],
)
def test_bad_values_are_refused(measured, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.mgda(T, labels=LABELS, measured=measured).init(PARAMS)


def test_paths_say_what_is_measured():
    by_path = dbmtl.labels_by_path(lambda path: path == "last")
    txs = [dbmtl.imtl_g(T, labels=LABELS, measured=m) for m in (by_path, MEASURED)]
    found = [update(tx, tx.init(PARAMS), True)[0]["first"] for tx in txs]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("name", ["ew", "uw", "rlw", "grad_drop", "mtadam", "meta_balance", "moco"])
def test_methods_that_read_no_norms_have_no_such_option(name):
    with pytest.raises(TypeError, match="measured"):
        METHODS[name](T, measured=MEASURED)


@pytest.mark.parametrize("options", [{"per_leaf": True}, {"merge": lambda tasks, memory: None}])
def test_own_methods_that_merge_what_they_read_refuse(options):
    weigh = None if "merge" in options else (lambda tasks, memory: (tasks.norms, memory))
    with pytest.raises(TypeError, match="measured: expected None with"):
        dbmtl.gradient_balancer(T, weigh, measured=MEASURED, **options)
