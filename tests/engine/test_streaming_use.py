"""Pending gradients in the wrong place, options that do not go together, and what "auto" chose."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.engine._pending_rows import write_in_loop, write_selected


def pending_pair():
    return dbmtl.value_and_task_grads(lambda p: (p["a"].sum(), (p["a"] ** 2).sum()), stream=True)(
        {"a": jnp.ones((2, 5))}
    )[1]


def test_bad_input_is_refused():
    params = {"a": jnp.ones((2, 5))}
    pending = pending_pair()
    tx = dbmtl.db_mtl(3)
    with pytest.raises(
        ValueError, match=r"updates\['a'\]: expected shape \(3, 2, 5\).*\(2, 2, 5\)"
    ):
        tx.update(pending, tx.init(params), params, losses=jnp.ones(3))
    tx = dbmtl.db_mtl(2)
    with pytest.raises(ValueError, match=r"params\['b'\] is only in params"):
        tx.update(pending, tx.init(params), params | {"b": jnp.ones(2)}, losses=jnp.ones(2))
    with pytest.raises(TypeError, match="losses: db_mtl needs the raw task losses"):
        tx.update(pending, tx.init(params), params)
    labelled = dbmtl.db_mtl(2, labels=lambda p: {"a": 1})
    with pytest.raises(ValueError, match="labelled a parameter of task 1 alone"):
        labelled.update(pending, labelled.init(params), params, losses=jnp.ones(2))


@pytest.mark.parametrize("tx", [optax.sgd(1.0), optax.adam(1.0), optax.scale(2.0)])
def test_other_transformations_refuse_them(tx):
    params = {"a": jnp.ones((2, 5))}
    with pytest.raises((TypeError, ValueError, AttributeError), match=r"pending|PendingTaskGrads"):
        optax.chain(tx, dbmtl.ew(2)).update(
            pending_pair(), optax.chain(tx, dbmtl.ew(2)).init(params), params
        )


def test_leaves_of_pending_gradients_stay_together():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    fun = dbmtl.value_and_task_grads(lambda p: [p["a"].sum(), p["b"].sum()], stream=True)
    _, grads = fun(params)
    (a, b), tx = grads.leaves(), dbmtl.ew(2)
    updates, state = tx.update({"a": a, "b": b}, tx.init(params))
    np.testing.assert_array_equal(updates["b"], 1)
    for tree in ({"a": a}, {"a": b, "b": a}, {"a": a, "b": jnp.ones((2, 2))}):
        with pytest.raises(TypeError, match="expected all leaves of pending task gradients"):
            tx.update(tree, state)


def test_what_maps_over_the_tree_is_refused():
    with pytest.raises(TypeError, match=r"these task gradients are pending .*`\.stacked\(\)`"):
        jax.tree.map(lambda leaf: leaf, pending_pair())


def test_options_are_checked():
    for engine in (
        dbmtl.value_and_task_grads,
        lambda f, **k: dbmtl.encoder_value_and_task_grads(f, [f], **k),
    ):
        with pytest.raises(ValueError, match="chunk_size: expected None with stream=True"):
            engine(jnp.sum, stream=True, chunk_size=2)
        with pytest.raises(
            ValueError, match='mode: expected "auto", "unroll" or "loop" with stream'
        ):
            engine(jnp.sum, stream=True, mode="vmap")


def test_auto_tells_what_it_chose(caplog):
    def convolution(p):
        out = jax.lax.conv_general_dilated(p[None, None], p[None, None], (1, 1), "SAME")
        return [out.sum(), out.max()]

    caplog.set_level(logging.DEBUG, "dbmtl_jax")
    dbmtl.value_and_task_grads(lambda p: (p.sum(), p.max()))(jnp.ones((3, 3)))
    dbmtl.value_and_task_grads(lambda p: (p.sum(), p.max()), stream=True)(jnp.ones((3, 3)))
    dbmtl.value_and_task_grads(convolution, stream=True)(jnp.ones((3, 3)))
    dbmtl.per_task_value_and_grads(lambda p, x: (p * x).sum())(jnp.ones(3), jnp.ones((2, 3)))
    messages = [r.getMessage() for r in caplog.records if r.name == "dbmtl_jax"]
    assert messages[0].endswith(": 2 tasks, no convolutions")
    assert messages[2].endswith(": 2 tasks, with convolutions, streaming")
    assert [message.split(":")[0] for message in messages] == [
        'mode="auto" is "unroll" on CPUs, "unroll" on TPUs and "vmap" elsewhere',
        'mode="auto" is "loop" on CPUs, "loop" on TPUs and "loop" elsewhere',
        'mode="auto" is "unroll" on CPUs, "loop" on TPUs and "loop" elsewhere',
        'mode="auto" is "unroll" on CPUs, "unroll" on TPUs and "vmap" elsewhere',
    ]


@pytest.mark.parametrize("usable", [True, False])
def test_a_row_is_written_in_the_same_way_on_every_platform(usable):
    stacked = [jnp.arange(6.0).reshape(3, 2), jnp.ones((3, 4))]
    row = [jnp.full(2, 7.0), jnp.full(4, 9.0 if usable else jnp.nan)]
    for task in (1, jnp.array(2)):
        looped, selected = (
            write(jnp.array(usable), stacked, row, task)
            for write in (write_in_loop, write_selected)
        )
        chex.assert_trees_all_equal(looped, selected)
        changed = [leaf.at[task].set(new) for leaf, new in zip(stacked, row, strict=True)]
        chex.assert_trees_all_equal(looped, changed if usable else stacked)
