"""The loss-balancing methods against the reference implementations and closed forms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers import oracles, samplers

SGD = optax.sgd(0.1)  # how the recorded runs update the learnt parameters
CASES = {
    "GLS": dbmtl.gls,
    "UW": lambda num_tasks: dbmtl.uw(num_tasks, weight_optimizer=SGD),
    "DWA": lambda num_tasks: dbmtl.dwa(num_tasks, steps_per_epoch=1),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("case", CASES)
def test_reference(file, case):
    oracle = oracles.load(file)
    tx = CASES[case](oracle.num_tasks)
    params = oracle.params(jnp.float64)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for k, (gradients, losses) in enumerate(zip(oracle.gradients, oracle.losses, strict=True)):
        if (values := optax.tree.get(state, "values")) is not None:
            recorded = oracle.arrays[f"libmtl/{case}/loss_scale_before"][k]
            np.testing.assert_allclose(values, recorded, rtol=1e-12)
        stacked = oracle.split(gradients, jnp.float64)
        merged, state = update(stacked, state, params, losses=jnp.asarray(losses))
        expected = oracle.arrays[f"libmtl/{case}/grad"][k]
        error = np.linalg.norm(samplers.flat_update(merged) - expected)
        assert error <= 1e-12 * np.linalg.norm(expected), (k, error)


def weights_of(tx, losses, state=None, **kwargs):
    num_tasks = len(losses)
    state = tx.init(jnp.zeros(2)) if state is None else state
    _, state = tx.update(jnp.ones((num_tasks, 2)), state, losses=jnp.asarray(losses), **kwargs)
    return np.asarray(optax.tree.get(state, "loss_weights")), state


@pytest.mark.parametrize(("given", "weights"), [(None, [1, 1]), ({"b": 3.0, "a": -0.5}, [-0.5, 3])])
def test_constant_weights_are_those_given(given, weights):
    tx = dbmtl.constant(["a", "b"], weights=given, labels=["shared", "b"])
    params = [jnp.zeros(2), jnp.zeros(())]
    grads = [jnp.array([[1.0, 2.0], [10.0, 20.0]]), jnp.ones(())]
    (update, own), state = tx.update(grads, tx.init(params), losses={"a": 7.0, "b": 9.0})
    np.testing.assert_allclose(update, weights @ np.asarray(grads[0]), rtol=1e-6)
    assert own == weights[1]
    np.testing.assert_array_equal(dbmtl.diagnostics(state).loss_weights, weights)


def test_famo_adds_an_epsilon_to_losses():
    weights, _ = weights_of(dbmtl.famo(2), [1e-8, 3e-8])
    np.testing.assert_allclose(weights, [2 / 3, 1 / 3], rtol=1e-5)


def test_famo_in_plain_numpy_with_an_absent_task():
    rate, gamma = 0.5, 0.1
    tx, state = dbmtl.famo(3, gamma=gamma, weight_optimizer=optax.sgd(rate)), None
    rows = np.random.default_rng(0).uniform(0.5, 3.0, (5, 3))
    masks = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1]], bool)
    xi = np.zeros(3)
    for k, (losses, here) in enumerate(zip(rows, masks, strict=True)):
        if k:
            z = np.where(masks[k - 1], np.exp(xi), 0)
            z /= z.sum()
            both = masks[k - 1] & here
            fell = np.where(both, np.log(rows[k - 1] / losses), 0)
            xi -= rate * np.where(both, z * (fell - z @ fell) + gamma * xi, 0)
        shares = np.where(here, np.exp(xi) / losses, 0)
        weights, state = weights_of(tx, losses, state, task_mask=jnp.array(here))
        np.testing.assert_allclose(weights, shares / shares.sum(), rtol=1e-5)


def test_stch_has_a_nadir_of_1_for_a_task_absent_from_its_epoch():
    tx = dbmtl.stch(2, log_nadir=True, warmup_epochs=0)
    _, state = weights_of(tx, [4.0, 9.0], task_mask=jnp.array([True, False]))
    weights, _ = weights_of(tx, [2.0, 3.0], state)
    shares = np.array([2 / 4, 3 / 1])
    np.testing.assert_allclose(weights, 2 * shares / shares.sum() / [2, 3], rtol=1e-5)


def test_stch_compares_the_present_tasks_alone():
    tx = dbmtl.stch(3, log_nadir=True, warmup_epochs=0)
    _, state = weights_of(tx, [4.0, 9.0, 1.0])
    weights, _ = weights_of(tx, [2.0, 3.0, 5.0], state, task_mask=jnp.array([True, True, False]))
    shares = np.array([2 / 4, 3 / 9])
    expected = [*(3 * shares / shares.sum() / [2, 3]), 0]
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize("losses", [[0.5, 2.0, 8.0], [1e-6] * 11, [1e6] * 11])
def test_gls_is_the_gradient_of_the_geometric_mean(losses):
    losses = jnp.asarray(losses)
    weights, _ = weights_of(dbmtl.gls(len(losses)), losses)
    expected = jax.grad(lambda x: jnp.exp(jnp.mean(jnp.log(x))))(losses)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_gls_of_one_task_is_its_loss():
    weights, _ = weights_of(dbmtl.gls(2), [4.0, 9.0], task_mask=jnp.array([True, False]))
    np.testing.assert_allclose(weights, [1, 0], rtol=1e-6)


def test_gls_leaves_out_a_loss_that_is_not_positive():
    weights, state = weights_of(dbmtl.gls(3), [1.0, 0.0, 4.0])
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(optax.tree.get(state, "skipped"), [0, 1, 0])


def test_rlw_draws_anew_and_reproducibly():
    def draws(seed):
        tx, state, rows = dbmtl.rlw(4, seed=seed), None, []
        for _ in range(50):
            weights, state = weights_of(tx, [1.0] * 4, state)
            rows.append(weights)
        return np.array(rows)

    first = draws(0)
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)
    assert len(np.unique(first[:, 0])) == 50
    np.testing.assert_array_equal(first, draws(0))
    assert np.any(first != draws(1))
    # z ~ N(0, I): differences of the logarithms have variance 2.
    spread = np.var(np.log(first[:, 1:]) - np.log(first[:, :1]))
    assert 1.2 < spread < 3.0
    weights, _ = weights_of(dbmtl.rlw(3), [1.0] * 3, task_mask=jnp.array([True, False, True]))
    assert weights[1] == 0
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("loss", [1e-3, 0.7, 1.0, 40.0])
def test_imtl_l_converges_to_the_logarithm(loss):
    """Proposition 3.1: min_s e^s x - s - 1 = log x, at the weight 1/x."""
    tx = dbmtl.imtl_l(1, weight_optimizer=optax.adam(0.05))
    params = jnp.zeros(2)

    @jax.jit
    def many(state):
        def body(state, _):
            updates, state = tx.update(jnp.ones((1, 2)), state, losses=jnp.array([loss]))
            return state, updates

        return jax.lax.scan(body, state, length=1500)

    state, updates = many(tx.init(params))
    np.testing.assert_allclose(updates[0], 1.0, rtol=1e-6)  # s starts at 0: e^0 times the gradient
    np.testing.assert_allclose(updates[-1], 1 / loss, rtol=1e-2)
    exact = minimize_scalar(lambda s: np.exp(s) * loss - s, bounds=(-10, 10), method="bounded")
    assert exact.fun == pytest.approx(1 + np.log(loss), abs=1e-6)
    (s,) = np.asarray(optax.tree.get(state, "values"))
    assert np.exp(s) * loss - s == pytest.approx(exact.fun, abs=1e-3)


def test_learnt_parameters_descend_their_objectives():
    """The slopes in closed form are those of `jax.grad`."""
    losses = jnp.array([0.3, 5.0])
    objectives = {
        dbmtl.uw: lambda s: jnp.sum(losses / (2 * jnp.exp(s)) + s / 2),
        dbmtl.imtl_l: lambda s: jnp.sum(jnp.exp(s) * losses - s),
    }
    for factory, objective in objectives.items():
        tx = factory(2, weight_optimizer=SGD)
        first = optax.tree.get(tx.init(jnp.zeros(2)), "values")
        _, state = weights_of(tx, losses)
        moved = optax.tree.get(state, "values")
        np.testing.assert_allclose(moved, first - 0.1 * jax.grad(objective)(first), rtol=1e-6)
        _, state = weights_of(tx, losses, task_mask=jnp.array([True, False]))
        assert optax.tree.get(state, "values")[1] == first[1]


def test_a_learnt_value_stands_still_while_its_task_is_absent():
    """Also with an optimizer whose momentum would move it."""
    tx = dbmtl.uw(2, weight_optimizer=optax.sgd(0.1, momentum=0.9))
    _, state = weights_of(tx, [0.3, 5.0])
    before = optax.tree.get(state, "values")
    _, state = weights_of(tx, [0.3, 5.0], state, task_mask=jnp.array([True, False]))
    after = optax.tree.get(state, "values")
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_dwa_compares_the_means_of_the_last_two_epochs():
    tx, state = dbmtl.dwa(2, temperature=2.0, steps_per_epoch=2), None
    rows = [[4.0, 1.0], [2.0, 3.0], [2.0, 1.0], [1.0, 1.0], [9.0, 9.0]]
    seen = []
    for losses in rows:
        weights, state = weights_of(tx, losses, state)
        seen.append(weights)
    np.testing.assert_array_equal(seen[:4], 1)
    rates = np.array([1.5 / 3.0, 1.0 / 2.0])
    expected = 2 * np.exp(rates / 2) / np.exp(rates / 2).sum()
    np.testing.assert_allclose(seen[4], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["gls", "rlw", "uw", "dwa", "imtl_l", "igbv2"])
def test_the_method_is_its_scaling_and_a_sum(name):
    params = testing.sample_params()
    grads, losses = testing.sample_task_grads(3), testing.sample_losses(3)
    method = getattr(dbmtl, name)(3)
    chain = optax.chain(getattr(dbmtl, f"scale_by_{name}")(3), dbmtl.sum_tasks(3))
    outcomes = [
        tx.update(grads, tx.init(params), params, losses=losses)[0] for tx in (method, chain)
    ]
    chex.assert_trees_all_close(*outcomes, rtol=1e-5)


@pytest.mark.parametrize("name", ["gls", "rlw", "uw", "dwa", "imtl_l", "igbv2"])
def test_the_tasks_own_parameters_are_weighted_too(name):
    labels = {"shared": "shared", "heads": [0, 1]}
    params = {"shared": jnp.zeros(3), "heads": [jnp.zeros(2), jnp.zeros(2)]}
    grads = {"shared": jnp.ones((2, 3)), "heads": [jnp.ones(2), jnp.ones(2)]}
    tx = getattr(dbmtl, name)(2, labels=labels)
    update, state = tx.update(grads, tx.init(params), params, losses=jnp.array([0.5, 2.0]))
    weights = optax.tree.get(state, "loss_weights")
    for task in range(2):
        np.testing.assert_allclose(update["heads"][task], weights[task], rtol=1e-6)
    np.testing.assert_allclose(update["shared"], weights.sum(), rtol=1e-6)


def test_options_are_checked():
    with pytest.raises(ValueError, match="steps_per_epoch: expected an int of at least 1"):
        dbmtl.dwa(2, steps_per_epoch=0)
    with pytest.raises(ValueError, match="temperature: expected a number in"):
        dbmtl.dwa(2, temperature=0.0)
    for name in ("gls", "rlw", "uw", "dwa", "imtl_l", "igbv2"):
        tx = getattr(dbmtl, name)(2)
        with pytest.raises(TypeError, match=f"losses: {name} needs the raw task losses"):
            tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dbmtl.constant(2, weights=[np.nan, 1]), ValueError, "weights: expected finite"),
        (lambda: dbmtl.constant(2, weights=["a", 1]), TypeError, "weights: expected 2 numbers"),
        (lambda: dbmtl.stch(2, reference=[np.nan, 1]), ValueError, "reference: expected finite"),
        (lambda: dbmtl.stch(2, mu=np.inf), ValueError, "mu: expected a number in"),
        (
            lambda: dbmtl.stch(2, preference=[1, 2], log_nadir=True),
            TypeError,
            "preference: expected None with log_nadir",
        ),
        (
            lambda: dbmtl.stch(2, reference=[0, 0], log_nadir=True),
            TypeError,
            "reference: expected None with log_nadir",
        ),
        (lambda: dbmtl.famo(2, weight_optimizer=0.1), TypeError, "weight_optimizer: expected an"),
    ],
)
def test_numbers_and_optimizers_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_dwa_has_a_rate_of_one_for_a_task_absent_from_whole_epochs():
    tx, state = dbmtl.dwa(2, temperature=2.0, steps_per_epoch=1), None
    for losses, mask in (([4.0, 1.0], [1, 0]), ([2.0, 1.0], [1, 0]), ([1.0, 1.0], [1, 1])):
        weights, state = weights_of(tx, losses, state, task_mask=jnp.array(mask, bool))
    expected = 2 * np.exp([0.25, 0.5]) / np.exp([0.25, 0.5]).sum()
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["gls", "rlw", "uw", "dwa", "imtl_l", "log_loss"])
def test_rows_of_masked_tasks_stay_finite(name):
    """Also if all are: NaN would say that they are unusable, and raise in strict mode."""
    tx = getattr(dbmtl, f"scale_by_{name}")(2)
    state, none = tx.init(jnp.zeros(3)), jnp.zeros(2, bool)
    with jax.debug_nans(True):
        rows, _ = tx.update(jnp.ones((2, 3)), state, losses=jnp.ones(2), task_mask=none)
    assert np.all(np.isfinite(rows))


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_a_loss_of_zero_is_a_loss(name):
    tx = getattr(dbmtl, name)(2)
    _, state = tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)), losses=jnp.array([0.0, -0.0]))
    np.testing.assert_array_equal(state.skipped, 0)


def test_the_logarithm_has_an_epsilon_and_weighs_own_parameters():
    tx = dbmtl.scale_by_log_loss(2, eps=0.5, labels=["shared", 1])
    params = [jnp.zeros(2), jnp.zeros(1)]
    grads = [jnp.array([[2.0, 4.0], [3.0, 0.0]]), jnp.ones(1)]
    (rows, own), _ = tx.update(grads, tx.init(params), params, losses=jnp.array([1.5, -0.25]))
    np.testing.assert_allclose(rows, [[1, 2], [12, 0]], rtol=1e-6)
    np.testing.assert_allclose(own, 4, rtol=1e-6)
