"""The engine against a plain loop of `jax.grad`, in every mode."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.engine._task_map import Chosen, Way, map_tasks

MODES = [
    {"mode": "auto"},
    {"mode": "unroll"},
    {"mode": "loop"},
    {"mode": "vmap"},
    {"chunk_size": 2},
    {"chunk_size": 1},
    {"chunk_size": 100},
]
NUM_TASKS = 3
LABELS = {"encoder": "shared", "heads": list(range(NUM_TASKS))}


def init(dtype, num_tasks=NUM_TASKS):
    keys = iter(jax.random.split(jax.random.key(0), 2 + num_tasks))
    normal = functools.partial(jax.random.normal, dtype=dtype)
    return {
        "encoder": {"w": normal(next(keys), (4, 5)), "b": normal(next(keys), (5,))},
        "heads": [normal(next(keys), (5, 2)) for _ in range(num_tasks)],
    }


def batch(dtype, *leading):
    x, y = jax.random.normal(jax.random.key(7), (2, *leading, 6, 4), dtype)
    return x, y[..., :2]


def encode(params, x, y):
    del y
    return jnp.tanh(x @ params["w"] + params["b"][None])


def head_loss(params, z, x, y, task=0):
    del x
    return jnp.mean(jnp.abs(z @ params - y) ** (2 + task))


def losses_fn(params, x, y):
    z = encode(params["encoder"], x, y)
    return [head_loss(h, z, x, y, t) for t, h in enumerate(params["heads"])]


def loop_of_grads(params, x, y):
    """The definition: T times `jax.grad`, each on its own."""
    num_tasks = len(params["heads"])
    grads = [jax.grad(lambda p, t=t: losses_fn(p, x, y)[t])(params) for t in range(num_tasks)]
    encoder = jax.tree.map(lambda *rows: jnp.stack(rows), *[g["encoder"] for g in grads])
    return {"encoder": encoder, "heads": [grads[t]["heads"][t] for t in range(num_tasks)]}


def assert_same(actual, expected):
    precision = 1e-12 if jnp.result_type(*jax.tree.leaves(expected)) == jnp.float64 else 1e-6
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    chex.assert_trees_all_close(actual, expected, atol=precision * scale, rtol=precision)


@pytest.fixture(params=[jnp.float32, jnp.float64], ids=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == jnp.float64):
        yield request.param


@pytest.mark.parametrize("options", MODES, ids=str)
def test_value_and_task_grads(dtype, options):
    params, data = init(dtype), batch(dtype)
    fun = dbmtl.value_and_task_grads(losses_fn, labels=LABELS, **options)
    losses, grads = jax.jit(fun)(params, *data)
    assert_same(losses, jnp.stack(losses_fn(params, *data)))
    assert_same(grads, loop_of_grads(params, *data))


@pytest.mark.parametrize("options", MODES, ids=str)
def test_encoder_value_and_task_grads(dtype, options):
    params, data = init(dtype), batch(dtype)
    heads = [functools.partial(head_loss, task=t) for t in range(NUM_TASKS)]
    fun = dbmtl.encoder_value_and_task_grads(encode, heads, **options)
    losses, grads = jax.jit(fun)((params["encoder"], params["heads"]), *data)
    expected = loop_of_grads(params, *data)
    assert_same(losses, jnp.stack(losses_fn(params, *data)))
    assert_same(grads, (expected["encoder"], expected["heads"]))


@pytest.mark.parametrize("options", MODES, ids=str)
def test_per_task_value_and_grads(dtype, options):
    params, data = init(dtype)["encoder"], batch(dtype, NUM_TASKS)

    def loss_fn(p, x, y):
        return jnp.mean((encode(p, x, y)[:, :2] - y) ** 2)

    losses, grads = jax.jit(dbmtl.per_task_value_and_grads(loss_fn, **options))(params, *data)
    rows = [jax.value_and_grad(loss_fn)(params, data[0][t], data[1][t]) for t in range(NUM_TASKS)]
    assert_same((losses, grads), jax.tree.map(lambda *r: jnp.stack(r), *rows))


def test_per_task_functions_with_heads(dtype):
    params, (x, y) = init(dtype), batch(dtype, NUM_TASKS)

    def loss_fn(p, x, y, task):
        return losses_fn(p, x, y)[task]

    functions = [functools.partial(loss_fn, task=t) for t in range(NUM_TASKS)]
    losses, grads = jax.jit(dbmtl.per_task_value_and_grads(functions, labels=LABELS))(params, x, y)
    for t in range(NUM_TASKS):
        value, expected = jax.value_and_grad(functions[t])(params, x[t], y[t])
        row = jax.tree.map(lambda g, t=t: g[t], grads["encoder"])
        assert_same(
            (losses[t], row, grads["heads"][t]), (value, expected["encoder"], expected["heads"][t])
        )


def test_auxiliary_outputs_pass_through():
    params, (x, y) = init(jnp.float32), batch(jnp.float32)

    def with_aux(p, x, y):
        return losses_fn(p, x, y), {"mean": encode(p["encoder"], x, y).mean(0)}

    expected = encode(params["encoder"], x, y).mean(0)
    fun = dbmtl.value_and_task_grads(with_aux, labels=LABELS, has_aux=True)
    (losses, aux), grads = jax.jit(fun)(params, x, y)
    chex.assert_trees_all_close(aux["mean"], expected, rtol=1e-5)
    assert_same(grads, loop_of_grads(params, x, y))

    heads = [
        lambda h, z, x, y, t=t: (head_loss(h, z, x, y, t), {"largest": z.max()})
        for t in range(NUM_TASKS)
    ]

    def encode_with_aux(p, x, y):
        z = encode(p, x, y)
        return z, {"mean": z.mean(0)}

    fun = dbmtl.encoder_value_and_task_grads(encode_with_aux, heads, has_aux=True)
    (_, (encoder_aux, head_aux)), (encoder_grads, _) = jax.jit(fun)(
        (params["encoder"], params["heads"]), x, y
    )
    chex.assert_trees_all_close(encoder_aux["mean"], expected, rtol=1e-5)
    assert len(head_aux) == NUM_TASKS
    chex.assert_trees_all_close(encoder_grads, grads["encoder"], rtol=1e-4, atol=1e-6)

    xs, ys = batch(jnp.float32, 2)

    def per_task(p, x, y):
        z = encode(p, x, y)
        return z.mean(), z.mean(0)

    (losses, aux), _ = dbmtl.per_task_value_and_grads(per_task, has_aux=True)(
        params["encoder"], xs, ys
    )
    chex.assert_shape(aux, (2, 5))
    np.testing.assert_allclose(aux.mean(1), losses, rtol=1e-5)


def test_the_forward_pass_runs_once():
    calls = []

    def fun(p, x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(p * x), jnp.sum(p**2), jnp.sum(p)

    for options in ({"mode": "unroll"}, {"mode": "loop"}, {"mode": "vmap"}):
        calls.clear()
        jax.block_until_ready(dbmtl.value_and_task_grads(fun, **options)(jnp.ones(3), jnp.ones(3)))
        jax.effects_barrier()
        assert len(calls) == 1, options


def test_custom_derivatives_and_rematerialisation_work():
    @jax.custom_vjp
    def doubled_gradient(x):
        return x

    doubled_gradient.defvjp(lambda x: (x, None), lambda _, g: (2 * g,))

    @jax.checkpoint
    def fun(p):
        h = doubled_gradient(jnp.sin(p))
        return jnp.sum(h), jnp.sum(h**2)

    p = jnp.arange(3.0)
    _, grads = jax.jit(dbmtl.value_and_task_grads(fun))(p)
    np.testing.assert_allclose(grads[0], 2 * jnp.cos(p), rtol=1e-5)
    np.testing.assert_allclose(grads[1], 4 * jnp.sin(p) * jnp.cos(p), rtol=1e-5, atol=1e-6)


def count(jaxpr, name):
    text = str(jaxpr)
    return text.count(f" {name}[")


def lowered(fun, platform, *args):
    """The program for a platform, which need not be there."""
    return jax.jit(fun).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    ("network", "num_tasks", "loops_on"),
    [
        ("dense", 4, []),
        ("dense", 5, ["cpu"]),
        ("dense", 12, ["cpu"]),
        ("dense", 13, ["cpu", "tpu"]),
        ("convolution", 13, ["tpu"]),
    ],
)
def test_auto_goes_by_the_platform_that_is_compiled_for(network, num_tasks, loops_on):
    p, x = jnp.ones((3, 3)), jnp.ones((3, 3))

    def losses(p):
        if network == "dense":
            y = x @ p
        else:
            y = jax.jit(jax.lax.conv, static_argnums=(2, 3))(
                x[None, None], p[None, None], (1, 1), "SAME"
            )
        return jnp.stack([jnp.sum((t + 1) * y) for t in range(num_tasks)])

    fun = dbmtl.value_and_task_grads(losses)
    programs = {name: lowered(fun, name, p) for name in ("cpu", "tpu", "cuda", "rocm")}
    assert [name for name, text in programs.items() if "stablehlo.while" in text] == loops_on
    batched = [name for name, text in programs.items() if f"tensor<{num_tasks}x3x3xf32>" in text]
    assert {"cuda", "rocm"} <= set(batched)


@pytest.mark.parametrize("order", [*itertools.permutations(["unroll", "loop", "vmap"])])
def test_rows_are_the_same_in_every_way(order):
    p, x = jnp.arange(9.0).reshape(3, 3), jnp.ones((3, 3))

    def losses(p):
        return jnp.stack([jnp.sum(jnp.sin((t + 1) * x @ p)) for t in range(9)])

    def rows(way):
        return map_tasks(jax.vjp(losses, p)[1], jnp.eye(9), way)[0]

    chosen, expected = Chosen(*map(Way, order)), jax.jacrev(losses)(p)
    np.testing.assert_allclose(chosen.run(rows), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda: chosen.run(rows))(), expected, rtol=1e-6)


def test_only_the_first_axes_of_arguments_are_the_tasks():
    fun = dbmtl.per_task_value_and_grads(lambda w, x, y: jnp.sum(w * x) * y)
    losses, grads = fun(jnp.ones(3), jnp.array([[1.0, 2.0, 3.0]] * 2), jnp.array([1.0, 10.0]))
    np.testing.assert_allclose(losses, [6, 60])
    np.testing.assert_allclose(grads, [[1, 2, 3], [10, 20, 30]])


@pytest.mark.parametrize(("chunk_size", "loops"), [(1, True), (2, True), (3, False)])
def test_a_chunk_is_as_many_tasks_as_it_says(chunk_size, loops):
    fun = dbmtl.value_and_task_grads(
        lambda p: [jnp.sum(jnp.sin(t * p)) for t in range(3)], chunk_size=chunk_size
    )
    assert (count(jax.make_jaxpr(fun)(jnp.ones(2)), "scan") > 0) == loops


def test_a_chunk_may_hold_parameters_without_entries():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "empty": jnp.zeros((0, 3))}
    fun = functools.partial(dbmtl.value_and_task_grads, lambda p: (p["w"] ** 2).sum(0))
    _, expected = fun(mode="loop")(params)
    _, found = fun(chunk_size=2)(params)
    chex.assert_trees_all_close(found, expected)
    per_task = dbmtl.per_task_value_and_grads(lambda p, x: jnp.sum(p["w"]) * x, chunk_size=2)
    _, found = per_task(params, jnp.ones(3))
    assert found["empty"].shape == (3, 0, 3)
    np.testing.assert_array_equal(found["w"], jnp.ones((3, 2, 3)))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (lambda p: p.sum(), r"fun: expected losses of shape \(T,\) or T scalars, found shape \(\)"),
        (lambda p: p[None], r"found shape \(1, 3\)"),
        (lambda p: p[:0], r"found shape \(0,\)"),
        (lambda p: [p.sum(), p], r"T scalar losses, found a list of shape \(\), shape \(3,\)"),
        (lambda p: [], "expected a sequence of T scalar losses"),
    ],
)
def test_losses_of_another_shape_are_refused(out, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.value_and_task_grads(out)(jnp.ones(3))


@pytest.mark.parametrize(
    "fun", [lambda p: p.sum()[None], lambda p: (p[None] @ jnp.ones((3, 1))).reshape(1)]
)
def test_one_loss_in_an_array_is_a_set_of_losses(fun):
    losses, grads = dbmtl.value_and_task_grads(fun)(jnp.ones(3))
    np.testing.assert_allclose(losses, [3])
    np.testing.assert_allclose(grads, [[1, 1, 1]])


def test_the_parameters_of_a_head_may_be_a_tree():
    heads = [lambda p, z: jnp.sum(p["v"] * z) + p["b"], lambda p, z: p[0] * jnp.sum(z)]
    params = (jnp.array([1.0, 2.0]), [{"v": jnp.array([3.0, 4.0]), "b": jnp.array(5.0)}, (2.0,)])
    losses, (rows, own) = dbmtl.encoder_value_and_task_grads(lambda w: 2 * w, heads)(params)
    np.testing.assert_allclose(losses, [27, 12])
    np.testing.assert_allclose(rows, [[6, 8], [4, 4]])
    chex.assert_trees_all_close(own, [{"v": jnp.array([2.0, 4.0]), "b": jnp.array(1.0)}, (6.0,)])


@pytest.mark.parametrize(
    ("leaf", "found"), [("text", "str"), (1, "int32"), (jax.random.key(0), "key<fry>")]
)
def test_what_has_no_gradient_is_named(leaf, found):
    message = rf"^params\['a'\]: expected a floating or complex array, .*found {found}; keep it out"
    with pytest.raises(TypeError, match=message):
        dbmtl.value_and_task_grads(lambda p: [p["b"].sum()])({"a": leaf, "b": jnp.ones(2)})


def test_options_are_checked():
    for engine in (dbmtl.value_and_task_grads, dbmtl.per_task_value_and_grads):
        with pytest.raises(ValueError, match=r"mode: expected one of .*'auto'.*found 'fast'"):
            engine(jnp.sum, mode="fast")
        with pytest.raises(ValueError, match="chunk_size: expected an int of at least 1"):
            engine(jnp.sum, chunk_size=0)
        with pytest.raises(ValueError, match="chunk_size: expected None"):
            engine(jnp.sum, chunk_size=2, mode="unroll")
    with pytest.raises(TypeError, match="fun: expected a function, found 3"):
        dbmtl.value_and_task_grads(3)(1.0)
    with pytest.raises(TypeError, match="fun: expected a function, found None"):
        dbmtl.per_task_value_and_grads(None, in_axes="sequence")(1.0, [1.0, 2.0])
    with pytest.raises(TypeError, match=r"^fun\[1\]: expected a function, found 'b'"):
        dbmtl.per_task_value_and_grads([jnp.multiply, "b"])(1.0, jnp.ones(2))
    with pytest.raises(TypeError, match="encoder: expected a function, found 3"):
        dbmtl.encoder_value_and_task_grads(3, [lambda h, z: z])((1.0, (1.0,)))
    with pytest.raises(ValueError, match="fun: expected at least one function, found none"):
        dbmtl.per_task_value_and_grads([])
    with pytest.raises(ValueError, match="heads: expected at least one"):
        dbmtl.encoder_value_and_task_grads(encode, [])
    with pytest.raises(ValueError, match=r"params\[1\]: expected 1, one for each head, found 2"):
        dbmtl.encoder_value_and_task_grads(lambda p: p, [lambda h, z: z])((1.0, (1.0, 2.0)))
    with pytest.raises(ValueError, match=r"heads\[0\]: expected a scalar loss, found shape \(2,\)"):
        dbmtl.encoder_value_and_task_grads(lambda p: p, [lambda h, z: z])((jnp.ones(2), (1.0,)))
    with pytest.raises(ValueError, match=r"first axes|with one T"):
        dbmtl.per_task_value_and_grads(lambda p, x, y: p)(1.0, jnp.ones(2), jnp.ones(3))
    with pytest.raises(ValueError, match=r"one T = 1 \(the number of functions\), found"):
        dbmtl.per_task_value_and_grads([lambda p, x: p])(1.0, jnp.ones(2))
