"""A user's priorities: ratios count, equal ones change nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.core._preference import priorities, relative, shares
from tests.helpers.samplers import flat, flat_update

T = 3
GRADS, LOSSES = testing.sample_task_grads(T), testing.sample_losses(T)
PARAMS = testing.sample_params()
MASK = jnp.array([True, False, True])
PREFERRING = [
    dbmtl.aligned_mtl,
    dbmtl.cagrad,
    dbmtl.con_fig,
    dbmtl.db_mtl,
    dbmtl.dual_proj,
    dbmtl.fair_grad,
    dbmtl.nash_mtl,
    dbmtl.sdmgrad,
    dbmtl.stch,
    dbmtl.upgrad,
]
METHODS = {
    "db_mtl": dbmtl.db_mtl,
    "balance_magnitudes": dbmtl.balance_magnitudes,
}


def update(tx, mask=None):
    return tx.update(GRADS, tx.init(PARAMS), PARAMS, losses=LOSSES, task_mask=mask)[0]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("mask", [None, MASK])
def test_equal_priorities_are_none(name, mask):
    expected = update(METHODS[name](T), mask)
    for equal in ([0.1] * T, jnp.full(T, 7.0), (3, 3, 3)):
        chex.assert_trees_all_equal(update(METHODS[name](T, preference=equal), mask), expected)


@pytest.mark.parametrize("name", METHODS)
def test_only_ratios_count(name):
    found = [update(METHODS[name](T, preference=[c, 2 * c, 5 * c])) for c in (0.5, 8.0)]
    chex.assert_trees_all_equal(*found)


@pytest.mark.parametrize("mask", [None, MASK])
def test_rows_get_norms_in_these_ratios(mask):
    u = np.array([1.0, 2.0, 5.0])
    rows = flat(GRADS)
    here = np.ones(T, bool) if mask is None else np.asarray(mask)
    norms = np.linalg.norm(rows, axis=1)
    shares = here.sum() * u / u[here].sum()
    factors = np.where(here, shares * norms[here].max() / norms, 0)
    found = update(dbmtl.balance_magnitudes(T, preference=u), mask)
    np.testing.assert_allclose(flat_update(found), factors @ rows, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("factory", PREFERRING)
def test_a_masked_task_leaves_the_smaller_problem(factory):
    grads = jax.random.normal(jax.random.key(0), (4, 6))
    whole, part = factory(4, preference=[1, 2, 3, 4]), factory(3, preference=[1, 2, 4])
    here = jnp.array([True, True, False, True])
    params, losses = jnp.zeros(6), jnp.arange(1.0, 5)
    found, _ = whole.update(grads, whole.init(params), losses=losses, task_mask=here)
    expected, _ = part.update(grads[here], part.init(params), losses=losses[here])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("preference", [None, [1.0, 2.0, 5.0]])
def test_factors_have_the_mean_1_and_shares_the_sum_1(preference):
    given = priorities(preference, T)
    for here in ([1, 1, 1], [1, 0, 1], [0, 0, 0]):
        u = np.array(here) * ([1.0, 1.0, 1.0] if preference is None else preference)
        expected = u / max(u.sum(), 1)
        present = jnp.array(here, bool)
        np.testing.assert_allclose(shares(given, present), expected, rtol=1e-6)
        np.testing.assert_allclose(relative(given, present), sum(here) * expected, rtol=1e-6)


def test_names_and_own_parameters():
    names, labels = ("b", "a"), {"w": "shared", "head": "a"}
    grads = {"w": jnp.eye(2), "head": jnp.ones(2)}
    params = {"w": jnp.zeros(2), "head": jnp.zeros(2)}
    losses = {"a": jnp.ones(()), "b": jnp.ones(())}
    tx = dbmtl.db_mtl(names, 0.0, preference={"a": 3.0, "b": 1.0}, labels=labels)
    found, _ = tx.update(grads, tx.init(params), params, losses=losses)
    np.testing.assert_allclose(found["w"], [1.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(found["head"], 1, rtol=1e-5)


def test_it_may_be_traced():
    build = optax.inject_hyperparams(dbmtl.balance_magnitudes, static_args=("num_tasks",))
    found = update(build(T, preference=jnp.array([1.0, 2.0, 5.0])))
    expected = update(dbmtl.balance_magnitudes(T, preference=[1.0, 2.0, 5.0]))
    chex.assert_trees_all_close(found, expected, rtol=1e-5)
    build = jax.jit(lambda x: update(dbmtl.balance_magnitudes(T, preference=[1.0, x, 5.0])))
    chex.assert_trees_all_close(build(2.0), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("preference", "error", "message"),
    [
        ([1.0, 2.0], ValueError, r"preference: expected shape \(3,\), found \(2,\)"),
        ([1.0, 0.0, 1.0], ValueError, "preference: expected positive numbers"),
        ([1.0, -1.0, 1.0], ValueError, "preference: expected positive numbers"),
        ([1.0, np.inf, 1.0], ValueError, "preference: expected finite numbers"),
        ("high", TypeError, "preference: expected 3 numbers, found 'high'"),
        ([[1], [1, 2]], TypeError, "preference: expected 3 numbers"),
        ({1, 2, 3}, TypeError, "preference: expected 3 numbers"),
        ([1j, 1, 1], TypeError, "preference: expected 3 numbers"),
        ({"a": 1.0}, TypeError, "preference: .* has no names"),
    ],
)
def test_others_are_refused(preference, error, message):
    with pytest.raises(error, match=message):
        dbmtl.db_mtl(T, preference=preference)
