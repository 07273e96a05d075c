"""Rows do not touch each other: row t is what `jax.grad` gives for loss t alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl

T = 4
BAD = 2
PARAMS = {
    "encoder": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4),
    "scale": jnp.array(0.5),
    "heads": [jnp.linspace(0.1, 1.0, 4) * (t + 1) for t in range(T)],
    "pair": jnp.ones(4),  # of tasks 0 and 1 alone, and yet labelled shared
}
X = jnp.linspace(-1.0, 2.0, 15).reshape(5, 3)
MODES = [
    {"mode": "unroll"},
    {"mode": "loop"},
    {"mode": "vmap"},
    {"mode": "loop", "chunk_size": 2},
    {"stream": True, "mode": "unroll"},
    {"stream": True, "mode": "loop"},
]


def root_of_zero(z, head):
    """0.5 / √0 · 0: the derivative is NaN, the value is not."""
    return jnp.sum(jnp.sqrt(0 * z @ head)) + jnp.sum(z @ head)


def zero_over_zero(z, head):
    return jnp.sum((0 * z @ head) / (0 * z @ head))


def log_of_zero(z, head):
    return jnp.sum(jnp.log(0 * z @ head))


def missing_target(z, head):
    return jnp.mean((z @ head - jnp.nan) ** 2)


def huge(z, head):
    return jnp.sum(jnp.exp(1e4 * z @ head))


ILLS = [root_of_zero, zero_over_zero, log_of_zero, missing_target, huge]


def encode(params, x):
    return jnp.tanh(x @ params["encoder"]) * params["scale"]


def loss(params, x, task, ill):
    """Of one task alone."""
    z, head = encode(params, x), params["heads"][task]
    if task < 2:
        z = z * params["pair"][None]
    if task == BAD:
        return ill(z, head)
    return jnp.mean((z @ head - task) ** 2)


def losses(params, x, ill):
    z = encode(params, x)
    paired = z * params["pair"][None]
    healthy = [jnp.mean(((paired if t < 2 else z) @ params["heads"][t] - t) ** 2) for t in range(T)]
    return [ill(z, params["heads"][t]) if t == BAD else healthy[t] for t in range(T)]


def at_set(values):
    array = jnp.zeros(T)
    for t, value in enumerate(values):
        array = array.at[t].set(value)
    return array


def scanned(fun):
    """Every loss summed by a `lax.scan` over the rows of x, all in one carry."""

    def losses(params, x, ill):
        def body(sums, row):
            found = fun(params, row[None], ill)
            return [s + value for s, value in zip(sums, found, strict=True)], None

        return jax.lax.scan(body, [0.0] * T, x)[0]

    return losses


@jax.custom_vjp
def identity(z):
    return z


identity.defvjp(lambda z: (z, None), lambda _, g: (g,))


def behind_custom_vjp(params, x, ill):
    return losses(params | {"encoder": identity(params["encoder"])}, x, ill)


FORMS = {
    "list": losses,
    "tuple": lambda *a: tuple(losses(*a)),
    "stack": lambda *a: jnp.stack(losses(*a)),
    "array": lambda *a: jnp.array(losses(*a)),
    "concatenate": lambda *a: jnp.concatenate([value[None] for value in losses(*a)]),
    "at set": lambda *a: at_set(losses(*a)),
    "jit": jax.jit(losses, static_argnums=2),
    "jit of an array": jax.jit(lambda *a: at_set(losses(*a)), static_argnums=2),
    "checkpoint": jax.checkpoint(losses, static_argnums=2),
    "scan": scanned(losses),
    "custom_vjp": behind_custom_vjp,
    "cond": lambda p, x, ill: jax.lax.cond(
        jnp.sum(x) > 0, lambda: losses(p, x, ill), lambda: [0.0] * T
    ),
}


def expected_rows(form, ill):
    """A loop of `jax.grad`."""
    rows = []
    for task in range(T):
        of_row = functools.partial(loss, task=task, ill=ill)
        if form == "scan":
            rows.append(jax.grad(lambda p, f=of_row: sum(f(p, row[None]) for row in X))(PARAMS))
        else:
            rows.append(jax.grad(of_row)(PARAMS, X))
    return jax.tree.map(lambda *r: jnp.stack(r), *rows)


def assert_rows(found, expected):
    for (path, row), other in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
    ):
        where = jax.tree_util.keystr(path)
        np.testing.assert_array_equal(np.isfinite(row), np.isfinite(other), err_msg=where)
        row, other = np.nan_to_num(row), np.nan_to_num(other)
        np.testing.assert_allclose(row, other, rtol=1e-4, atol=1e-5, err_msg=where)


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_each_loss_alone(form):
    """In every form in which losses come, with and without compilation."""
    grads_fun = dbmtl.value_and_task_grads(lambda p, x: FORMS[form](p, x, root_of_zero))
    expected = expected_rows(form, root_of_zero)
    for call in (grads_fun, jax.jit(grads_fun)):
        _, grads = call(PARAMS, X)
        assert_rows(grads, expected)


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("form", ["list", "at set", "checkpoint"])
def test_rows_are_isolated_in_every_mode(form, options):
    def fun(params, x):
        return FORMS[form](params, x, root_of_zero)

    @jax.jit
    def rows(params, x):
        _, grads = dbmtl.value_and_task_grads(fun, **options)(params, x)
        return grads.stacked() if "stream" in options else grads

    assert_rows(rows(PARAMS, X), expected_rows(form, root_of_zero))


@pytest.mark.parametrize("ill", ILLS)
def test_rows_are_isolated_from_every_ill(ill):
    _, grads = jax.jit(dbmtl.value_and_task_grads(lambda p, x: losses(p, x, ill)))(PARAMS, X)
    assert_rows(grads, expected_rows("list", ill))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ill", ILLS)
@pytest.mark.parametrize("name", ["db_mtl", "pcgrad", "ew", "uw"])
def test_methods_name_the_culprit_and_go_on_with_the_others(name, ill, stream):
    tx = dbmtl.METHODS[name](T)

    @functools.partial(jax.jit, static_argnums=0)
    def step(mask_it, state):
        values, grads = dbmtl.value_and_task_grads(
            lambda p: losses(p, X, ill), stream=stream and not mask_it
        )(PARAMS)
        mask = jnp.arange(T) != BAD if mask_it else None
        return tx.update(grads, state, PARAMS, losses=values, task_mask=mask)

    found, state = step(False, tx.init(PARAMS))
    expected, _ = step(True, tx.init(PARAMS))
    seen = dbmtl.diagnostics(state)
    np.testing.assert_array_equal(seen.skipped, np.arange(T) == BAD)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_rows_of_arithmetic_on_an_array_of_losses():
    """Weights, masks and constants behind `jnp.stack` are seen through."""

    def fun(params, x):
        stacked = jnp.stack(losses(params, x, root_of_zero))
        weighted = stacked * jnp.arange(1.0, T + 1) / 2 + 1
        return jnp.where(jnp.arange(T) == 3, 2 * weighted, -weighted)

    _, grads = jax.jit(dbmtl.value_and_task_grads(fun))(PARAMS, X)
    expected = expected_rows("list", root_of_zero)
    factors = jnp.array([-0.5, -1.0, -1.5, 4.0])
    scaled = jax.tree.map(lambda g: g * factors.reshape(-1, *[1] * (g.ndim - 1)), expected)
    assert_rows(grads, scaled)


def test_losses_that_are_added_to_an_entry():
    def fun(w):
        first = jnp.zeros(2).at[0].set(jnp.sum(w))
        return first.at[0].add(jnp.sum(2 * w)).at[1].add(jnp.sum(w**2))

    _, grads = dbmtl.value_and_task_grads(fun)(jnp.ones(2))
    np.testing.assert_array_equal(grads, [[3, 3], [2, 2]])


def test_losses_at_positions_that_are_traced():
    """Nobody can tell which entry is whose, and the rows are right."""

    @jax.jit
    def rows(w, i):
        def fun(w):
            return jnp.zeros(2).at[i].set(jnp.sum(w)).at[1 - i].set(jnp.sum(w**2))

        return dbmtl.value_and_task_grads(fun)(w)[1]

    np.testing.assert_array_equal(rows(jnp.ones(2), 1), [[2, 2], [1, 1]])


def test_a_loss_that_reads_no_parameter_has_a_row_of_zeros():
    def fun(w):
        return [jnp.sum(w), jnp.array(3.0)]

    _, grads = dbmtl.value_and_task_grads(fun)(jnp.ones(2))
    np.testing.assert_array_equal(grads, [[1, 1], [0, 0]])
    _, pending = dbmtl.value_and_task_grads(fun, stream=True)(jnp.ones(2))
    np.testing.assert_allclose(pending.rows().gramian(), [[2, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_a_shared_parameter_that_no_loss_reads_has_rows_of_zeros(options):
    labels = {"w": "shared", "own": [0, 1]}
    params = {"w": jnp.ones(3), "own": [jnp.ones(2), jnp.ones(2)]}
    fun = dbmtl.value_and_task_grads(
        lambda p: [jnp.sum(own**2) for own in p["own"]], labels=labels, **options
    )
    losses, grads = fun(params)
    rows = grads.stacked() if "stream" in options else grads
    np.testing.assert_array_equal(rows["w"], np.zeros((2, 3)))
    np.testing.assert_array_equal(rows["own"], 2)
    for name in ("ew", "db_mtl", "pcgrad"):
        tx = dbmtl.METHODS[name](2, labels=labels)
        updates, _ = tx.update(grads, tx.init(params), params, losses=losses)
        np.testing.assert_array_equal(updates["w"], 0)
        assert np.all(np.asarray(updates["own"]) > 0)


def test_the_same_loss_twice():
    def fun(w):
        value = jnp.sum(w**2)
        return [value, value, 2 * value]

    _, grads = jax.jit(dbmtl.value_and_task_grads(fun))(jnp.ones(2))
    np.testing.assert_array_equal(grads, [[2, 2], [2, 2], [4, 4]])


def test_an_identity_is_a_loss():
    _, grads = dbmtl.value_and_task_grads(lambda w: [w["a"], w["b"]])({"a": 1.0, "b": 2.0})
    np.testing.assert_array_equal(grads["a"], [1, 0])
    np.testing.assert_array_equal(grads["b"], [0, 1])


def test_the_shared_part_runs_once_for_a_weighted_sum():
    """A loss balancer on gradients that stream pulls the encoder back once."""
    ran = []

    @jax.custom_vjp
    def counted(z):
        return z

    def backward(_, g):
        jax.debug.callback(lambda: ran.append(None))
        return (g,)

    counted.defvjp(lambda z: (z, None), backward)

    def fun(params):
        z = counted(encode(params, X))
        return [jnp.sum(z @ head) + 9 for head in params["heads"]]

    tx = dbmtl.uw(T)

    @jax.jit
    def step(state):
        values, grads = dbmtl.value_and_task_grads(fun, stream=True)(PARAMS)
        return tx.update(grads, state, PARAMS, losses=values)

    jax.block_until_ready(step(tx.init(PARAMS)))
    jax.effects_barrier()
    assert len(ran) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("as_array", [False, True])
def test_a_leaf_labelled_as_one_tasks_that_another_loss_reads_is_refused(as_array, stream):
    def fun(p):
        values = [jnp.sum(p["w"]), jnp.sum(p["w"] * p["own"]), jnp.sum(p["own"] ** 2)]
        return jnp.stack(values) if as_array else values

    params = {"w": jnp.ones(3), "own": jnp.ones(3)}
    engine = dbmtl.value_and_task_grads(fun, labels={"w": "shared", "own": 1}, stream=stream)
    message = r"params\['own'\]: expected that the loss of task 1 alone .* found that of task 2"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda p: engine(p)[0], params)


def test_reading_without_a_derivative_is_no_use_of_a_leaf():
    def fun(p):
        stopped = jax.lax.stop_gradient(p["own"])
        return [jnp.sum(p["w"] * stopped), jnp.sum(p["w"] * p["own"])]

    params = {"w": jnp.ones(3), "own": jnp.full(3, 2.0)}
    engine = dbmtl.value_and_task_grads(fun, labels={"w": "shared", "own": 1})
    _, grads = engine(params)
    np.testing.assert_array_equal(grads["own"], 1)
    np.testing.assert_array_equal(grads["w"], 2)


@pytest.mark.parametrize("taken", ["no", "gather", "split", "iteration"])
def test_where_an_array_of_losses_hides_what_is_whose_own_leaves_are_right(taken):
    """One expression for all losses: a head each, side by side in one matrix."""

    def fun(p, x):
        outputs = jnp.tanh(x @ p["w"]) @ jnp.stack(p["heads"], axis=1)
        if taken == "gather":
            return [jnp.mean((jnp.take(outputs, jnp.array([t]), 1) - 1) ** 2) for t in range(2)]
        if taken == "iteration":  # a primitive of its own in JAX 0.12
            return [jnp.mean((row - 1) ** 2) for row in outputs.T]
        if taken == "split":
            return [jnp.mean((output - 1) ** 2) for output in jnp.split(outputs, 2, axis=1)]
        return jnp.mean((outputs - 1) ** 2, axis=0)

    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4), "heads": [jnp.ones(4), -jnp.ones(4)]}
    labels = {"w": "shared", "heads": [0, 1]}
    for stream in (False, True):
        _, grads = dbmtl.value_and_task_grads(fun, labels=labels, stream=stream)(params, X)
        grads = grads.stacked() if stream else grads
        for task in range(2):
            expected = jax.grad(lambda p, t=task: fun(p, X)[t])(params)
            np.testing.assert_allclose(grads["heads"][task], expected["heads"][task], rtol=1e-5)
            np.testing.assert_allclose(grads["w"][task], expected["w"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
def test_a_head_that_does_not_read_an_infinite_part_of_the_representation(stream):
    """√k at k = 0: `jax.grad` of the first head's loss alone is finite, as it does not read it."""

    def encode(params, x):
        return {"u": params["w"] * x, "v": jnp.sqrt(params["k"]) + params["w"]}

    heads = [lambda p, z, x: p * jnp.sum(z["u"] ** 2), lambda p, z, x: jnp.sum(p * z["v"])]
    params = ({"w": jnp.array([1.0, 2.0]), "k": jnp.array(0.0)}, [jnp.array(1.0), jnp.array(3.0)])
    fun = dbmtl.encoder_value_and_task_grads(encode, heads, stream=stream)
    _, grads = fun(params, jnp.ones(2))
    rows = (grads.stacked() if stream else grads)[0]
    np.testing.assert_array_equal(rows["k"], [0, jnp.inf])
    np.testing.assert_array_equal(rows["w"], [[2, 4], [3, 3]])
