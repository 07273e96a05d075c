"""`wrt="representation"`: methods read ∂ℓ_t/∂z, and pull back once what they make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import dbmtl_jax as dbmtl
from dbmtl_jax import METHODS

T = 3
REFUSING = {"excess_mtl", "moco", "modo", "mtadam", "meta_balance"}
AVERAGING = {"db_mtl"}
LABELS = ("shared", list(range(T)))


def encode(params, x):
    hidden = jnp.tanh(x @ params["v"])
    return {"a": hidden @ params["w"], "b": jnp.tanh(hidden)}


def head_of(task):
    def head(params, z, x):
        error = z["a"] @ params - z["b"][:, task]
        return 10.0**task * jnp.mean(error**2)

    return head


HEADS = [head_of(task) for task in range(T)]


@pytest.fixture(scope="module")
def problem():
    keys = jax.random.split(jax.random.key(0), 3 + T)
    encoder = {"v": jax.random.normal(keys[0], (4, 5)), "w": jax.random.normal(keys[1], (5, 6))}
    heads = [jax.random.normal(keys[3 + t], (6,)) for t in range(T)]
    return (encoder, heads), jax.random.normal(keys[2], (7, 4))


def gradients(params, x, **options):
    return dbmtl.encoder_value_and_task_grads(encode, HEADS, wrt="representation", **options)(
        params, x
    )


def by_hand(params, x):
    """The losses, ∂ℓ_t/∂z stacked, and the pullback through the encoder, by `jax.grad` alone."""
    z, pullback = jax.vjp(lambda p: encode(p, x), params[0])
    losses = jnp.stack([head(own, z, x) for head, own in zip(HEADS, params[1], strict=True)])
    rows = [
        jax.grad(head, argnums=1)(own, z, x) for head, own in zip(HEADS, params[1], strict=True)
    ]
    return losses, jax.tree.map(lambda *r: jnp.stack(r), *rows), lambda c: pullback(c)[0], z


@pytest.mark.parametrize("name", sorted(set(METHODS) - REFUSING - AVERAGING))
def test_the_update_is_the_pullback_of_what_the_method_makes_of_the_representations_gradients(
    name, problem
):
    params, x = problem
    tx, of_z = METHODS[name](T, labels=LABELS), METHODS[name](T)
    losses, rows, pullback, z = by_hand(params, x)

    @jax.jit
    def step(state):
        losses, grads = gradients(params, x)
        return tx.update(grads, state, params, losses=losses)

    state, expected_state = tx.init(params), of_z.init(z)
    for _ in range(2):
        (updates, heads), state = step(state)
        merged, expected_state = of_z.update(rows, expected_state, z, losses=losses)
        for found, expected in zip(
            jax.tree.leaves(updates), jax.tree.leaves(pullback(merged)), strict=True
        ):
            np.testing.assert_allclose(
                found, expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max()
            )
    # STCH's weights of losses far below the largest are zero.
    assert all(np.any(np.asarray(head)) for head in heads) or name == "stch"


def test_heads_are_as_with_gradients_of_the_parameters(problem):
    params, x = problem
    tx = dbmtl.db_mtl(T, labels=LABELS)
    losses, exact = dbmtl.encoder_value_and_task_grads(encode, HEADS)(params, x)
    expected, _ = tx.update(exact, tx.init(params), params, losses=losses)
    found, _ = tx.update(gradients(params, x)[1], tx.init(params), params, losses=losses)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("average", ["gradients", "norms"])
@pytest.mark.parametrize("debias", [False, True])
def test_db_mtl_averages_the_norms(average, debias, problem):
    """n̂ ← β n̂ + (1 - β) n of the norms of ∂log ℓ_t/∂z, debiased; the sum is of this step's."""
    params, x = problem
    beta = 0.75
    tx = dbmtl.db_mtl(T, beta, average=average, debias=debias, labels=LABELS)
    assert (tx.init(params).parts[1].ema is None) == (average == "norms")
    state, norms = tx.init(params), np.zeros(T)
    for k in range(3):
        batch = x + k
        losses, rows, pullback, _ = by_hand(params, batch)
        given, grads = gradients(params, batch)
        (updates, _), state = tx.update(grads, state, params, losses=given)
        logs = {key: np.asarray(r) / np.reshape(losses, (T, 1, 1)) for key, r in rows.items()}
        now = np.sqrt(sum((leaf**2).sum(axis=(1, 2)) for leaf in logs.values()))
        norms = beta * norms + (1 - beta) * now
        shown = norms / (1 - beta ** (k + 1))
        weights = shown.max() / shown
        expected = pullback({k: jnp.einsum("t,tij->ij", weights, r) for k, r in logs.items()})
        np.testing.assert_allclose(dbmtl.diagnostics(state).norms, shown, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


def test_the_parts_of_db_mtl_in_a_chain_are_db_mtl(problem):
    params, x = problem
    whole = dbmtl.db_mtl(T, 0.5, labels=LABELS)
    parts = (dbmtl.scale_by_log_loss, lambda n, labels: dbmtl.task_ema(n, 0.5, labels=labels))
    chain = dbmtl.chain(
        *(part(T, labels=LABELS) for part in parts), dbmtl.balance_magnitudes(T, labels=LABELS)
    )
    states = whole.init(params), chain.init(params)
    for k in range(2):
        losses, grads = gradients(params, x + k)
        expected, first = whole.update(grads, states[0], params, losses=losses)
        found, second = chain.update(grads, states[1], params, losses=losses)
        states = first, second
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(REFUSING))
def test_methods_that_need_the_parameters_refuse_by_name(name, problem):
    params, x = problem
    tx = METHODS[name](T, labels=LABELS)
    losses, grads = gradients(params, x)
    with pytest.raises(TypeError, match=f"{name} needs gradients of the parameters"):
        tx.update(grads, tx.init(params), params, losses=losses)


@pytest.mark.parametrize(
    "tx",
    [
        dbmtl.multi_steps(dbmtl.ew(T, labels=LABELS), 2),
        dbmtl.grad_vac(T, per_leaf=True, labels=LABELS),
    ],
    ids=["multi_steps", "grad_vac per leaf"],
)
def test_what_adds_or_divides_gradients_refuses(tx, problem):
    params, x = problem
    losses, grads = gradients(params, x)
    with pytest.raises(TypeError, match="representation"):
        tx.update(grads, tx.init(params), params, losses=losses)


def test_measured_parameters_and_a_representation_exclude_each_other(problem):
    params, x = problem
    tx = dbmtl.mgda(T, labels=LABELS, measured=({"v": False, "w": True}, False))
    losses, grads = gradients(params, x)
    with pytest.raises(TypeError, match="measured: mgda measures parameters"):
        tx.update(grads, tx.init(params), params, losses=losses)


def test_scales_of_rows_are_not_those_of_heads(problem):
    params, x = problem
    tx = dbmtl.normalize_rows(T, labels=LABELS)
    _, grads = gradients(params, x)
    found = tx.update(grads, tx.init(params), params)[0].stacked()
    norms = np.sqrt(
        [
            sum(np.sum(leaf[t] ** 2) for leaf in jax.tree.leaves(by_hand(params, x)[1]))
            for t in range(T)
        ]
    )
    rows, heads = grads.stacked()
    for leaf, row in zip(jax.tree.leaves(found[0]), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(leaf, row / norms[:, None, None], rtol=1e-4, atol=1e-6)
    for own, expected in zip(found[1], heads, strict=True):
        np.testing.assert_allclose(own, expected, rtol=1e-6)


@jax.custom_vjp
def spoilt(x):
    """The identity, whose derivative is NaN in every direction but zero."""
    return x


spoilt.defvjp(lambda x: (x, None), lambda _, ct: (jnp.where(ct != 0, jnp.nan, 0.0),))


@pytest.mark.parametrize("name", ["mgda", "db_mtl", "ew", "grad_drop"])
def test_a_task_whose_gradient_is_spoilt_within_the_encoder_is_found_and_named(name):
    """∂ℓ_t/∂z is finite for both tasks, and the pullback of one of them is not.

    Gradient Sign Dropout merges before it pulls back, so that either task may be the cause.
    """
    first = name != "grad_drop"

    def encode(params, x):
        return {"good": params["w"] * x, "bad": spoilt(params["w"])}

    heads = [lambda p, z, x: jnp.sum(p * z["good"]), lambda p, z, x: jnp.sum(p * z["bad"])]
    params = ({"w": jnp.ones(2)}, [jnp.ones(()), jnp.ones(())])
    tx = METHODS[name](2, labels=("shared", [0, 1]))

    @jax.jit
    def step(state, x):
        fun = dbmtl.encoder_value_and_task_grads(encode, heads, wrt="representation")
        losses, grads = fun(params, x)
        return tx.update(grads, state, params, losses=losses)

    updates, state = step(tx.init(params), jnp.array([1.0, 2.0]))
    seen = dbmtl.diagnostics(state)
    np.testing.assert_array_equal(seen.present, [first, False])
    np.testing.assert_array_equal(seen.skipped, [not first, 1])
    assert np.all(np.isfinite(updates[0]["w"]))
    assert np.any(np.asarray(updates[0]["w"]) != 0) == first
    np.testing.assert_array_equal(updates[1][1], 0)


def test_named_heads_and_frozen_parameters(problem):
    (encoder, heads), x = problem
    names = ["zeta", "alpha", "mid"]
    params = (encoder, dict(zip(names, heads, strict=True)))
    labels = ({"v": "frozen", "w": "shared"}, {name: name for name in names})
    tx = dbmtl.chain(dbmtl.mgda(names, labels=labels), optax.sgd(1.0))
    fun = dbmtl.encoder_value_and_task_grads(
        encode, dict(zip(names, HEADS, strict=True)), labels=labels, wrt="representation"
    )
    losses, grads = fun(params, x)
    (updates, of_heads), _ = tx.update(grads, tx.init(params), params, losses=losses)
    plain = dbmtl.mgda(T, labels=LABELS)
    given, other = gradients((encoder, heads), x)
    (expected, _), _ = plain.update(other, plain.init((encoder, heads)), losses=given)
    np.testing.assert_array_equal(updates["v"], 0)
    np.testing.assert_allclose(updates["w"], -expected["w"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([losses[name] for name in names], given, rtol=1e-6)
    assert set(of_heads) == set(names)


@pytest.mark.parametrize("stream", [False, True])
def test_frozen_parameters_of_encoder_and_heads(stream, problem):
    params, x = problem
    labels = ({"v": "frozen", "w": "shared"}, ["frozen", 1, 2])
    fun = dbmtl.encoder_value_and_task_grads(encode, HEADS, labels=labels, stream=stream)
    tx = dbmtl.db_mtl(T, labels=labels)
    losses, grads = fun(params, x)
    updates, _ = tx.update(grads, tx.init(params), params, losses=losses)
    stacked = grads.stacked() if stream else grads
    _, whole = dbmtl.encoder_value_and_task_grads(encode, HEADS)(params, x)
    np.testing.assert_allclose(stacked[0]["w"], whole[0]["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stacked[1][1], whole[1][1], rtol=1e-5)
    for zero in (stacked[0]["v"], stacked[1][0], updates[0]["v"], updates[1][0]):
        np.testing.assert_array_equal(zero, 0)
    assert stacked[0]["v"].shape == params[0]["v"].shape


@pytest.mark.parametrize(
    ("labels", "found"),
    [(({"v": 0, "w": "shared"}, [0, 1, 2]), "'v'"), (("shared", [0, 2, 1]), "found 2")],
)
def test_other_labels_are_refused(labels, found, problem):
    params, x = problem
    with pytest.raises(ValueError, match=found):
        dbmtl.encoder_value_and_task_grads(encode, HEADS, labels=labels)(params, x)


def test_losses_that_differ_from_device_to_device_are_refused(problem):
    """One device is enough to tell."""
    params, x = problem
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
    divided = jax.shard_map(
        lambda x: gradients(params, x)[0], mesh=mesh, in_specs=P("data"), out_specs=P()
    )
    with pytest.raises(ValueError, match="losses that differ over the axes data"):
        jax.eval_shape(divided, x)


def test_an_unknown_wrt_is_refused():
    with pytest.raises(ValueError, match="wrt: expected one of 'parameters', 'representation'"):
        dbmtl.encoder_value_and_task_grads(encode, HEADS, wrt="z")


def test_stacked_gives_the_gradients_of_the_parameters(problem):
    params, x = problem
    _, expected = dbmtl.encoder_value_and_task_grads(encode, HEADS)(params, x)
    _, grads = gradients(params, x)
    for a, b in zip(jax.tree.leaves(grads.stacked()), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("form", ["representation", "refreshed"])
def test_a_representation_in_half_precision(dtype, form, problem):
    """float32 parameters, computed in half precision."""
    params, x = problem
    labels = ("shared", [0, 1])

    def encode(p, x):
        return jnp.tanh(x @ p["v"]).astype(dtype)

    heads = [lambda p, z, x: jnp.mean((z @ p.astype(dtype)).astype(jnp.float32) ** 2)] * 2
    both = (params[0], [jnp.ones(5), jnp.full(5, 0.5)])
    options = {"wrt": "representation"} if form == "representation" else {"stream": True}
    tx = dbmtl.db_mtl(2, average="norms", labels=labels)
    tx = tx if form == "representation" else dbmtl.refresh_weights(tx, 2)
    losses, grads = dbmtl.encoder_value_and_task_grads(encode, heads, **options)(both, x)
    updates, state = tx.update(grads, tx.init(both), both, losses=losses)
    assert updates[0]["v"].dtype == jnp.float32
    assert np.all(np.isfinite(updates[0]["v"]))
    np.testing.assert_array_equal(dbmtl.diagnostics(state).skipped, 0)


def test_a_representation_with_integers_is_named():
    heads = [lambda p, z, x: jnp.sum(p * z[0])] * 2
    params = (jnp.ones(2), [jnp.ones(()), jnp.ones(())])

    def encode(p, x):
        return p * x, jnp.arange(3)

    _, (grads, _) = dbmtl.encoder_value_and_task_grads(encode, heads)(params, jnp.ones(2))
    np.testing.assert_array_equal(grads, 1)  # with regard to the parameters it does not matter
    fun = dbmtl.encoder_value_and_task_grads(encode, heads, wrt="representation")
    with pytest.raises(TypeError, match=r"what the encoder returns\[1\]: expected a floating"):
        fun(params, jnp.ones(2))
