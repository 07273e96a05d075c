"""The gradient-balancing methods against the reference implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.gradient_balancing._grad_drop import keep_signs
from dbmtl_jax.gradient_balancing._grad_vac import vaccinate
from dbmtl_jax.gradient_balancing._pairwise import combine
from dbmtl_jax.gradient_balancing._pcgrad import project_conflicts
from tests.helpers import oracles, samplers

SGD = optax.sgd(0.1)  # how the recorded runs update the learnt parameters
GOLDEN = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])

# case: (method, relative tolerance, how many times the recorded update ours is)
CASES = {
    "libmtl/IMTL": (lambda T: dbmtl.imtl(T, weight_optimizer=SGD), 1e-9, 1),
    "libmtl/GradNorm": (lambda T: dbmtl.grad_norm(T, weight_optimizer=SGD), 1e-13, 1),
    "libmtl/MoCo": (
        lambda T: dbmtl.moco(T, normalize=True, projection="softmax"),
        1e-13,
        1,
    ),
    "libmtl/Aligned_MTL": (dbmtl.aligned_mtl, 1e-9, 1),
    "torchjd/IMTLG": (dbmtl.imtl_g, 1e-9, 1),
    # TorchJD's preference is 1/T, ours 1.
    "torchjd/AlignedMTL": (dbmtl.aligned_mtl, 1e-9, "T"),
    "torchjd/AlignedMTL_median": (lambda T: dbmtl.aligned_mtl(T, scale="median"), 1e-9, "T"),
    "torchjd/AlignedMTL_rmse": (lambda T: dbmtl.aligned_mtl(T, scale="rmse"), 1e-9, "T"),
    "torchjd/CAGrad_c0.5": (lambda T: dbmtl.cagrad(T, c=0.5, rescale=0), 1e-3, 1),
    "torchjd/CAGrad_c1": (lambda T: dbmtl.cagrad(T, c=1.0, rescale=0), 1e-3, 1),
    "torchjd/MGDA_tight": (dbmtl.mgda, 5e-3, 1),
    "torchjd/NashMTL": (dbmtl.nash_mtl, 1e-3, 1),
    # These solvers stop early; `test_objectives` compares what they minimise.
    "libmtl/MGDA_l2": (lambda T: dbmtl.mgda(T, normalization="l2"), 5e-3, 1),
    "libmtl/MGDA_loss": (lambda T: dbmtl.mgda(T, normalization="loss"), 5e-3, 1),
    "libmtl/MGDA_loss+": (lambda T: dbmtl.mgda(T, normalization="loss+"), 5e-3, 1),
    "libmtl/CAGrad_r0": (lambda T: dbmtl.cagrad(T, rescale=0), 1e-3, 1),
    "libmtl/CAGrad_r1": (lambda T: dbmtl.cagrad(T, rescale=1), 1e-3, 1),
    "libmtl/CAGrad_r2": (lambda T: dbmtl.cagrad(T, c=0.2, rescale=2), 1e-3, 1),
    "libmtl/Nash_MTL": (dbmtl.nash_mtl, 1e-3, 1),
    "libmtl/Nash_MTL_every3_noclip": (
        lambda T: dbmtl.nash_mtl(T, update_every=3, max_norm=0),
        1e-3,
        1,
    ),
    "libmtl/UPGrad": (lambda T: dbmtl.upgrad(T, ridge=1e-4), 1e-13, 1),
    "torchjd/UPGrad": (lambda T: dbmtl.upgrad(T, ridge=1e-4), 1e-13, 1),
    "torchjd/DualProj": (lambda T: dbmtl.dual_proj(T, ridge=1e-4), 1e-13, 1),
    "torchjd/ConFIG": (dbmtl.con_fig, 1e-12, 1),
    "libmtl/FairGrad": (dbmtl.fair_grad, 1e-9, 1),
    "torchjd/FairGrad": (dbmtl.fair_grad, 1e-9, 1),
    # LibMTL's weights sum to T, ours to 1.
    "libmtl/ExcessMTL": (lambda T: dbmtl.excess_mtl(T, eta=0.01), 1e-9, "1/T"),
    # Each step is an epoch.
    "libmtl/STCH": (lambda T: dbmtl.stch(T, log_nadir=True, warmup_epochs=2), 1e-13, 1),
    "libmtl/FAMO": (dbmtl.famo, 1e-13, 1),
}


def shares(weights, mean=False):
    """The point of the simplex that weights stand for, `mean`: after 1/T has been taken off."""
    weights = np.asarray(weights, float) - (1 / len(weights) if mean else 0)
    weights = np.maximum(weights, 0)
    return weights / weights.sum()


def relative_error(actual, expected):
    return np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("case", CASES)
def test_reference(file, case):
    oracle = oracles.load(file)
    factory, tolerance, times = CASES[case]
    tx = factory(oracle.num_tasks)
    params = oracle.params(jnp.float64)
    state = tx.init(params)
    update = jax.jit(tx.update)
    times = {"T": oracle.num_tasks, "1/T": 1 / oracle.num_tasks}.get(times, times)
    for k, (gradients, losses) in enumerate(zip(oracle.gradients, oracle.losses, strict=True)):
        learnt = f"{case}/loss_scale_before"
        if learnt in oracle.arrays:
            values = optax.tree.get(state, "values")
            np.testing.assert_allclose(values, oracle.arrays[learnt][k], rtol=1e-12)
        stacked = oracle.split(gradients, jnp.float64)
        merged, state = update(stacked, state, params, losses=jnp.asarray(losses))
        expected = times * oracle.arrays[f"{case}/grad"][k]
        assert relative_error(samplers.flat_update(merged), expected) <= tolerance, k
    if case == "libmtl/MoCo":
        averages = samplers.flat(optax.tree.get(state, "ema"))
        np.testing.assert_allclose(averages, oracle.arrays[f"{case}/y_final"], rtol=1e-12)
        weights = oracle.arrays[f"{case}/lambd_final"]
        np.testing.assert_allclose(optax.tree.get(state, "weights"), weights, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
def test_objectives(file):
    """What MGDA and CAGrad minimise is never larger than with the references' weights."""
    oracle = oracles.load(file)
    T = oracle.num_tasks

    def weights_with(tx):
        @jax.jit
        def weights_of(stacked):
            _, state = tx.update(stacked, tx.init(stacked[0]))
            return optax.tree.get(state, "weights")

        return weights_of

    def mgda_objective(gradients, w):
        return np.sum((w @ gradients) ** 2)

    def cagrad_objective(c):
        def objective(gradients, w):
            g0, gw = gradients.mean(axis=0), w @ gradients
            return gw @ g0 + c * np.linalg.norm(g0) * np.linalg.norm(gw)

        return objective

    for tx, cases in (
        (dbmtl.mgda(T), [("libmtl/MGDA_none", 0), ("torchjd/MGDA", 0), ("torchjd/MGDA_tight", 0)]),
        (dbmtl.cagrad(T, c=0.5, rescale=0), [("libmtl/CAGrad_r0", 0), ("torchjd/CAGrad_c0.5", 1)]),
        (dbmtl.cagrad(T, c=0.2, rescale=0), [("libmtl/CAGrad_r2", 0)]),
        (dbmtl.cagrad(T, c=1.0, rescale=0), [("torchjd/CAGrad_c1", 1)]),
    ):
        is_cagrad = "CAGrad" in cases[0][0]
        c = {"libmtl/CAGrad_r0": 0.5, "libmtl/CAGrad_r2": 0.2}.get(cases[0][0], 1.0)
        objective = cagrad_objective(c) if is_cagrad else mgda_objective
        weights_of = weights_with(tx)
        for k, gradients in enumerate(oracle.gradients):
            ours = objective(gradients, shares(weights_of(gradients), mean=is_cagrad))
            for case, mean in cases:
                theirs = shares(oracle.arrays[f"{case}/w"][k], mean=bool(mean))
                assert ours <= objective(gradients, theirs) + 1e-8, (case, k)


def grad_vac_orders(recorded, library):
    """Rows of all tasks, from rows without the task itself; TorchJD's count without it as well."""
    rows = []
    for i, row in enumerate(recorded):
        others = [int(j) for j in row[:-1]]
        if library == "torchjd":
            others = [j + (j >= i) for j in others]
        rows.append([*others, i])
    return jnp.array(rows)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("library", ["libmtl", "torchjd"])
@pytest.mark.parametrize("file", oracles.FILES)
def test_pairwise_methods_in_the_recorded_orders(file, library):
    oracle = oracles.load(file)
    targets = jnp.zeros((oracle.num_tasks,) * 2)
    for k, gradients in enumerate(oracle.gradients):
        norms = np.linalg.norm(gradients, axis=1)
        units = gradients / norms[:, None]
        cosines = jnp.asarray(units @ units.T)
        orders = jnp.asarray(oracle.arrays[f"{library}/PCGrad/perm"][k])
        weights = combine(jnp.asarray(norms), project_conflicts(cosines, orders))
        expected = oracle.arrays[f"{library}/PCGrad/grad"][k]
        # LibMTL adds 1e-8 to its denominators, also below.
        tolerance = 1e-13 if library == "torchjd" else 1e-8
        assert relative_error(weights @ gradients, expected) <= tolerance

        orders = grad_vac_orders(oracle.arrays[f"{library}/GradVac/perm"][k], library)
        coefficients, targets = vaccinate(cosines, targets, orders, beta=0.5)
        weights = combine(jnp.asarray(norms), coefficients)
        expected = oracle.arrays[f"{library}/GradVac/grad"][k]
        assert relative_error(weights @ gradients, expected) <= 1e-8
    if library == "libmtl":
        recorded = oracle.arrays["libmtl/GradVac/rho_final"]
        np.testing.assert_allclose(targets, recorded, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_grad_drop_on_a_representation(file, leak):
    """As in the paper: per feature, on gradients times the representation's sign, summed over
    the batch."""
    oracle = oracles.load(file)
    case = f"libmtl/GradDrop_leak{leak}"
    representation = oracle.arrays[f"{case}/rep"]
    for k, gradients in enumerate(oracle.gradients):
        rows = gradients.reshape(-1, *representation.shape)
        uniform = oracle.arrays[f"{case}/uniform"][k]
        kept = keep_signs(
            jnp.asarray((rows * np.sign(representation)).sum(axis=1)), jnp.asarray(uniform)
        )
        factors = leak + (1 - leak) * np.asarray(kept)
        merged = (rows * factors[:, None, :]).sum(axis=0).ravel()
        assert relative_error(merged, oracle.arrays[f"{case}/grad"][k]) <= 1e-12


@pytest.mark.parametrize(
    ("tx", "weights"),
    [
        (dbmtl.mgda(2), [0.6, 0.4]),
        (dbmtl.imtl_g(2), [0.5923, 0.4077]),
        (dbmtl.cagrad(2, c=0.5, rescale=0), [0.7041, 0.5]),
        (dbmtl.aligned_mtl(2), [2 * 0.5591, 2 * 0.4083]),
        (dbmtl.pcgrad(2), [2.2222, 1.5789]),
        (dbmtl.db_mtl(2, 0.0, log_losses=False), [1.45297, 1.0]),
    ],
    ids=["mgda", "imtl_g", "cagrad", "aligned_mtl", "pcgrad", "db_mtl"],
)
def test_golden_values(tx, weights):
    _, state = tx.update(jnp.asarray(GOLDEN, jnp.float32), tx.init(jnp.zeros(3)))
    np.testing.assert_allclose(optax.tree.get(state, "weights"), weights, atol=1.1e-4)
