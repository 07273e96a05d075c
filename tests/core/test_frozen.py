"""Parameters labelled frozen: not differentiated, outside of norms, never moved."""

import collections

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from tests.helpers import samplers

T = 2
PARAMS = {
    "w": jax.random.normal(jax.random.key(0), (3, 4)),
    "table": jnp.arange(4),  # integers have no gradient
    "still": jnp.full(4, 100.0),
    "head": jnp.ones(4),
}
LABELS = {"w": "shared", "table": "frozen", "still": "frozen", "head": 1}
X = jax.random.normal(jax.random.key(1), (5, 3))


def losses_of(params, x):
    z = jnp.tanh(x @ params["w"])[:, params["table"]] * params["still"][None]
    return [jnp.mean(z**2), jnp.mean((z @ params["head"] - 1) ** 2)]


def without_frozen(moving, x):
    return losses_of(PARAMS | moving, x)


MOVING = {key: PARAMS[key] for key in ("w", "head")}
MOVING_LABELS = {key: LABELS[key] for key in MOVING}


@pytest.mark.parametrize("mode", ["unroll", "loop", "vmap", "stream"])
def test_gradients_are_zeros(mode):
    options = {"stream": True} if mode == "stream" else {"mode": mode}

    @jax.jit
    def grads_of(params):
        _, grads = dbmtl.value_and_task_grads(losses_of, labels=LABELS, **options)(params, X)
        return grads.stacked() if mode == "stream" else grads

    found = grads_of(PARAMS)
    _, expected = dbmtl.value_and_task_grads(without_frozen, labels=MOVING_LABELS)(MOVING, X)
    for name, leaf in found.items():
        if LABELS[name] == "frozen":
            chex.assert_trees_all_equal(leaf, jnp.zeros_like(PARAMS[name]))
        else:
            np.testing.assert_allclose(leaf, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["db_mtl", "cagrad", "uw", "mtadam", "meta_balance", "moco"])
def test_methods_see_only_what_moves(name, stream):
    def update(fun, labels, params):
        tx = dbmtl.chain(samplers.METHODS[name](T, labels=labels), optax.sgd(0.1))
        losses, grads = dbmtl.value_and_task_grads(fun, labels=labels, stream=stream)(params, X)
        return tx.update(grads, tx.init(params), params, losses=losses)[0]

    found = jax.jit(lambda params: update(losses_of, LABELS, params))(PARAMS)
    expected = jax.jit(lambda params: update(without_frozen, MOVING_LABELS, params))(MOVING)
    for key, leaf in found.items():
        right = expected.get(key, jnp.zeros_like(PARAMS[key]))
        np.testing.assert_allclose(leaf, right, rtol=1e-4, atol=1e-6)
        assert leaf.dtype == PARAMS[key].dtype


@pytest.mark.parametrize("name", dbmtl.METHODS)
def test_no_method_keeps_anything_for_them(name):
    big = PARAMS | {"still": jnp.zeros(123)}
    state = samplers.METHODS[name](T, labels=LABELS).init(big)
    assert not any(123 in leaf.shape for leaf in jax.tree.leaves(state))


def test_integers_that_are_not_frozen_are_refused():
    with pytest.raises(TypeError, match=r"params\['table'\]: expected a floating"):
        dbmtl.value_and_task_grads(losses_of, labels=LABELS | {"table": "shared"})(PARAMS, X)


def test_a_frozen_key_is_refused():
    """Nothing could add an update of zeros to it."""
    params = {"w": jnp.ones((3, T)), "rng": jax.random.key(0)}
    labels = {"w": "shared", "rng": "frozen"}
    message = r"params\['rng'\]: expected an array of numbers, found key<fry>; keep it out"
    for stream in (False, True):
        with pytest.raises(TypeError, match=message):
            dbmtl.value_and_task_grads(lambda p: p["w"].sum(0), labels=labels, stream=stream)(
                params
            )
    with pytest.raises(TypeError, match=message):
        dbmtl.ew(T, labels=labels).init(params)


class Module(dict):
    """A tree that is callable, as every Equinox model is."""

    def __call__(self, x):
        raise AssertionError("labels are called")


jax.tree_util.register_pytree_with_keys(
    Module,
    lambda m: ([(jax.tree_util.DictKey(k), m[k]) for k in sorted(m)], tuple(sorted(m))),
    lambda keys, leaves: Module(zip(keys, leaves, strict=True)),
)


def test_labels_may_be_a_module_that_is_callable():
    params, labels = Module(PARAMS), Module(LABELS)
    _, grads = dbmtl.value_and_task_grads(losses_of, labels=labels)(params, X)
    tx = dbmtl.ew(T, labels=labels)
    updates, _ = tx.update(grads, tx.init(params), params)
    assert isinstance(updates, Module)
    assert updates["w"].shape == (3, 4)


def test_a_dict_of_labels_labels_another_kind_of_tree_with_its_keys():
    """Such as `flax.nnx.State`."""
    params = {"inner": Module(PARAMS)}
    _, grads = dbmtl.value_and_task_grads(
        lambda p, x: losses_of(p["inner"], x), labels={"inner": LABELS}
    )(params, X)
    assert grads["inner"]["w"].shape == (T, 3, 4)
    assert grads["inner"]["head"].shape == (4,)


def test_labels_by_path():
    rule = {"table": "frozen", "still": "frozen", "head": 1}
    labels = dbmtl.labels_by_path(lambda path: rule.get(path.split("/")[-1], "shared"))
    assert labels(PARAMS) == LABELS
    assert jax.tree.leaves(labels({"a": [1.0, 2.0]})) == ["shared", "shared"]
    pair = collections.namedtuple("Pair", "head body")(1.0, 2.0)
    assert labels({"a": pair}) == {"a": (1, "shared")}
    tx = dbmtl.ew(T, labels=labels)
    _, grads = dbmtl.value_and_task_grads(losses_of, labels=labels)(PARAMS, X)
    chex.assert_trees_all_equal_shapes(tx.update(grads, tx.init(PARAMS), PARAMS)[0], PARAMS)
