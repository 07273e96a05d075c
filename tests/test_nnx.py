"""Flax NNX models: gradients for `nnx.Optimizer`, other state updated once a step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl

nnx = pytest.importorskip("flax.nnx")
mtl = pytest.importorskip("dbmtl_jax.nnx")

T = 2
X = jax.random.normal(jax.random.key(0), (16, 4))
Y = jnp.stack([X[:, 0], jnp.sin(X[:, 1])], axis=1)


class Encoder(nnx.Module):
    """With statistics, and random numbers."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.norm(nnx.relu(self.linear(x))))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.encoder = Encoder(rngs)
        self.heads = nnx.List([nnx.Linear(8, 1, rngs=rngs) for _ in range(T)])

    def __call__(self, x):
        z = self.encoder(x)
        return [head(z)[:, 0] for head in self.heads]


LABELS = {"encoder": "shared", "heads": {0: 0, 1: 1}}


def losses_of(model, x, y):
    return [jnp.mean((out - y[:, t]) ** 2) for t, out in enumerate(model(x))]


def arrays(state):
    """The leaves, copied, as a step changes the model's variables in place; keys as integers."""
    return [
        np.array(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        for x in jax.tree.leaves(state)
    ]


def by_hand(model):
    """The losses, a row for each task by `nnx.value_and_grad`, and the state after one step."""
    rows, moved = [], None
    for t in range(T):
        copy = nnx.clone(model)
        loss, grad = nnx.value_and_grad(lambda m, t=t: losses_of(m, X, Y)[t])(copy)
        rows.append((loss, grad))
        moved = arrays(nnx.state(copy, nnx.Not(nnx.Param)))
    return rows, moved


@pytest.mark.parametrize("mode", ["unroll", "vmap", "stream"])
def test_gradients_are_those_of_nnx(mode):
    model = Net(nnx.Rngs(0))
    rows, moved = by_hand(model)
    options = {"stream": True} if mode == "stream" else {"mode": mode}
    before = arrays(nnx.state(model, nnx.Param))

    @nnx.jit
    def grads_of(model):
        losses, grads = mtl.value_and_task_grads(losses_of, labels=LABELS, **options)(model, X, Y)
        if mode == "stream":  # as nnx.Optimizer passes them on
            tx = dbmtl.ew(T, labels=LABELS)
            pure = nnx.as_pure(grads)
            params = nnx.as_pure(nnx.state(model, nnx.Param))
            return losses, tx.update(pure, tx.init(params), params)[0]
        return losses, grads

    losses, grads = grads_of(model)
    np.testing.assert_allclose(losses, [loss for loss, _ in rows], rtol=1e-5)
    total = jax.tree.map(lambda a, b: a + b, rows[0][1], rows[1][1])
    if mode == "stream":
        found = jax.tree.leaves(grads)
    else:
        found = [
            leaf.sum(0) if leaf.ndim > whole.ndim else leaf
            for leaf, whole in zip(jax.tree.leaves(grads), before, strict=True)
        ]
    for leaf, right in zip(found, jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(leaf, right, rtol=1e-4, atol=1e-6)
    found = arrays(nnx.state(model, nnx.Not(nnx.Param)))
    chex.assert_trees_all_close(found, moved, rtol=1e-6)
    chex.assert_trees_all_equal(arrays(nnx.state(model, nnx.Param)), before)


@pytest.mark.parametrize("stream", [False, True])
def test_it_trains_with_nnxs_optimizer(stream):
    model = Net(nnx.Rngs(0))
    tx = dbmtl.chain(dbmtl.db_mtl(T, labels=LABELS), optax.adam(1e-2))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    fun = mtl.value_and_task_grads(losses_of, labels=LABELS, stream=stream)

    @nnx.jit
    def step(model, optimizer):
        losses, grads = fun(model, X, Y)
        optimizer.update(model, grads, losses=losses)
        return losses

    losses = [step(model, optimizer) for _ in range(40)]
    assert np.all(np.mean(losses[-5:], axis=0) < np.mean(losses[:5], axis=0))
    assert dbmtl.diagnostics(optimizer).norms.shape == (T,)


def test_pending_gradients_stream_as_stacked_ones():
    found = []
    for stream in (False, True):
        model = Net(nnx.Rngs(0))
        tx = dbmtl.chain(dbmtl.cagrad(T, labels=LABELS), optax.sgd(0.1))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        fun = mtl.value_and_task_grads(losses_of, labels=LABELS, stream=stream)

        @nnx.jit
        def step(model, optimizer, fun=fun):
            losses, grads = fun(model, X, Y)
            optimizer.update(model, grads, losses=losses)

        step(model, optimizer)
        found.append(arrays(nnx.state(model)))
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-6)


def test_auxiliary_outputs():
    model = Net(nnx.Rngs(0))
    fun = mtl.value_and_task_grads(lambda m, x, y: (losses_of(m, x, y), "aux"), has_aux=True)
    (_, aux), _ = fun(model, X, Y)
    assert aux == "aux"


@pytest.mark.parametrize("stacked", [False, True])
def test_a_batch_for_each_task(stacked):
    """The statistics become the mean of the tasks', counters move once."""
    model = Encoder(nnx.Rngs(0))

    def loss_of(model, x):
        return jnp.mean(model(x) ** 2)

    batches = [X[:8], X[8:]] if stacked else [X[:6], X[6:]]
    args = jnp.stack(batches) if stacked else batches
    states, rows = [], []
    for batch in batches:
        copy = nnx.clone(model)
        rows.append(nnx.value_and_grad(loss_of)(copy, batch))
        states.append(nnx.state(copy))
    losses, grads = mtl.per_task_value_and_grads(loss_of)(model, args)
    np.testing.assert_allclose(losses, [loss for loss, _ in rows], rtol=1e-5)
    right = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[grad for _, grad in rows])
    chex.assert_trees_all_close(
        jax.tree.leaves(grads), jax.tree.leaves(right), rtol=1e-4, atol=1e-6
    )
    mean = (states[0]["norm"]["mean"].get_value() + states[1]["norm"]["mean"].get_value()) / 2
    np.testing.assert_allclose(model.norm.mean.get_value(), mean, rtol=1e-5)
    counts = [s["drop"]["rngs"]["count"].get_value() for s in (*states, nnx.state(model))]
    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize("stream", [False, True])
def test_an_encoder_and_heads(stream):
    model = Net(nnx.Rngs(0))
    rows, moved = by_hand(model)
    models = (model.encoder, list(model.heads))
    labels = {0: "shared", 1: {0: 0, 1: 1}}

    def head(task):
        return lambda m, z, x, y: jnp.mean((m(z)[:, 0] - y[:, task]) ** 2)

    fun = mtl.encoder_value_and_task_grads(
        lambda m, x, y: m(x), [head(t) for t in range(T)], stream=stream
    )
    tx = optax.chain(dbmtl.ew(T, labels=labels), optax.sgd(1.0))
    optimizer = nnx.Optimizer(models, tx, wrt=nnx.Param)
    before = arrays(nnx.state(models, nnx.Param))
    losses, grads = fun(models, X, Y)
    optimizer.update(models, grads, losses=losses)
    np.testing.assert_allclose(losses, [loss for loss, _ in rows], rtol=1e-5)
    total = jax.tree.map(lambda a, b: a + b, rows[0][1], rows[1][1])
    change = [a - b for a, b in zip(before, arrays(nnx.state(models, nnx.Param)), strict=True)]
    chex.assert_trees_all_close(change, arrays(total), rtol=1e-3, atol=1e-5)
    found = arrays(nnx.state(model.encoder, nnx.Not(nnx.Param)))
    chex.assert_trees_all_close(found, moved, rtol=1e-6)


def test_pending_gradients_are_refused_by_name():
    """Without `dbmtl_jax.nnx`, and by what divides them among transformations."""
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    fun = dbmtl.value_and_task_grads(lambda p: [p["a"].sum(), p["b"].sum()], stream=True)
    losses, grads = fun(params)
    divided = optax.multi_transform({"x": dbmtl.ew(2), "y": dbmtl.ew(2)}, {"a": "x", "b": "y"})
    masked = optax.masked(dbmtl.ew(2), {"a": True, "b": False})
    for tx in (divided, masked):
        with pytest.raises(TypeError, match="these task gradients are pending"):
            tx.update(grads, tx.init(params), params, losses=losses)
    tree = jax.tree.unflatten(jax.tree.structure(params), grads.leaves())
    for tx in (divided, masked):
        with pytest.raises(TypeError, match="expected all leaves of pending task gradients"):
            tx.update(tree, tx.init(params), params, losses=losses)


def test_other_functions_refuse_models_with_other_state():
    """They would differentiate the statistics, and never update them."""
    model = Net(nnx.Rngs(0))
    for fun in (dbmtl.value_and_task_grads(losses_of), dbmtl.per_task_value_and_grads(losses_of)):
        with pytest.raises(
            TypeError, match=r"found a Net whose .* use the functions of dbmtl_jax\.nnx"
        ):
            fun(model, X[None].repeat(2, 0), Y[None].repeat(2, 0))
    linear = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    _, grads = dbmtl.value_and_task_grads(lambda m: jnp.mean(m(X) ** 2, axis=0))(linear)
    assert grads.kernel[...].shape == (2, 4, 2)


def test_what_rows_are_gradients_of_is_no_filter():
    with pytest.raises(ValueError, match="pass rows='representation'"):
        mtl.encoder_value_and_task_grads(lambda m, x: m(x), [], wrt="representation")


@pytest.mark.parametrize("named", [False, True])
def test_gradients_of_a_representation(named):
    encoder = Encoder(nnx.Rngs(0))
    heads = [nnx.Linear(8, 1, rngs=nnx.Rngs(t)) for t in range(T)]
    functions = [
        lambda m, z, x, y, t=t: 10.0**t * jnp.mean((m(z)[:, 0] - y[:, t]) ** 2) for t in range(T)
    ]
    labels = {0: "shared", 1: {0: 0, 1: 1}}
    num_tasks = T
    if named:
        num_tasks = ["a", "b"]
        heads, functions = (
            dict(zip("ab", heads, strict=True)),
            dict(zip("ab", functions, strict=True)),
        )
        labels = {0: "shared", 1: {"a": "a", "b": "b"}}
    models = (encoder, heads)
    tx = dbmtl.chain(dbmtl.mgda(num_tasks, labels=labels), optax.sgd(0.1))
    optimizer = nnx.Optimizer(models, tx, wrt=nnx.Param)
    fun = mtl.encoder_value_and_task_grads(
        lambda m, x, y: m(x), functions, rows="representation", labels=labels
    )
    before = arrays(nnx.state(models, nnx.Param))
    statistics = arrays(nnx.state(encoder, nnx.BatchStat))

    @nnx.jit
    def step(models, optimizer):
        losses, grads = fun(models, X, Y)
        optimizer.update(models, grads, losses=losses)
        return losses

    losses = step(models, optimizer)
    assert set(losses) == {"a", "b"} if named else losses.shape == (T,)
    assert all(
        not np.array_equal(a, b)
        for a, b in zip(before, arrays(nnx.state(models, nnx.Param)), strict=True)
    )
    assert not np.array_equal(statistics[0], arrays(nnx.state(encoder, nnx.BatchStat))[0])
    assert np.isclose(jnp.sum(jnp.asarray(dbmtl.diagnostics(optimizer).weights)), 1)
