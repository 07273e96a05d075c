"""Methods that the paper does not compare: values of other implementations, and identities."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from benchmarks.methods import BEYOND
from dbmtl_jax import testing
from tests.helpers import samplers

GOLDEN = json.loads(
    (pathlib.Path(__file__).parent.parent / "oracles" / "golden_beyond.json").read_text()
)
MATRICES = {name: np.array(rows, float) for name, rows in GOLDEN["matrices"].items()}
INPUTS = {name: np.array(x, float) for name, x in GOLDEN["sequence"]["inputs"].items()}
T = 3
RIDGE = 1e-4


def wanted(num_tasks):
    return np.array(GOLDEN["preference"][str(num_tasks)])


def aligned(num_tasks):
    """Other implementations divide by T."""
    return dbmtl.aligned_mtl(num_tasks, preference=wanted(num_tasks))


SINGLE = {
    "upgrad": functools.partial(dbmtl.upgrad, ridge=RIDGE),
    "upgrad_exact": dbmtl.upgrad,
    "upgrad_pref": lambda n: dbmtl.upgrad(n, preference=wanted(n), ridge=RIDGE),
    "upgrad_pref_exact": lambda n: dbmtl.upgrad(n, preference=wanted(n)),
    "dualproj": functools.partial(dbmtl.dual_proj, ridge=RIDGE),
    "dualproj_exact": dbmtl.dual_proj,
    "dualproj_pref": lambda n: dbmtl.dual_proj(n, preference=wanted(n), ridge=RIDGE),
    "dualproj_pref_exact": lambda n: dbmtl.dual_proj(n, preference=wanted(n)),
    "config": dbmtl.con_fig,
    "config_pref": lambda n: dbmtl.con_fig(n, preference=wanted(n)),
    "fairgrad_a0.5_exact": functools.partial(dbmtl.fair_grad, alpha=0.5),
    "fairgrad_a1_exact": dbmtl.fair_grad,
    "fairgrad_a2_exact": functools.partial(dbmtl.fair_grad, alpha=2.0),
    "fairgrad_a5_exact": functools.partial(dbmtl.fair_grad, alpha=5.0),
    "pcd": dbmtl.pcd,
    "pcd_tau0.5": functools.partial(dbmtl.pcd, tau=0.5),
    "aligned_mtl_pref": aligned,
}


WITH_RIDGE = ("upgrad", "upgrad_pref", "dualproj", "dualproj_pref")


def updated(tx, grads, **extra):
    return jax.jit(lambda g: tx.update(g, tx.init(g[0]), **extra)[0])(jnp.asarray(grads))


@pytest.mark.parametrize("name", SINGLE)
def test_a_step_is_that_of_other_implementations(name):
    with jax.enable_x64(True):
        for matrix, found in GOLDEN["single"][name]["values"].items():
            if found is None or found.get("update") is None:
                continue  # there is no solution
            if name in WITH_RIDGE and matrix == "J2_x1e-3":
                continue  # of gradients as small they take the mean
            rows = MATRICES[matrix]
            update = updated(SINGLE[name](len(rows)), rows)
            if name == "aligned_mtl_pref":
                update /= len(rows)
            np.testing.assert_allclose(
                update, found["update"], rtol=1e-9, atol=1e-9 * np.abs(rows).max()
            )


@pytest.mark.parametrize("matrix", MATRICES)
def test_sdmgrad_solves_its_problem_exactly(matrix):
    with jax.enable_x64(True):
        rows = MATRICES[matrix]
        tx = dbmtl.sdmgrad(len(rows), preference=wanted(len(rows)))
        expected = GOLDEN["sdmgrad_exact"]["values"][matrix]["update"]
        update = updated(tx, rows)
        np.testing.assert_allclose(update, expected, rtol=1e-9, atol=1e-9 * np.abs(rows).max())


SEQUENCES = {
    "config": (dbmtl.con_fig, ()),
    "fairgrad_a2_exact": (functools.partial(dbmtl.fair_grad, alpha=2.0), ()),
    "pcd": (dbmtl.pcd, ()),
    "upgrad_exact": (dbmtl.upgrad, ()),
    "upgrad": (functools.partial(dbmtl.upgrad, ridge=RIDGE), ()),
    "cr_mogm_upgrad": (lambda n: dbmtl.smooth_weights(dbmtl.upgrad(n, ridge=RIDGE)), ()),
    "sdmgrad_one_batch_exact": (dbmtl.sdmgrad, ()),
    "excess_mtl_warmup2": (functools.partial(dbmtl.excess_mtl, warmup_steps=2), ()),
    "modo_third_batch": (dbmtl.modo, ("G2", "G3")),
    "modo_mean_of_two": (dbmtl.modo, ("G2",)),
    "sdmgrad": (dbmtl.sdmgrad, ("G2", "G3")),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_steps_are_those_of_other_implementations(name):
    factory, others = SEQUENCES[name]
    with jax.enable_x64(True):
        tx = factory(T)
        state = tx.init(jnp.zeros(4))
        step = jax.jit(lambda g, s, o: tx.update(g, s, **({"other_grads": o} if o else {})))
        for k, expected in enumerate(GOLDEN["sequence"][name]["update"]):
            update, state = step(INPUTS["G1"][k], state, [INPUTS[o][k] for o in others])
            np.testing.assert_allclose(update, expected, rtol=1e-9, atol=1e-10)


def test_excess_mtl_is_libmtls_up_to_the_sum_of_the_weights():
    with jax.enable_x64(True):
        tx = dbmtl.excess_mtl(T, eta=0.01)
        state = tx.init(jnp.zeros(4))
        for k, expected in enumerate(GOLDEN["sequence"]["libmtl_excess_mtl_eta0.01"]["update"]):
            update, state = tx.update(INPUTS["G1"][k], state)
            np.testing.assert_allclose(T * update, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stch_mu0.1", {"mu": 0.1}),
        ("stch_mu1", {}),
        ("stch_mu0.1_pref_ref", {"mu": 0.1, "preference": ..., "reference": ...}),
    ],
)
def test_the_weights_of_stch(name, options):
    scalars = GOLDEN["scalarizers"]
    given = {key: scalars[key] if x is ... else x for key, x in options.items()}
    with jax.enable_x64(True):
        tx = dbmtl.stch(T, **given)
        update = updated(tx, np.eye(T), losses=np.array(scalars["losses"]))
        np.testing.assert_allclose(update, scalars[name]["weights"], rtol=1e-9)


def test_the_nadir_of_stch():
    """Epochs 0, 1, 1, 2, 2 with a warm-up until epoch 1; the update is that of LibMTL."""
    epochs = GOLDEN["sequence"]["libmtl_stch"]
    assert epochs["options"].startswith("STCH_mu 1, STCH_warmup_epoch 1; epochs 0, 1, 1, 2, 2")
    with jax.enable_x64(True):
        # Epoch 0 has one step here and two in what follows: it counts for nothing.
        tx = dbmtl.stch(T, log_nadir=True, warmup_epochs=1, steps_per_epoch=2)
        state = tx.init(jnp.zeros(4))
        _, state = tx.update(INPUTS["G1"][0], state, losses=INPUTS["L"][0])
        for k, expected in enumerate(epochs["update"]):
            update, state = tx.update(INPUTS["G1"][k], state, losses=INPUTS["L"][k])
            np.testing.assert_allclose(update, expected, rtol=1e-9, atol=1e-9)


def test_famo_learns_from_the_next_steps_losses():
    """Adam's first step on ξ, by hand."""
    with jax.enable_x64(True):
        tx = dbmtl.famo(T, gamma=0.0, weight_optimizer=optax.sgd(0.5))
        state = tx.init(jnp.zeros(T))
        first, second = INPUTS["L"][:2]
        update, state = tx.update(jnp.eye(T), state, losses=first)
        weights = (1 / first) / np.sum(1 / first)
        np.testing.assert_allclose(update, weights, rtol=1e-7)
        fell = np.log(first) - np.log(second)
        xi = -0.5 * (fell - fell.mean()) / T
        update, _ = tx.update(jnp.eye(T), state, losses=second)
        shares = np.exp(xi) / second
        np.testing.assert_allclose(update, shares / shares.sum(), rtol=1e-7)


def random_rows(seed, num_tasks=T, size=5):
    rows = np.random.default_rng(seed).normal(size=(num_tasks, size))
    return rows * 10.0 ** np.arange(num_tasks)[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_identities(seed):
    with jax.enable_x64(True):
        two, three = random_rows(seed, 2), random_rows(seed)
        pairs = [
            (2 * updated(dbmtl.upgrad(2), two), updated(dbmtl.pcgrad(2), two)),
            (updated(dbmtl.fair_grad(T), three), updated(dbmtl.nash_mtl(T, max_norm=None), three)),
            (updated(dbmtl.sdmgrad(T, lambda_=0.0), three), updated(dbmtl.mgda(T), three)),
            (updated(dbmtl.sdmgrad(T, lambda_=1e9), three), three.mean(axis=0)),
        ]
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
        config, imtl = (updated(f(T), three) for f in (dbmtl.con_fig, dbmtl.imtl_g))
        cosine = config @ imtl / np.linalg.norm(config) / np.linalg.norm(imtl)
        np.testing.assert_allclose(abs(cosine), 1, rtol=1e-9)
        for a in (0.5, 2.0, 5.0):
            alpha = dbmtl.fair_grad_weights(jnp.asarray(three @ three.T), alpha=a)
            np.testing.assert_allclose(
                alpha @ (three @ three.T) @ alpha, np.sum(alpha ** (1 - 1 / a)), rtol=1e-8
            )


PREFERRING = (
    dbmtl.upgrad,
    dbmtl.dual_proj,
    dbmtl.con_fig,
    dbmtl.fair_grad,
    dbmtl.sdmgrad,
    dbmtl.stch,
    dbmtl.aligned_mtl,
    dbmtl.nash_mtl,
    dbmtl.cagrad,
    dbmtl.db_mtl,
    dbmtl.balance_magnitudes,
)


@pytest.mark.parametrize("factory", PREFERRING, ids=lambda f: f.__name__)
def test_equal_preferences_are_none_and_others_matter(factory):
    rows, losses = random_rows(0), jnp.array([1.0, 2.0, 3.0])
    plain, equal, other = (
        updated(factory(T, preference=u), rows, losses=losses)
        for u in (None, [7.0] * T, [5.0, 1.0, 1.0])
    )
    np.testing.assert_allclose(equal, plain, rtol=1e-5)
    assert np.abs(other - plain).max() > 1e-3 * np.abs(plain).max()
    with pytest.raises(ValueError, match="preference: expected positive numbers"):
        factory(T, preference=[1.0, -1.0, 1.0])


@pytest.mark.parametrize("name", BEYOND)
def test_forty_tasks(name):
    """What `tests/test_properties.py` asserts of fewer."""
    update = testing.first_update(samplers.METHODS[name], 40)
    for kind, rows in testing.hard_gradients(40).items():
        result = update(rows)
        assert np.all(np.isfinite(result)), kind
        if name in ("upgrad", "dual_proj"):
            norms = np.linalg.norm(rows, axis=1)
            assert np.all(rows @ result >= -1e-3 * norms * norms.max()), kind


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("factory", [dbmtl.upgrad, dbmtl.dual_proj], ids=lambda f: f.__name__)
@pytest.mark.parametrize("num_tasks", [2, 3, 11])
def test_projections_conflict_with_no_task_in_double_precision(factory, num_tasks):
    tx = factory(num_tasks)
    update = jax.jit(lambda g: tx.update(g, tx.init(g[0]))[0])
    for kind, rows in testing.hard_gradients(num_tasks).items():
        rows = np.asarray(rows, np.float64)
        norms = np.linalg.norm(rows, axis=1)
        assert np.all(rows @ update(rows) >= -1e-8 * norms * norms.max()), kind


def smoothed(num_tasks, labels=None):
    return dbmtl.smooth_weights(dbmtl.imtl_g(num_tasks, labels=labels))


def test_smoothed_weights_keep_the_contract():
    testing.assert_contract(smoothed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factory", [dbmtl.mgda, functools.partial(dbmtl.excess_mtl, eta=100.0)])
def test_smoothed_weights_are_those_of_own_parameters(factory):
    labels = {"w": "shared", "a": 0, "b": 1}
    tx = dbmtl.smooth_weights(factory(2, labels=labels))
    params = {"w": jnp.zeros(2), "a": jnp.zeros(()), "b": jnp.zeros(())}
    own = {"a": jnp.ones(()), "b": jnp.ones(())}
    state = tx.init(params)
    # In the second step the method's own weight of a task is exactly 0.
    for grads in (jnp.eye(2), jnp.array([[0.0, 0.0], [0.0, 1.0]])):
        found, state = tx.update({"w": grads, **own}, state, params, losses=jnp.ones(2))
    np.testing.assert_allclose([found["a"], found["b"]], state.weights, rtol=1e-6)


@pytest.mark.parametrize("factory", [dbmtl.upgrad, dbmtl.dual_proj])
@pytest.mark.parametrize("ridge", [0.0, RIDGE])
def test_norms_as_far_apart_as_numbers_are(factory, ridge):
    near, far = (
        updated(factory(2, ridge=ridge), jnp.array([[c, 0.0], [-0.5 / c, 0.8 / c]], jnp.float32))
        for c in (1e8, 1e15)
    )
    np.testing.assert_allclose(near / 1e8, far / 1e15, rtol=1e-5)
    if not ridge:
        np.testing.assert_allclose(near / 1e8, [0.35955, 0.224719], rtol=1e-4)


def test_con_fig_of_zero_gradients_is_zero():
    tx = dbmtl.con_fig(2)
    update, state = tx.update(jnp.zeros((2, 3)), tx.init(jnp.zeros(3)))
    np.testing.assert_array_equal(update, 0)
    np.testing.assert_array_equal(state.skipped, 0)


@pytest.mark.parametrize("name", ["upgrad", "dual_proj"])
def test_a_zero_gradient_keeps_its_preference(name):
    weights = getattr(dbmtl, f"{name}_weights")(jnp.diag(jnp.array([4.0, 0.0])))
    np.testing.assert_allclose(weights, 0.5, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_excess_mtl_squares_in_float32(dtype):
    grads = jnp.array([[300.0, 1.0], [2.0, 3e-4]], dtype)
    tx = dbmtl.excess_mtl(2)
    wide, state = grads.astype(jnp.float32), tx.init(jnp.zeros(2, dtype))
    expected = tx.init(jnp.zeros(2))
    for _ in range(3):
        _, state = tx.update(grads, state)
        _, expected = tx.update(wide, expected)
    np.testing.assert_allclose(state.weights, expected.weights, rtol=1e-6)
    np.testing.assert_allclose(state.aggregator.squares, expected.aggregator.squares, rtol=1e-6)


def test_a_large_lambda_is_the_preference():
    for lam in (1e6, 1e30, 3e38):
        (weights,) = (updated(dbmtl.sdmgrad(3, lambda_=lam), jnp.diag(jnp.array([1.0, 2, 9]))),)
        np.testing.assert_allclose(weights, [1 / 3, 2 / 3, 3], rtol=1e-4)
    with pytest.raises(ValueError, match=r"lambda_: expected a number in \[0, inf\), found inf"):
        dbmtl.sdmgrad(2, lambda_=float("inf"))


def test_modo_needs_another_batch():
    tx = dbmtl.modo(2)
    with pytest.raises(TypeError, match="other_grads: modo needs a sequence"):
        updated(tx, np.eye(2))
    with pytest.raises(ValueError, match="other_grads: expected 1 to 2 batches, found 3"):
        updated(tx, np.eye(2), other_grads=[np.eye(2)] * 3)
    with pytest.raises(ValueError, match=r"other_grads\[0\]"):
        updated(tx, np.eye(2), other_grads=[np.eye(3)])


@pytest.mark.parametrize("bad", [dbmtl.grad_drop(T), dbmtl.scale_by_uw(T), optax.sgd(0.1)])
def test_what_has_no_weights_cannot_be_smoothed(bad):
    with pytest.raises(TypeError, match="method: expected a method"):
        dbmtl.smooth_weights(bad)
