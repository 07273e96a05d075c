"""Tasks with names: mappings by name everywhere, rows in the order of the sorted names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers.samplers import METHODS

NAMES = ("normals", "depth", "edges")  # not sorted
SORTED = ("depth", "edges", "normals")
PARAMS = {"w": jnp.linspace(0.1, 1.0, 6).reshape(3, 2), "heads": {n: jnp.ones(2) for n in NAMES}}
LABELS = {"w": "shared", "heads": {name: name for name in NAMES}}
X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)


def loss(params, x, name):
    scale = 10.0 ** SORTED.index(name)
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["heads"][name] - 1) ** 2) * scale


def by_name(params, x):
    return {name: loss(params, x, name) for name in NAMES}


def by_index(params, x):
    return [loss(params, x, name) for name in SORTED]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_with_names_is_that_without(name):
    """Given by any order of names and mappings, compiled and not."""
    indices = {"w": "shared", "heads": {n: SORTED.index(n) for n in NAMES}}
    plain = METHODS[name](3, labels=indices)
    losses, grads = dbmtl.value_and_task_grads(by_index, labels=indices)(PARAMS, X)
    mask = jnp.array([True, False, True])
    expected, _ = plain.update(grads, plain.init(PARAMS), PARAMS, losses=losses, task_mask=mask)
    tx = METHODS[name](NAMES, labels=LABELS)

    @jax.jit
    def step(params, x, state):
        values, grads = dbmtl.value_and_task_grads(by_name, labels=LABELS)(params, x)
        assert list(values) == list(SORTED)
        backwards = {n: values[n] for n in reversed(SORTED)}
        by_mask = {"normals": mask[2], "depth": mask[0], "edges": mask[1]}
        return tx.update(grads, state, params, losses=backwards, task_mask=by_mask)

    found, state = step(PARAMS, X, tx.init(PARAMS))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    seen = dbmtl.diagnostics(state, names=NAMES)
    assert {n: bool(v) for n, v in seen.present.items()} == {
        "depth": True,
        "edges": False,
        "normals": True,
    }


@pytest.mark.parametrize("stream", [False, True])
def test_an_encoder_with_heads_by_name(stream):
    def head(name):
        scale = 10.0 ** SORTED.index(name)
        return lambda v, z, x: (jnp.mean((z @ v - 1) ** 2) * scale, {"name of": z.mean()})

    fun = dbmtl.encoder_value_and_task_grads(
        lambda w, x: (jnp.tanh(x @ w), None),
        {name: head(name) for name in NAMES},
        has_aux=True,
        stream=stream,
    )
    pair = (PARAMS["w"], PARAMS["heads"])
    (losses, (_, auxes)), grads = fun(pair, X)
    assert list(losses) == list(SORTED) == list(auxes)
    grads = grads.stacked() if stream else grads
    expected_losses, expected = dbmtl.value_and_task_grads(by_name, labels=LABELS)(PARAMS, X)
    for name in NAMES:
        np.testing.assert_allclose(losses[name], expected_losses[name], rtol=1e-5)
        np.testing.assert_allclose(grads[1][name], expected["heads"][name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grads[0], expected["w"], rtol=1e-4, atol=1e-6)
    tx = dbmtl.db_mtl(NAMES, labels=("shared", {name: name for name in NAMES}))
    updates, _ = tx.update(grads, tx.init(pair), pair, losses=losses)
    assert updates[0].shape == (3, 2)


def test_a_head_is_called_by_its_name():
    heads = {"a": lambda v, z: z.sum(), "b": lambda v, z: z}
    engine = dbmtl.encoder_value_and_task_grads(lambda w: w, heads)
    with pytest.raises(ValueError, match=r"heads\['b'\]: expected a scalar loss"):
        engine((jnp.ones(2), {"a": 1.0, "b": 1.0}))


def test_a_function_and_a_batch_for_each_name():
    functions = {name: functools.partial(loss, name=name) for name in NAMES}
    batches = {name: X[: 2 + i] for i, name in enumerate(NAMES)}  # of different sizes
    fun = dbmtl.per_task_value_and_grads(functions, labels=LABELS)
    losses, grads = fun(PARAMS, batches)
    for row, name in enumerate(SORTED):
        value, expected = jax.value_and_grad(functions[name])(PARAMS, batches[name])
        np.testing.assert_allclose(losses[name], value, rtol=1e-6)
        np.testing.assert_allclose(grads["w"][row], expected["w"], rtol=1e-5)
        np.testing.assert_allclose(grads["heads"][name], expected["heads"][name], rtol=1e-5)


def test_parts_and_chains_have_names():
    tx = optax.chain(
        dbmtl.scale_by_log_loss(NAMES), dbmtl.task_ema(NAMES), dbmtl.balance_magnitudes(NAMES)
    )
    plain = dbmtl.db_mtl(3)
    grads = testing.sample_task_grads(3)
    losses = testing.sample_losses(3)
    named = dict(zip(SORTED, losses, strict=True))
    params = testing.sample_params()
    found, _ = tx.update(grads, tx.init(params), params, losses=named)
    expected, _ = plain.update(grads, plain.init(params), params, losses=losses)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


GRADS = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("num_tasks", "arguments", "error", "message"),
    [
        (
            NAMES,
            {"losses": jnp.ones(3)},
            TypeError,
            "losses: expected a mapping of the tasks depth",
        ),
        (
            3,
            {"losses": {"a": 1.0}},
            TypeError,
            "losses: expected an array .* pass the names as num_",
        ),
        (NAMES, {"losses": {"depth": 1.0, "edges": 1.0}}, ValueError, "missing 'normals'"),
        (
            NAMES,
            {"losses": dict.fromkeys((*NAMES, "total"), 1.0)},
            ValueError,
            "unknown 'total'",
        ),
        (NAMES, {"task_mask": jnp.ones(3, bool)}, TypeError, "task_mask: expected a mapping"),
        (
            NAMES,
            {"losses": dict.fromkeys(NAMES, jnp.ones(2))},
            ValueError,
            "losses: expected a scalar for each task",
        ),
    ],
)
def test_named_and_unnamed_are_not_mixed(num_tasks, arguments, error, message):
    tx = dbmtl.ew(num_tasks)
    with pytest.raises(error, match=message):
        tx.update(GRADS, tx.init(jnp.zeros(2)), **arguments)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ((), ValueError, "expected at least one name"),
        (("a", "a"), ValueError, "expected every name once"),
        (("a", "shared"), ValueError, "'shared' is a label"),
        (("a", "frozen"), ValueError, "'frozen' is a label"),
        (("a", 1), TypeError, "expected names of tasks"),
        ("ab", TypeError, "num_tasks: expected an int or a sequence of names, found 'ab'"),
    ],
)
def test_bad_names_are_refused(names, error, message):
    with pytest.raises(error, match=message):
        dbmtl.mgda(names)


def test_labels_are_names_or_indices_and_not_both():
    params = {"w": jnp.zeros(2), "head": jnp.zeros(2)}
    with pytest.raises(ValueError, match=r"labels\['head'\]: .*, 'frozen' or one of depth"):
        dbmtl.ew(NAMES, labels={"w": "shared", "head": 0}).init(params)
    with pytest.raises(ValueError, match=r"labels\['head'\]: .*, 'frozen' or a task index"):
        dbmtl.ew(3, labels={"w": "shared", "head": "depth"}).init(params)


@pytest.mark.parametrize(
    ("fun", "error", "message"),
    [
        (
            lambda w: ({"a": w.sum()}, w),
            ValueError,
            "a tuple of a mapping of a, shape .* has_aux=True",
        ),
        (lambda w: (w.sum(), [w.sum(), w.sum()]), ValueError, "return losses without their total"),
        (lambda w: {"a": {"b": w.sum()}}, ValueError, "found a list of a mapping of b"),
        (lambda w: {1: w.sum()}, TypeError, "fun: losses: expected names of tasks"),
        (lambda w: {"shared": w.sum()}, ValueError, "'shared' is a label"),
        (
            lambda w: w.sum().astype(int)[None],
            TypeError,
            "expected losses of a real floating dtype",
        ),
    ],
)
def test_what_is_no_set_of_losses_is_described(fun, error, message):
    with pytest.raises(error, match=message):
        dbmtl.value_and_task_grads(fun)(jnp.ones(2))


def test_aux_must_be_a_pair():
    with pytest.raises(ValueError, match=r"expected a pair \(losses, aux\), as has_aux=True"):
        dbmtl.value_and_task_grads(lambda w: [w.sum()], has_aux=True)(jnp.ones(2))
