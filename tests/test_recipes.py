"""The guide's recipes for models of Flax and Equinox, run as they stand there."""

import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl

GUIDES = pathlib.Path(__file__).parent.parent / "docs" / "guides"
X = jax.random.normal(jax.random.key(0), (16, 4))
Y = jnp.stack([jnp.sin(X[:, 0]), 100 * X[:, 1]], axis=1)


def recipe(page, word):
    """The block of code of a page that contains a word."""
    text = (GUIDES / f"{page}.md").read_text("utf-8")
    (found,) = (
        code for code in re.findall(r"^```python\n(.*?)^```", text, re.S | re.M) if word in code
    )
    return found


def test_a_train_state_that_passes_losses_on():
    flax = pytest.importorskip("flax")
    pytest.importorskip("flax.training.train_state")
    params = {"w": jnp.ones((4, 2))}
    tx = dbmtl.chain(dbmtl.db_mtl(2), optax.sgd(0.1))
    losses, grads = dbmtl.value_and_task_grads(lambda p: jnp.mean((X @ p["w"] - Y) ** 2, axis=0))(
        params
    )
    definition, _, step = recipe("frameworks", "TrainState").rpartition("state = ")
    definition = definition.partition("\n\n\n")[0]
    names = {"flax": flax, "optax": optax, "grads": grads, "losses": losses}
    exec(definition, names)
    create = names["MultiTaskTrainState"].create
    names["state"] = create(apply_fn=None, params=params, tx=tx)
    exec(f"state = {step}", names)
    updates, _ = tx.update(grads, tx.init(params), params, losses=losses)
    expected = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(names["state"].params, expected)
    assert names["state"].step == 1
    with pytest.raises(TypeError, match=r"TrainState\.apply_gradients drops them"):
        names["state"].apply_gradients(grads=grads)


def test_a_dynamic_scale_leaves_out_the_tasks_that_overflow_alone():
    dynamic_scale = pytest.importorskip("flax.training.dynamic_scale")

    def loss_fn(params, batch):
        """The second loss's gradient overflows in float16 for a scale of 2^15 and more."""
        first, second = batch.astype(jnp.float16) * params.astype(jnp.float16)
        return [
            0.1 * jnp.mean(first**2).astype(jnp.float32),
            8 * jnp.mean((second - 4) ** 2).astype(jnp.float32),
        ]

    tx = dbmtl.chain(dbmtl.db_mtl(2), optax.sgd(0.01))
    names = {"dbmtl": dbmtl, "jax": jax, "jnp": jnp, "optax": optax, "tx": tx, "loss_fn": loss_fn}
    exec(recipe("mixed_precision", "dynamic.scale"), names)
    params = jnp.full((2, 1), 0.25)
    dynamic = dynamic_scale.DynamicScale(growth_interval=3, scale=jnp.float32(2.0**15))
    state, scales, present = tx.init(params), [], []
    step = jax.jit(names["step"])
    for _ in range(8):
        before = params
        dynamic, params, state = step(dynamic, params, state, jnp.ones((2, 4)))
        assert np.all(np.isfinite(params))
        assert not np.array_equal(before, params)  # the other task goes on
        scales.append(float(dynamic.scale))
        present.append(np.asarray(dbmtl.diagnostics(state).present).tolist())
    assert present[0] == [True, False]
    assert present[-1] == [True, True]
    assert scales[0] == 2.0**14
    assert max(scales) > min(scales)
    assert int(dbmtl.diagnostics(state).skipped[0]) == 0


@pytest.mark.parametrize("by_path", [False, True])
def test_an_equinox_model_with_labels(by_path):
    eqx = pytest.importorskip("equinox")

    class Model(eqx.Module):
        encoder: eqx.nn.MLP
        heads: list

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.encoder = eqx.nn.MLP(4, 8, 8, 1, key=keys[0])
            self.heads = [eqx.nn.Linear(8, 1, key=k) for k in keys[1:]]

        def __call__(self, x):
            z = self.encoder(x)
            return jnp.concatenate([head(z) for head in self.heads])

    def losses_of_model(model, x, y):
        outputs = jax.vmap(model)(x)
        return [jnp.mean((outputs[:, t] - y[:, t]) ** 2) for t in range(2)]

    model = Model(jax.random.key(1))
    # A tree of labels of the model's own type, which can be called.
    labels = jax.tree.map(lambda _: "shared", eqx.filter(model, eqx.is_inexact_array))
    for t in range(2):
        mine = jax.tree.map(lambda _, t=t: t, labels.heads[t])
        labels = eqx.tree_at(lambda m, t=t: m.heads[t], labels, mine)
    if by_path:
        labels = dbmtl.labels_by_path(
            lambda path: int(path.split("/")[1]) if path.startswith("heads") else "shared"
        )
    names = {"eqx": eqx, "dbmtl": dbmtl, "labels": labels, "x": X, "y": Y}
    names |= {"model": model, "losses_of_model": losses_of_model}
    exec(recipe("frameworks", "eqx.partition"), names)

    tx = dbmtl.chain(dbmtl.db_mtl(2, labels=labels), optax.adam(1e-2))
    params, fun = names["params"], dbmtl.value_and_task_grads(names["losses_of"], labels=labels)

    @eqx.filter_jit
    def step(params, state):
        losses, grads = fun(params, X, Y)
        updates, state = tx.update(grads, state, params, losses=losses)
        return eqx.apply_updates(params, updates), state, losses

    state, seen = tx.init(params), []
    for _ in range(60):
        params, state, losses = step(params, state)
        seen.append(jnp.stack(losses))
    assert np.all(np.asarray(seen[-1]) < 0.9 * np.asarray(seen[0]))
