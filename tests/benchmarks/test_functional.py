"""A module taken apart and run as a pure function, with normalisation and dropout in it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from benchmarks.networks.functional import functional

_HEADS = 11  # more than 10: sorted as strings, "10" comes before "2"


class _Network(nnx.Module):
    """What a convolutional network has: normalisation, dropout, heads."""

    def __init__(self, *, rngs):
        self.norm = nnx.BatchNorm(3, momentum=0.9, rngs=rngs)
        self.dropouts = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])
        self.heads = nnx.List([nnx.Linear(3, 2, rngs=rngs) for _ in range(_HEADS)])

    def __call__(self, x):
        normalised = self.represent(x)
        return jnp.stack([head(normalised) for head in self.heads])

    def represent(self, x):
        return self.norm(x)

    def drop(self, x):
        return [dropout(x) for dropout in self.dropouts]


class _Remembering(nnx.Module):
    def __init__(self):
        self.memory = nnx.Variable(jnp.zeros(2))


@pytest.fixture(scope="module")
def module():
    return _Network(rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def parts(module):
    return functional(module)


@pytest.fixture(scope="module")
def x():
    return jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (8, 3)), jnp.float32)


def test_arrays_are_plain_nested_dicts(parts):
    assert parts.params.keys() == {"norm", "heads"}
    assert parts.params["heads"].keys() == {str(i) for i in range(_HEADS)}
    assert parts.batch_stats.keys() == {"norm"}

    def check(node):
        assert type(node) is dict or isinstance(node, jax.Array)
        if isinstance(node, dict):
            assert all(type(key) is str for key in node)
            jax.tree.map(check, list(node.values()), is_leaf=lambda n: isinstance(n, dict))

    check(parts.params)
    check(parts.batch_stats)


def test_eval_mode_is_the_module_in_eval_mode(parts, x):
    params = jax.tree.map(lambda p: p + 0.5, parts.params)
    stats = {"norm": {"mean": jnp.arange(3.0), "var": jnp.arange(1.0, 4.0)}}
    outputs, new_stats = jax.jit(parts.apply)(params, stats, x)
    normalised = (x - jnp.arange(3.0)[None]) / jnp.sqrt(jnp.arange(1.0, 4.0) + 1e-5)[None]
    normalised = normalised * params["norm"]["scale"][None] + params["norm"]["bias"][None]
    head = params["heads"]["10"]
    expected = normalised @ head["kernel"] + head["bias"][None]
    chex.assert_trees_all_close(outputs[10], expected, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_equal(new_stats, stats)


def test_every_list_item_gets_its_own_parameters(parts, x):
    """With eleven items, the order of strings and the order of the list differ."""
    heads = {
        name: {"kernel": jnp.zeros((3, 2)), "bias": jnp.full(2, float(name))}
        for name in parts.params["heads"]
    }
    outputs, _ = parts.apply(parts.params | {"heads": heads}, parts.batch_stats, x)
    chex.assert_trees_all_equal(outputs[:, 0, 0], jnp.arange(float(_HEADS)))


def test_batch_statistics_move_once_a_call_in_train_mode(module, parts, x):
    @jax.jit
    def run(batch_stats):
        return parts.apply(
            parts.params, batch_stats, x, train=True, rng=jax.random.key(0), method="represent"
        )

    outputs, stats = run(parts.batch_stats)
    chex.assert_trees_all_close(outputs.mean(axis=0), jnp.zeros(3), atol=1e-5)
    expected = {"mean": 0.1 * x.mean(axis=0), "var": 0.9 + 0.1 * x.var(axis=0)}
    chex.assert_trees_all_close(stats, {"norm": expected}, rtol=1e-4)
    # A second call goes on from what it is given, and nothing is remembered in between.
    _, again = run(stats)
    expected = {name: 0.9 * value for name, value in expected.items()}
    expected["mean"] += 0.1 * x.mean(axis=0)
    expected["var"] += 0.1 * x.var(axis=0)
    chex.assert_trees_all_close(again, {"norm": expected}, rtol=1e-4)
    chex.assert_trees_all_equal(run(parts.batch_stats), (outputs, stats))
    chex.assert_trees_all_equal(module.norm.mean[...], jnp.zeros(3))


def test_dropout_is_decided_by_the_key(parts):
    ones = jnp.ones((4, 16))

    @jax.jit
    def run(key):
        outputs, _ = parts.apply(
            parts.params, parts.batch_stats, ones, train=True, rng=key, method="drop"
        )
        return outputs

    first, second = run(jax.random.key(0))
    assert set(np.unique(first)) == {0.0, 2.0}
    assert not np.array_equal(first, second)  # each layer has its own mask
    chex.assert_trees_all_equal(run(jax.random.key(0)), [first, second])
    other, _ = run(jax.random.key(1))
    assert not np.array_equal(first, other)


def test_eval_mode_has_no_dropout(parts):
    ones = jnp.ones((2, 4))
    for rng in (None, jax.random.key(0)):
        outputs, _ = parts.apply(parts.params, parts.batch_stats, ones, rng=rng, method="drop")
        chex.assert_trees_all_equal(outputs, [ones, ones])


def test_training_with_dropout_needs_a_key(parts, x):
    with pytest.raises(ValueError, match="rng"):
        parts.apply(parts.params, parts.batch_stats, x, train=True)


def test_training_without_random_layers_needs_no_key():
    apply, params, batch_stats = functional(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    assert batch_stats == {}
    outputs, batch_stats = apply(params, batch_stats, jnp.ones((1, 3)), train=True)
    chex.assert_shape(outputs, (1, 2))
    assert batch_stats == {}


def test_stacked_copies_equal_separate_ones(x):
    keys = jax.random.split(jax.random.key(3), 3)
    apply = functional(nnx.eval_shape(lambda: _Network(rngs=nnx.Rngs(0)))).apply
    params, batch_stats = jax.vmap(lambda key: functional(_Network(rngs=nnx.Rngs(key)))[1:])(keys)
    run = jax.jit(
        jax.vmap(lambda p, s, key: apply(p, s, x, train=True, rng=key), in_axes=(0, 0, None))
    )
    outputs, new_stats = run(params, batch_stats, jax.random.key(0))
    chex.assert_tree_shape_prefix((params, batch_stats, outputs, new_stats), (3,))
    for i, key in enumerate(keys):
        single = functional(_Network(rngs=nnx.Rngs(key)))
        copy = jax.tree.map(lambda leaf, i=i: leaf[i], (params, batch_stats))
        chex.assert_trees_all_close(copy, (single.params, single.batch_stats), rtol=1e-6)
        expected, _ = single.apply(*copy, x, train=True, rng=jax.random.key(0))
        chex.assert_trees_all_close(outputs[i], expected, rtol=1e-5, atol=1e-5)
    assert not np.array_equal(params["heads"]["0"]["kernel"][0], params["heads"]["0"]["kernel"][1])


def test_optax_step_and_donation(x):
    apply, params, batch_stats = functional(_Network(rngs=nnx.Rngs(0)))
    optimizer = optax.adam(1e-2)
    opt_state = optimizer.init(params)

    def step(params, batch_stats, opt_state, rng):
        def loss(params):
            outputs, new_stats = apply(params, batch_stats, x, train=True, rng=rng)
            return jnp.mean(outputs**2), new_stats

        (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, value

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    structure = jax.tree.structure(params)
    losses = []
    for seed in range(3):
        # The step traces `apply` once and then runs on donated arrays: it must hold none itself.
        params, batch_stats, opt_state, value = step(
            params, batch_stats, opt_state, jax.random.key(seed)
        )
        losses.append(float(value))
    assert jax.tree.structure(params) == structure
    assert losses[2] < losses[0]


def test_apply_outlives_the_arrays_of_the_module(x):
    apply, params, batch_stats = functional(_Network(rngs=nnx.Rngs(0)))
    copy = jax.tree.map(lambda leaf: leaf + 0, (params, batch_stats))
    jax.tree.map(lambda leaf: leaf.delete(), (params, batch_stats))
    chex.assert_tree_all_finite(apply(*copy, x))


def test_orbax_restores_without_a_template(parts, x, tmp_path):
    checkpoint = pytest.importorskip("orbax.checkpoint")
    saved = {"params": parts.params, "batch_stats": parts.batch_stats}
    with checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "step")
    chex.assert_trees_all_equal(restored, saved)
    chex.assert_trees_all_equal(
        parts.apply(restored["params"], restored["batch_stats"], x),
        parts.apply(parts.params, parts.batch_stats, x),
    )


def test_wrong_trees_are_named(parts, x):
    without = {name: tree for name, tree in parts.params.items() if name != "norm"}
    with pytest.raises(ValueError, match=r"params: missing \['norm/bias', 'norm/scale'\]"):
        parts.apply(without, parts.batch_stats, x)
    more = parts.batch_stats | {"more": jnp.zeros(2)}
    with pytest.raises(ValueError, match=r"batch_stats: .* not in the module \['more'\]"):
        parts.apply(parts.params, more, x)


def test_other_state_has_no_place():
    with pytest.raises(ValueError, match=r"memory \(Variable\)"):
        functional(_Remembering())
