"""DB-MTL against the reference implementation, closed forms and its invariants."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers import oracles, samplers

BETAS = {
    "b0.9": 0.9,
    "b0.5": 0.5,
    "b0.1": 0.1,
    "b0": 0.0,
    "b0.9_s0.5": dbmtl.inverse_power_schedule(0.9, 0.5),
    "b0.5_s0.5": dbmtl.inverse_power_schedule(0.5, 0.5),
    "b0.1_s0.5": dbmtl.inverse_power_schedule(0.1, 0.5),
}


def run(tx, oracle, dtype):
    """The updates [steps, P] of one instance over the oracle's steps, and its last state."""
    params = oracle.params(dtype)
    state = tx.init(params)
    update = jax.jit(tx.update)
    updates = []
    for gradients, losses in zip(oracle.gradients, oracle.losses, strict=True):
        stacked = oracle.split(gradients, dtype)
        update_k, state = update(stacked, state, params, losses=jnp.asarray(losses, dtype))
        updates.append(samplers.flat_update(update_k))
    return np.stack(updates), state


def assert_close(actual, expected, tolerance):
    """The relative error of each step's vector is within the tolerance."""
    error = np.linalg.norm(actual - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert error.max() <= tolerance, f"relative error {error.max():.2e}"


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("case", BETAS)
def test_reference_in_float64(file, case):
    oracle = oracles.load(file)
    updates, state = run(dbmtl.db_mtl(oracle.num_tasks, BETAS[case]), oracle, jnp.float64)
    assert_close(updates, oracle.arrays[f"libmtl/DB_MTL_{case}/grad"], 1e-13)
    if case != "b0":
        expected = oracle.arrays[f"libmtl/DB_MTL_{case}/ema_final"]
        assert_close(samplers.flat(optax.tree.get(state, "ema")), expected, 1e-13)


@pytest.mark.parametrize("file", oracles.FILES)
@pytest.mark.parametrize("case", ["b0.9", "b0.9_s0.5", "b0"])
def test_reference_in_float32(file, case):
    oracle = oracles.load(file)
    updates, _ = run(dbmtl.db_mtl(oracle.num_tasks, BETAS[case]), oracle, jnp.float32)
    assert_close(updates, oracle.arrays[f"f32/libmtl/DB_MTL_{case}/grad"], 1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("file", oracles.FILES)
def test_equal_weighting_reference(file):
    oracle = oracles.load(file)
    updates, _ = run(dbmtl.ew(oracle.num_tasks), oracle, jnp.float64)
    assert_close(updates, oracle.arrays["libmtl/EW/grad"], 1e-13)


def test_trajectory_of_the_reference():
    """Twenty SGD steps of a real two-task network, trained by the reference implementation."""
    with np.load(oracles.DIRECTORY / "trajectory_f32_T2.npz") as file:
        data = {key: file[key] for key in file.files}
    modules = ["enc0", "enc1", "enc2", "head0", "head1"]
    params = {m: {k: jnp.asarray(data[f"init/{m}/{k}"]) for k in "wb"} for m in modules}
    labels = {m: int(m[-1]) if m.startswith("head") else "shared" for m in modules}

    def loss_fn(p, x, y0, y1):
        for m in modules[:3]:
            x = jnp.tanh(x @ p[m]["w"] + p[m]["b"][None])
        logits = x @ p["head0"]["w"] + p["head0"]["b"][None]
        value = (x @ p["head1"]["w"] + p["head1"]["b"][None])[:, 0]
        cross_entropy = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y0).mean()
        return cross_entropy, jnp.mean((value - y1) ** 2)

    beta = dbmtl.inverse_power_schedule(float(data["beta"]), float(data["beta_sigma"]))
    tx = optax.chain(dbmtl.db_mtl(2, beta, labels=labels), optax.sgd(float(data["lr"])))
    state = tx.init(params)

    @jax.jit
    def step(params, state, *batch):
        losses, grads = dbmtl.value_and_task_grads(loss_fn, labels=labels)(params, *batch)
        updates, state = tx.update(grads, state, params, losses=losses)
        return optax.apply_updates(params, updates), state, losses

    for k in range(20):
        params, state, losses = step(params, state, data["x"][k], data["y0"][k], data["y1"][k])
        np.testing.assert_allclose(losses, data["losses"][k], rtol=1e-5)
        expected = {m: {n: data[f"traj/{m}/{n}"][k] for n in "wb"} for m in modules}
        chex.assert_trees_all_close(params, expected, atol=3e-6)


def reference(gradients, losses, betas, alpha=np.max, eps=1e-8):
    """Algorithm 1 in plain NumPy loops: [steps, T, P], [steps, T], [steps] -> [steps, P]."""
    average = np.zeros_like(gradients[0])
    updates = []
    for g, loss, beta in zip(gradients, losses, betas, strict=True):
        for t in range(len(loss)):
            average[t] = beta * average[t] + (1 - beta) * g[t] / (loss[t] + eps)
        norms = np.array([np.sqrt(np.sum(row**2)) for row in average])
        updates.append(alpha(norms) * sum(average[t] / (norms[t] + eps) for t in range(len(loss))))
    return np.stack(updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("scale", "alpha"),
    [
        ("max", np.max),
        ("min", np.min),
        ("mean", np.mean),
        ("median", np.median),
        (0.7, lambda n: 0.7),
    ],
)
@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4])
def test_every_magnitude_strategy(scale, alpha, num_tasks):
    rng = np.random.default_rng(num_tasks)
    gradients = rng.normal(size=(4, num_tasks, 5)) * 10.0 ** rng.uniform(-2, 2, (num_tasks, 1))
    losses = rng.uniform(0.1, 3, (4, num_tasks))
    tx = dbmtl.db_mtl(num_tasks, 0.5, scale=scale)
    state = tx.init(jnp.zeros(5, jnp.float64))
    for k, expected in enumerate(reference(gradients, losses, [0.5] * 4, alpha)):
        update, state = tx.update(jnp.asarray(gradients[k]), state, losses=jnp.asarray(losses[k]))
        np.testing.assert_allclose(update, expected, rtol=1e-12)


def test_golden_weights():
    gradients = jnp.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    tx = dbmtl.db_mtl(2, beta=0.0, log_losses=False)
    _, state = tx.update(gradients, tx.init(jnp.zeros(3)))
    np.testing.assert_allclose(optax.tree.get(state, "weights"), [1.45297, 1.0], rtol=1e-5)


def test_schedule_counts_from_one():
    """With the step number itself as β's argument, the first average is (1 - β_1) g."""
    seen = dbmtl.task_ema(1, lambda k: 1 / (k + 1.0))
    state = seen.init(jnp.zeros(1))
    gradient = jnp.ones((1, 1))
    for expected in (1 / 2, 1 / 2 / 3 + 2 / 3):
        average, state = seen.update(gradient, state)
        np.testing.assert_allclose(average, [[expected]], rtol=1e-6)


def test_debiased_average_of_a_constant_is_the_constant():
    tx = dbmtl.task_ema(2, dbmtl.inverse_power_schedule(0.9, 0.5), debias=True)
    state = tx.init(jnp.zeros(3))
    gradient = jnp.arange(6.0).reshape(2, 3)
    masks = ([True, True], [False, True], [True, True])
    for mask in masks:
        average, state = tx.update(gradient, state, task_mask=jnp.array(mask))
        np.testing.assert_allclose(average[1], gradient[1], rtol=1e-5)
    np.testing.assert_allclose(average[0], gradient[0], rtol=1e-5)


def test_without_beta_there_is_no_stacked_state():
    params = testing.sample_params()
    state = dbmtl.db_mtl(3, beta=0.0).init(params)
    assert all(leaf.size <= 3 for leaf in jax.tree.leaves(state))
    state = dbmtl.db_mtl(3, beta=0.5).init(params)
    chex.assert_tree_shape_prefix(optax.tree.get(state, "ema"), (3,))


def test_ablation_rows_are_chains():
    """Table 5: the four combinations of the two balancings, against their closed forms."""
    grads, losses = testing.sample_task_grads(3), testing.sample_losses(3)
    g, loss = samplers.flat(grads), np.asarray(losses, np.float64)
    logs = g / loss[:, None]

    def balanced(rows):
        norms = np.linalg.norm(rows, axis=1)
        return norms.max() * (rows / norms[:, None]).sum(0)

    rows = {
        "neither": (dbmtl.sum_tasks(3), g.sum(0)),
        "loss": (optax.chain(dbmtl.scale_by_log_loss(3), dbmtl.sum_tasks(3)), logs.sum(0)),
        "gradient": (dbmtl.balance_magnitudes(3), balanced(g)),
        "both": (
            optax.chain(dbmtl.scale_by_log_loss(3), dbmtl.balance_magnitudes(3)),
            balanced(logs),
        ),
    }
    params = testing.sample_params()
    for name, (tx, expected) in rows.items():
        update, _ = tx.update(grads, tx.init(params), params, losses=losses)
        np.testing.assert_allclose(samplers.flat_update(update), expected, rtol=1e-5, err_msg=name)


def test_db_mtl_is_its_chain():
    chain = optax.chain(
        dbmtl.scale_by_log_loss(3), dbmtl.task_ema(3, 0.9), dbmtl.balance_magnitudes(3)
    )
    whole = dbmtl.db_mtl(3, 0.9)
    params = testing.sample_params()
    states = chain.init(params), whole.init(params)
    for seed in range(3):
        grads, losses = testing.sample_task_grads(3, seed), testing.sample_losses(3, seed)
        a, b = (
            tx.update(grads, state, params, losses=losses)
            for tx, state in zip((chain, whole), states, strict=True)
        )
        chex.assert_trees_all_equal(a[0], b[0])
        states = a[1], b[1]


@settings(deadline=None, max_examples=25)
@given(
    task=st.integers(0, 2),
    factor=st.floats(1e-3, 1e3),
    beta=st.sampled_from([0.0, 0.9]),
    seed=st.integers(0, 100),
)
def test_scaling_a_loss_changes_nothing(task, factor, beta, seed):
    """ℓ_t -> c ℓ_t scales its gradient by c as well; the logarithm takes both out."""
    tx = dbmtl.db_mtl(3, beta)
    params = testing.sample_params()
    grads, losses = testing.sample_task_grads(3, seed), testing.sample_losses(3, seed)
    scaled = jax.tree.map(lambda g: g.at[task].multiply(factor), grads)
    update, _ = tx.update(grads, tx.init(params), params, losses=losses)
    other, _ = tx.update(scaled, tx.init(params), params, losses=losses.at[task].multiply(factor))
    largest = np.abs(samplers.flat_update(update)).max()
    chex.assert_trees_all_close(update, other, atol=3e-4 * largest)


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(4)), seed=st.integers(0, 100))
def test_permuting_tasks_permutes_only_the_state(order, seed):
    tx = dbmtl.db_mtl(4, 0.9)
    params = testing.sample_params()
    order = jnp.array(order)
    state, permuted_state = tx.init(params), tx.init(params)
    for k in range(2):
        grads, losses = testing.sample_task_grads(4, seed + k), testing.sample_losses(4, seed + k)
        update, state = tx.update(grads, state, params, losses=losses)
        permuted, permuted_state = tx.update(
            jax.tree.map(lambda g: g[order], grads), permuted_state, params, losses=losses[order]
        )
    largest = np.abs(samplers.flat_update(update)).max()
    chex.assert_trees_all_close(update, permuted, atol=1e-5 * largest)
    for field in ("ema", "norms", "weights"):
        expected = jax.tree.map(lambda x: x[order], optax.tree.get(state, field))
        chex.assert_trees_all_close(optax.tree.get(permuted_state, field), expected, rtol=1e-5)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), num_tasks=st.sampled_from([2, 3]))
def test_every_normalised_row_has_norm_alpha(seed, num_tasks):
    tx = dbmtl.balance_magnitudes(num_tasks)
    grads = testing.sample_task_grads(num_tasks, seed)
    _, state = tx.update(grads, tx.init(testing.sample_params()))
    norms = np.linalg.norm(samplers.flat(grads), axis=1)
    np.testing.assert_allclose(optax.tree.get(state, "norms"), norms, rtol=1e-5)
    magnitudes = optax.tree.get(state, "weights") * norms
    np.testing.assert_allclose(magnitudes, norms.max(), rtol=1e-4)


def test_one_task_is_log_gradient_descent_with_an_average():
    tx = dbmtl.db_mtl(1, 0.9)
    plain = optax.ema(0.9, debias=False)
    params = testing.sample_params()
    state, plain_state = tx.init(params), plain.init(params)
    for seed in range(3):
        grads, losses = testing.sample_task_grads(1, seed), testing.sample_losses(1, seed)
        update, state = tx.update(grads, state, params, losses=losses)
        logs = jax.tree.map(lambda g, loss=losses: g[0] / loss[0], grads)
        expected, plain_state = plain.update(logs, plain_state)
        chex.assert_trees_all_close(update, expected, rtol=1e-5)


def test_tasks_own_parameters_get_their_plain_log_gradient():
    params = {"shared": jnp.zeros(3), "heads": [jnp.zeros(2), {"w": jnp.zeros(4)}]}
    labels = {"shared": "shared", "heads": [0, 1]}
    grads = {
        "shared": jnp.arange(6.0).reshape(2, 3) + 1,
        "heads": [jnp.ones(2), {"w": jnp.full(4, 3.0)}],
    }
    losses = jnp.array([0.5, 4.0])
    for labels_ in (labels, lambda p: labels):
        tx = dbmtl.db_mtl(2, 0.9, labels=labels_)
        state = tx.init(params)
        for _ in range(2):  # the second step shows that no average acts on them
            update, state = tx.update(grads, state, params, losses=losses)
        chex.assert_trees_all_close(update["heads"], [jnp.full(2, 2.0), {"w": jnp.full(4, 0.75)}])
    chex.assert_shape(optax.tree.get(state, "ema")["shared"], (2, 3))
    expected = reference(np.stack([grads["shared"]] * 2), np.stack([losses] * 2), [0.9, 0.9])[1]
    np.testing.assert_allclose(update["shared"], expected, rtol=1e-5)


def test_a_row_that_never_came_has_nothing_to_debias():
    """1 - Π β is zero then."""
    tx = dbmtl.task_ema(2, 0.9, debias=True)
    grads, state = jnp.array([[2.0, 4.0], [6.0, 8.0]]), tx.init(jnp.zeros(2))
    found, state = tx.update(grads, state, task_mask=jnp.array([True, False]))
    np.testing.assert_allclose(found, [[2, 4], [0, 0]], rtol=1e-5)
    found, _ = tx.update(grads, state)
    np.testing.assert_allclose(found, grads, rtol=1e-5)


def test_an_average_whose_rate_is_an_array_is_kept():
    """Its value may be traced, and change from step to step."""
    assert dbmtl.task_ema(2, jnp.array(0.0)).init(jnp.zeros(1)).ema.shape == (2, 1)


@pytest.mark.usefixtures("x64")
def test_a_state_in_single_precision_stays_so():
    """Though the schedule and the gradients are in double precision."""
    tx = dbmtl.task_ema(2, dbmtl.inverse_power_schedule(0.9, 0.5), debias=True)
    state = tx.init(jnp.zeros(3, jnp.float32))
    _, after = tx.update(jnp.ones((2, 3)), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)


def test_the_dtype_of_the_average_may_be_chosen():
    for factory in (dbmtl.db_mtl, dbmtl.task_ema):
        state = factory(2, ema_dtype=jnp.bfloat16).init(jnp.zeros(3))
        assert optax.tree.get(state, "ema").dtype == jnp.bfloat16


def test_the_epsilon_is_in_the_logarithm_and_in_the_normalisation():
    tx = dbmtl.db_mtl(2, 0.0, eps=0.5)
    grads = jnp.array([[3.0, 0.0], [0.0, 4.0]])
    found, _ = tx.update(grads, tx.init(grads[0]), losses=jnp.array([0.5, 1.5]))
    np.testing.assert_allclose(found, [3 * 3 / 3.5, 3 * 2 / 2.5], rtol=1e-6)


def test_db_mtl_without_bias_begins_as_without_an_average():
    grads, losses = jnp.array([[3.0, 0.0], [0.0, 8.0]]), jnp.array([1.0, 2.0])
    found, expected = (
        tx.update(grads, tx.init(grads[0]), losses=losses)[0]
        for tx in (dbmtl.db_mtl(2, 0.9, debias=True), dbmtl.db_mtl(2, 0.0))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
