"""Tasks that go wrong: left out of the step, and counted."""

import functools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.gradient_balancing._balance_magnitudes import Scale
from tests.helpers import samplers

T = 3


def name_of(build):
    """Of a function or a partial one; the same in every process, where addresses differ."""
    options = getattr(build, "keywords", {}).values()
    plain = [str(value) for value in options if isinstance(value, str | float)]
    return " ".join([getattr(build, "func", build).__name__, *plain])


AGGREGATIONS = {name: factory(T) for name, factory in samplers.METHODS.items()} | {
    "db_mtl, no average": dbmtl.db_mtl(T, 0.0),
    "db_mtl, median": dbmtl.db_mtl(T, 0.9, scale="median"),
    "db_mtl, min": dbmtl.db_mtl(T, 0.9, scale="min"),
    "db_mtl, mean": dbmtl.db_mtl(T, 0.9, scale="mean"),
    "log, sum": optax.chain(dbmtl.scale_by_log_loss(T), dbmtl.sum_tasks(T)),
}


LOGARITHMIC = {name for name in AGGREGATIONS if name.startswith(("db_mtl", "gls", "igbv2", "log"))}
RANDOM = ("rlw", "igbv2", "pcgrad", "grad_drop", "grad_vac")
NO_LOGARITHM = ("negative loss", "loss of -eps")
BAD = 1  # the task that goes wrong


def bad_inputs():
    """Every way in which a task can go wrong: (gradients, losses) with task 1 unusable."""
    grads, losses = testing.sample_task_grads(T, seed=5), testing.sample_losses(T, seed=5)

    def spoil(value, leaf="scale"):
        return grads | {leaf: jax.tree.map(lambda g: g.at[BAD].set(value), grads[leaf])}

    one_entry = jax.tree.map(lambda g: g, grads)
    one_entry["dense"]["kernel"] = grads["dense"]["kernel"].at[BAD, 2, 1].set(jnp.nan)
    return {
        "negative loss": (grads, losses.at[BAD].set(-0.5)),
        "loss of -eps": (grads, losses.at[BAD].set(-1e-8)),
        "nan loss": (grads, losses.at[BAD].set(jnp.nan)),
        "infinite loss": (grads, losses.at[BAD].set(jnp.inf)),
        "nan gradient": (spoil(jnp.nan), losses),
        "nan in one entry": (one_entry, losses),
        "infinite gradient": (spoil(-jnp.inf, "dense"), losses),
        "nan everywhere": (
            jax.tree.map(lambda g: g.at[BAD].set(jnp.nan), grads),
            losses.at[BAD].set(jnp.nan),
        ),
    }


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_bad_task_is_as_if_masked(name):
    """The step is that of the other tasks, and the next ones go on as if it had been masked."""
    tx = AGGREGATIONS[name]
    params = testing.sample_params()
    everyone, mask = jnp.ones(T, bool), jnp.arange(T) != BAD

    @jax.jit
    def update(grads, state, losses, mask):
        return tx.update(grads, state, params, losses=losses, task_mask=mask)

    def bad_counts(state):
        return list(dbmtl.diagnostics(state).skipped)

    grads, losses = testing.sample_task_grads(T), testing.sample_losses(T)
    fine_grads, fine_losses = testing.sample_task_grads(T, seed=5), testing.sample_losses(T, seed=5)
    _, state = update(grads, tx.init(params), losses, everyone)
    expected, after_mask = update(fine_grads, state, fine_losses, mask)
    later, _ = update(grads, after_mask, losses, everyone)
    assert bad_counts(after_mask) == [0, 0, 0]
    for problem, (bad_grads, bad_losses) in bad_inputs().items():
        if problem in NO_LOGARITHM and name not in LOGARITHMIC:
            continue  # a loss may be negative where no logarithm is taken
        found, after = update(bad_grads, state, bad_losses, everyone)
        assert bad_counts(after) == [0, 1, 0], problem
        chex.assert_tree_all_finite((found, after))
        # Not bit for bit: the compiler splits its loops by which tasks are present.
        chex.assert_trees_all_close(found, expected, rtol=1e-5)
        chex.assert_trees_all_close(update(grads, after, losses, everyone)[0], later, rtol=1e-5)


def test_the_average_of_an_absent_task_stays_bit_for_bit():
    tx = dbmtl.db_mtl(T, 0.9)
    params = testing.sample_params()
    _, state = samplers.step(tx)
    before = jax.tree.map(lambda e: e[BAD], optax.tree.get(state, "ema"))
    for grads, losses in bad_inputs().values():
        _, state = tx.update(grads, state, params, losses=losses)
        after = jax.tree.map(lambda e: e[BAD], optax.tree.get(state, "ema"))
        chex.assert_trees_all_equal(before, after)
    assert optax.tree.get(state, "skipped")[BAD] == len(bad_inputs())


@pytest.mark.parametrize(
    "build",
    [
        *(functools.partial(dbmtl.db_mtl, beta=0.9, scale=s) for s in get_args(Scale)),
        functools.partial(dbmtl.db_mtl, beta=0.0),
        functools.partial(dbmtl.balance_magnitudes, scale=0.5),
        dbmtl.sum_tasks,
        *(build for name, build in samplers.METHODS.items() if name not in RANDOM),
    ],
    ids=name_of,
)
def test_a_masked_task_is_as_if_there_were_one_task_less(build):
    params = testing.sample_params()
    grads, losses = testing.sample_task_grads(T), testing.sample_losses(T)
    mask = jnp.arange(T) != BAD
    others = np.array([0, 2])
    whole, part = build(T), build(T - 1)
    update, state = whole.update(grads, whole.init(params), params, losses=losses, task_mask=mask)
    expected, expected_state = part.update(
        jax.tree.map(lambda g: g[others], grads), part.init(params), params, losses=losses[others]
    )
    chex.assert_trees_all_close(update, expected, rtol=1e-4, atol=1e-5)
    for field in {"norms", "weights"} & set(getattr(state.aggregator, "_fields", ())):
        found = optax.tree.get(state, field)
        assert found[BAD] == 0
        np.testing.assert_allclose(found[others], optax.tree.get(expected_state, field), rtol=1e-5)


@pytest.mark.parametrize("build", [dbmtl.sum_tasks, dbmtl.balance_magnitudes])
def test_a_loss_that_is_not_finite_leaves_its_task_out_also_without_a_logarithm(build):
    tx = build(T)
    grads, losses = testing.sample_task_grads(T), testing.sample_losses(T)
    for value in (jnp.nan, jnp.inf):
        _, state = samplers.step(tx, updates=grads, losses=losses.at[BAD].set(value))
        np.testing.assert_array_equal(optax.tree.get(state, "skipped"), [0, 1, 0])
        assert optax.tree.get(state, "weights")[BAD] == 0
    _, state = samplers.step(tx, updates=grads, losses=losses.at[BAD].set(-1.0))
    np.testing.assert_array_equal(optax.tree.get(state, "skipped"), 0)


def test_a_negative_loss_never_flips_a_sign():
    """Dividing by a negative loss would turn descent into ascent; the task must not move at all."""
    tx = optax.chain(dbmtl.scale_by_log_loss(1), dbmtl.sum_tasks(1))
    update, _ = tx.update(jnp.ones((1, 4)), tx.init(jnp.zeros(4)), losses=jnp.array([-2.0]))
    np.testing.assert_array_equal(update, 0)


def test_own_parameters_of_a_bad_task_stand_still():
    params = {"shared": jnp.zeros(2), "heads": [jnp.zeros(2), jnp.zeros(2)]}
    labels = {"shared": "shared", "heads": [0, 1]}
    grads = {"shared": jnp.ones((2, 2)), "heads": [jnp.ones(2), jnp.array([1.0, jnp.nan])]}
    tx = dbmtl.db_mtl(2, 0.9, labels=labels)
    update, state = tx.update(grads, tx.init(params), params, losses=jnp.ones(2))
    np.testing.assert_array_equal(update["heads"][1], 0)
    np.testing.assert_allclose(update["heads"][0], 1, rtol=1e-6)
    np.testing.assert_array_equal(optax.tree.get(state, "skipped"), [0, 1])
    np.testing.assert_array_equal(optax.tree.get(state, "ema")["shared"][1], 0)


def test_a_task_that_is_absent_stays_so_whatever_its_own_parameters_get():
    """Masked, or with a bad row: a gradient of its own that is finite does not bring it back."""
    params = {"shared": jnp.zeros(2), "heads": [jnp.zeros(2), jnp.zeros(2)]}
    tx = dbmtl.ew(2, labels={"shared": "shared", "heads": [0, 1]})
    rows = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    heads = [jnp.ones(2), jnp.ones(2)]
    for grads, mask, skipped in (
        (rows, jnp.array([True, False]), 0),
        (rows.at[1, 0].set(jnp.nan), None, 1),
    ):
        update, state = tx.update(
            {"shared": grads, "heads": heads}, tx.init(params), params, task_mask=mask
        )
        np.testing.assert_array_equal(update["shared"], rows[0])
        np.testing.assert_array_equal(update["heads"], [[1, 1], [0, 0]])
        np.testing.assert_array_equal(state.present, [True, False])
        np.testing.assert_array_equal(state.skipped, [0, skipped])


@pytest.mark.parametrize("tx", AGGREGATIONS.values(), ids=AGGREGATIONS)
def test_debug_nans_lets_masked_tasks_be(tx):
    mask = jnp.arange(T) != BAD
    for value in (jnp.nan, -1.0):
        losses = testing.sample_losses(T).at[BAD].set(value)
        with jax.debug_nans(True):
            update, _ = samplers.step(tx, losses=losses, task_mask=mask)
        chex.assert_tree_all_finite(update)


@pytest.mark.parametrize("problem", bad_inputs())
def test_debug_nans_raises_instead(problem):
    grads, losses = bad_inputs()[problem]
    tx = dbmtl.db_mtl(T, 0.9)
    params = testing.sample_params()
    state = tx.init(params)
    with jax.debug_nans(True):
        with pytest.raises(FloatingPointError, match="nan"):
            jax.block_until_ready(
                jax.jit(lambda g, s, p, loss: tx.update(g, s, p, losses=loss))(
                    grads, state, params, losses
                )
            )
        good = testing.sample_task_grads(T), state, params
        jax.jit(lambda g, s, p, loss: tx.update(g, s, p, losses=loss))(
            *good, testing.sample_losses(T)
        )
