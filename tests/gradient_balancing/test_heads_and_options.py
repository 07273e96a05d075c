"""The tasks' own parameters, options, and losses that are missing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from tests.helpers import samplers


@pytest.mark.parametrize("name", dbmtl.METHODS)
def test_every_parameter_of_a_two_head_network_moves(name):
    """And a head by the weight that the method gives it."""
    labels = ("shared", [0, 1])
    rng = np.random.default_rng(0)
    params = (jnp.zeros(4), [jnp.zeros(2), jnp.zeros(2)])
    head_grads = [jnp.array([0.5, 2.0]), jnp.array([1.0, 3.0])]
    grads = (jnp.asarray(rng.normal(size=(2, 4)), jnp.float32), head_grads)
    tx = samplers.METHODS[name](2, labels=labels)
    (shared, heads), state = tx.update(grads, tx.init(params), params, losses=jnp.array([0.5, 2.0]))
    assert np.all(np.asarray(shared) != 0)
    kind = dbmtl.PROPERTIES[name].heads
    for task in range(2):
        assert np.all(np.asarray(heads[task]) != 0)
        if kind == "Adam":
            np.testing.assert_allclose(heads[task], 1, rtol=1e-4)  # Adam's first step
            continue
        seen = dbmtl.diagnostics(state)
        if kind == "loss weight":
            factor = (seen.weights if seen.loss_weights is None else seen.loss_weights)[task]
        elif name == "nash_mtl":  # before it is clipped
            factor = optax.tree.get(state, "alpha")[task]
        else:
            factor = seen.weights[task] if kind == "weight" else 1
        np.testing.assert_allclose(heads[task], factor * head_grads[task], rtol=1e-5)


@pytest.mark.parametrize("name", ["mgda", "grad_norm", "nash_mtl"])
def test_heads_may_be_left_unweighted(name):
    tx = dbmtl.METHODS[name](2, labels=("shared", [0, 1]), scale_own=False)
    grads = (jnp.array([[1.0, 0.0], [0.0, 3.0]]), [jnp.ones(2), jnp.ones(2)])
    params = jax.tree.map(lambda g: g, (jnp.zeros(2), grads[1]))
    (_, heads), _ = tx.update(grads, tx.init(params), params, losses=jnp.ones(2))
    for head in heads:
        np.testing.assert_array_equal(head, 1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mgda", {"normalization": "l1"}, "normalization: expected one of 'none', 'l2'"),
        ("cagrad", {"c": -0.1}, "c: expected a number in"),
        ("cagrad", {"rescale": 3}, "rescale: expected one of 'none', .*2, found 3"),
        ("nash_mtl", {"update_every": 0}, "update_every: expected an int of at least 1"),
        ("nash_mtl", {"max_norm": -1.0}, "max_norm: expected a number in"),
        ("grad_drop", {"leak": 1.5}, "leak: expected a number in"),
        ("grad_vac", {"beta": 2.0}, "beta: expected a number in"),
        ("grad_norm", {"alpha": -1.0}, "alpha: expected a number in"),
        ("meta_balance", {"relax": 1.1}, "relax: expected a number in"),
        ("meta_balance", {"target": 2}, "target: expected one of 0, 1, found 2"),
        ("moco", {"projection": "box"}, "projection: expected one of 'simplex', 'softmax'"),
        ("aligned_mtl", {"scale": "max"}, "scale: expected one of 'min', 'median', 'rmse'"),
        ("mtadam", {"b3": 1.0}, "b3: expected a number in"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.METHODS[name](2, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("aligned_mtl", {"scale": "max"}, "scale: expected one of 'min', 'median', 'rmse'"),
        ("cagrad", {"c": -0.1}, "c: expected a number in"),
        ("fair_grad", {"alpha": 0.0}, "alpha: expected a number in"),
        ("sdmgrad", {"lambda_": -0.1}, "lambda_: expected a number in"),
    ],
)
def test_options_are_checked_with_a_gramian_too(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(dbmtl, f"{name}_weights")(jnp.eye(2), **options)


@pytest.mark.parametrize(
    ("tx", "who"),
    [
        (dbmtl.mgda(2, normalization="loss"), "mgda"),
        (dbmtl.grad_norm(2), "grad_norm"),
        (dbmtl.moco(2, normalize=True), "moco"),
        (dbmtl.imtl(2), "imtl"),
    ],
)
def test_missing_losses_are_named(tx, who):
    with pytest.raises(TypeError, match=f"losses: {who} needs the raw task losses"):
        tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)))
