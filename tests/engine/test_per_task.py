"""A batch for each task: what of the arguments is whose."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl

T = 3
PARAMS = {
    "w": jax.random.normal(jax.random.key(0), (4, 5)),
    "heads": [jnp.full(5, 0.1 * t) for t in range(T)],
}
LABELS = {"w": "shared", "heads": [0, 1, 2]}


def loss_fn(params, batch, task, power=2):
    x, y = batch
    return jnp.mean(jnp.abs(jnp.tanh(x @ params["w"]) @ params["heads"][task] - y) ** power)


FUNCTIONS = [lambda p, b, t=t, **kwargs: loss_fn(p, b, t, **kwargs) for t in range(T)]


def batch(size, key):
    keys = jax.random.split(jax.random.key(key))
    return jax.random.normal(keys[0], (size, 4)), jax.random.normal(keys[1], (size,))


BATCHES = [batch(4 + t, t) for t in range(T)]
STACKED = jax.tree.map(lambda *x: jnp.stack(x), *[batch(4, t) for t in range(T)])


def expected(batches, **kwargs):
    """A plain loop of `jax.value_and_grad`."""
    found = [
        jax.value_and_grad(f)(PARAMS, b, **kwargs) for f, b in zip(FUNCTIONS, batches, strict=True)
    ]
    losses, rows = zip(*found, strict=True)
    grads = {
        "w": jnp.stack([row["w"] for row in rows]),
        "heads": [row["heads"][t] for t, row in enumerate(rows)],
    }
    return jnp.stack(losses), grads


def assert_close(found, right):
    chex.assert_trees_all_close(found, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("container", [list, tuple])
def test_batches_of_different_sizes(stream, container):
    fun = dbmtl.per_task_value_and_grads(FUNCTIONS, labels=LABELS, stream=stream)

    @jax.jit
    def call(params, batches):
        losses, grads = fun(params, batches)
        return losses, grads.stacked() if stream else grads

    assert_close(call(PARAMS, container(BATCHES)), expected(BATCHES))


def test_batches_of_different_structures():
    def first(params, batch):
        return FUNCTIONS[0](params, (batch["x"], batch["y"]))

    x, y = BATCHES[0]
    fun = dbmtl.per_task_value_and_grads([first, *FUNCTIONS[1:]], labels=LABELS)
    assert_close(fun(PARAMS, [{"x": x, "y": y}, *BATCHES[1:]]), expected(BATCHES))


def test_one_function_of_sequences():
    def fun(params, batch, task):
        return loss_fn(params, batch, task)

    losses, grads = dbmtl.per_task_value_and_grads(fun, labels=LABELS)(PARAMS, BATCHES, [0, 1, 2])
    assert_close((losses, grads), expected(BATCHES))


def test_auxiliary_outputs_of_sequences_are_a_list():
    functions = [lambda p, b, f=f: (f(p, b), b[0].shape) for f in FUNCTIONS]
    fun = dbmtl.per_task_value_and_grads(functions, labels=LABELS, has_aux=True)
    (losses, aux), grads = fun(PARAMS, BATCHES)
    assert aux == [(4, 4), (5, 4), (6, 4)]
    assert_close((losses, grads), expected(BATCHES))


@pytest.mark.parametrize("stream", [False, True])
def test_keywords_reach_every_task_as_they_are(stream):
    fun = dbmtl.per_task_value_and_grads(FUNCTIONS, labels=LABELS, stream=stream)
    losses, grads = fun(PARAMS, BATCHES, power=1)
    assert_close((losses, grads.stacked() if stream else grads), expected(BATCHES, power=1))


@pytest.mark.parametrize("mode", ["unroll", "loop", "vmap"])
def test_axes_as_in_vmap(mode):
    """One axis for all, one for each argument, a tree, and arrays that all tasks share."""
    x, y = STACKED
    key = jax.random.key(3)

    def fun(w, batch, shared, key):
        noise = jax.random.normal(key, ())
        return jnp.sum((batch["x"] @ w - batch["y"]) ** 2) + shared * noise * jnp.sum(w)

    keys = jax.random.split(key, T)
    w = jnp.ones(4)
    right = jax.vmap(jax.value_and_grad(fun), in_axes=(None, 0, None, 0))(
        w, {"x": x, "y": y}, 2.0, keys
    )
    engine = dbmtl.per_task_value_and_grads(fun, in_axes=(0, None, 0), mode=mode)
    assert_close(engine(w, {"x": x, "y": y}, 2.0, keys), right)
    moved = {"x": jnp.moveaxis(x, 0, 1), "y": y}
    engine = dbmtl.per_task_value_and_grads(fun, in_axes=({"x": 1, "y": 0}, None, 0), mode=mode)
    assert_close(engine(w, moved, 2.0, keys), right)
    # A key that all tasks share.
    right = jax.vmap(jax.value_and_grad(fun), in_axes=(None, 0, None, None))(
        w, {"x": x, "y": y}, 2.0, key
    )
    engine = dbmtl.per_task_value_and_grads(fun, in_axes=[0, None, None], mode=mode)
    assert_close(engine(w, {"x": x, "y": y}, 2.0, key), right)


@pytest.mark.parametrize("stream", [False, True])
def test_stacked_arguments_of_several_functions(stream):
    fun = dbmtl.per_task_value_and_grads(FUNCTIONS, labels=LABELS, stream=stream)
    losses, grads = fun(PARAMS, STACKED)
    slices = [jax.tree.map(lambda x, t=t: x[t], STACKED) for t in range(T)]
    assert_close((losses, grads.stacked() if stream else grads), expected(slices))


def test_two_readings_with_other_numbers_of_tasks_are_refused():
    """Two batches of four: two tasks, or four."""
    with pytest.raises(ValueError, match=r"with T = 4, or as sequences of T entries, with T = 2"):
        dbmtl.per_task_value_and_grads(lambda w, x: jnp.sum(x @ w))(
            jnp.ones(3), [jnp.ones((4, 3))] * 2
        )


def test_two_readings_are_refused():
    """Two tasks, and a pair of arrays [2, ...]: a batch (x, y), or a batch for each task?"""
    pair = (jnp.ones((2, 3)), jnp.ones((2, 3)))

    def fun(w, batch):
        parts = batch if isinstance(batch, tuple) else (batch, 0.0)
        return jnp.sum(parts[0] @ w) + 10 * jnp.sum(parts[1])

    for functions in (fun, [fun, fun]):
        with pytest.raises(ValueError, match=r"in_axes: expected 0 or 'sequence'.* T = 2, or"):
            dbmtl.per_task_value_and_grads(functions)(jnp.ones(3), pair)
        for axes, right in ((0, 33.0), ("sequence", 6.0)):
            engine = dbmtl.per_task_value_and_grads(functions, in_axes=axes)
            losses, _ = engine(jnp.ones(3), pair)
            np.testing.assert_allclose(losses, right)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((jnp.ones((2, 4)),), {}, r"args: expected .* T = 3 \(the number of functions\), found"),
        ((BATCHES[:2],), {}, "args: expected .* T = 3"),
        ((jnp.ones((3, 4)),), {"in_axes": "sequence"}, r"args\[0\]: expected a list or tuple"),
        ((BATCHES, BATCHES[:2]), {"in_axes": "sequence"}, r"sequences of T entries .*\[3, 2, 3\]"),
        ((STACKED,), {"in_axes": None}, "args: expected arrays with one T = 3"),
        ((STACKED,), {"in_axes": (0, 0)}, "in_axes: expected a prefix of the arguments"),
    ],
)
def test_arguments_that_do_not_fit(args, options, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.per_task_value_and_grads(FUNCTIONS, labels=LABELS, **options)(PARAMS, *args)


def test_frozen_parameters():
    labels = {"w": "frozen", "heads": [0, 1, 2]}
    _, grads = dbmtl.per_task_value_and_grads(FUNCTIONS, labels=labels)(PARAMS, BATCHES)
    assert not np.any(grads["w"])
    assert grads["w"].shape == PARAMS["w"].shape
    _, right = expected(BATCHES)
    chex.assert_trees_all_close(grads["heads"], right["heads"], rtol=1e-5)
    one = dbmtl.per_task_value_and_grads(
        lambda p, x: jnp.sum(p["w"] * x), labels={"w": "frozen", "heads": "shared"}
    )
    _, grads = one(PARAMS, jnp.ones(T))
    assert not np.any(grads["w"])
    assert grads["heads"][0].shape == (T, 5)


@pytest.mark.parametrize("num_tasks", [2, 5])
def test_a_loop_that_streams_contains_the_function_once(num_tasks):
    """Unlike an unrolled one, and has the same rows, losses, outputs and Gramian."""

    def fun(w, x):
        z = jnp.sin(x @ w)
        return jnp.mean(z**2), z[0]

    w = jax.random.normal(jax.random.key(0), (3, 4))
    xs = jax.random.normal(jax.random.key(1), (num_tasks, 6, 3))

    def engine(**options):
        return dbmtl.per_task_value_and_grads(fun, has_aux=True, **options)

    def once(w, xs):
        (losses, aux), grads = engine(stream=True, mode="loop")(w, xs)
        return losses, aux, grads.rows().gramian(), grads.stacked()

    found = jax.jit(once)(w, xs)
    (losses, aux), rows = engine()(w, xs)
    assert_close(found, (losses, aux, jnp.einsum("tij,sij->ts", rows, rows), rows))

    def sines(**options):
        text = str(jax.make_jaxpr(lambda w: engine(stream=True, **options)(w, xs)[1].stacked())(w))
        return text.count(" sin ")

    assert sines(mode="loop") <= 2 < num_tasks + 1 <= sines() + 1


def test_rows_that_a_loop_streams_may_be_scaled():
    def fun(w, x):
        return jnp.sum(x * w**2)

    w, xs = jnp.array([1.0, 2.0]), jnp.array([[1.0, 1.0], [0.0, 5.0]])
    losses, grads = dbmtl.per_task_value_and_grads(fun, stream=True, mode="loop")(w, xs)
    np.testing.assert_allclose(losses, [5, 20])
    tx = dbmtl.scale_by_log_loss(2)
    scaled, _ = tx.update(grads, tx.init(w), losses=losses)
    np.testing.assert_allclose(scaled.stacked(), [[0.4, 0.8], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(scaled.rows().gramian(), [[0.8, 0.8], [0.8, 1]], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"stream": True}, {"stream": True, "mode": "loop"}])
def test_bad_losses_and_slices_are_named(options):
    engine = functools.partial(dbmtl.per_task_value_and_grads, **options)
    w, xs = jnp.ones(3), jnp.ones((2, 3))
    with pytest.raises(TypeError, match="fun: expected losses of a real floating dtype, found int"):
        engine(lambda w, x: 1)(w, xs)
    with pytest.raises(ValueError, match="args: expected the slices of at least one task"):
        engine(lambda w, x: w @ x)(w, xs[:0])
    with pytest.raises(ValueError, match="args: expected arrays with one T at the axes in_axes=0"):
        engine(lambda w, x, y: w @ x + w @ y, in_axes=0)(w, xs, jnp.ones((3, 3)))
    with pytest.raises(ValueError, match=r"in_axes: expected axes of the arguments, found 5 for"):
        engine(lambda w, x: w @ x, in_axes=5)(w, xs)
    labelled = engine(lambda p, x: p["w"] @ x + p["v"] @ x, labels={"w": None, "v": 1})
    with pytest.raises(ValueError, match=r"labels: expected an entry for params\['w'\], found N"):
        labelled({"w": w, "v": w}, xs)
