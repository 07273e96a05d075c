"""Options that are computed: under `optax.inject_hyperparams`, `jax.vmap` and from schedules."""

import functools
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from dbmtl_jax.core._types import Count

T = 3
GRADS, LOSSES = testing.sample_task_grads(T), testing.sample_losses(T)
PARAMS = testing.sample_params()
VALUES = ["db_mtl", "nash_mtl", "cagrad", "meta_balance", "dwa", "grad_vac"]
"""Methods that take the other branch of an option if it is traced."""


def injected(name, **options):
    build = optax.inject_hyperparams(dbmtl.METHODS[name], static_args=("num_tasks",))
    return build(num_tasks=T, **options)


def update(tx, state=None):
    state = tx.init(PARAMS) if state is None else state
    return tx.update(GRADS, state, PARAMS, losses=LOSSES, other_grads=[GRADS])  # of MoDo


@pytest.mark.parametrize("name", dbmtl.METHODS)
def test_every_method_can_be_wrapped(name):
    tx = injected(name)
    state = tx.init(PARAMS)
    updates, moved = jax.eval_shape(functools.partial(update, tx), state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved.inner_state, state.inner_state)


@pytest.mark.parametrize("name", VALUES)
def test_options_may_be_traced(name):
    updates, _ = jax.jit(functools.partial(update, injected(name)))()
    expected, _ = jax.jit(functools.partial(update, dbmtl.METHODS[name](T)))()
    chex.assert_trees_all_close(updates, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        ("db_mtl", "beta", [0.0, 0.5]),
        ("cagrad", "c", [0.0, 0.4]),
        ("nash_mtl", "max_norm", [0.0, 0.5]),
        ("nash_mtl", "update_every", [1, 2]),
        ("meta_balance", "target", [0, 2]),
        ("dwa", "temperature", [1.0, 2.0]),
    ],
)
def test_vmap_over_an_option(name, option, values):
    def of(value):
        return update(dbmtl.METHODS[name](T, **{option: value}))[0]

    found = jax.jit(jax.vmap(of))(jnp.asarray(values))
    for i, value in enumerate(values):
        expected = jax.jit(functools.partial(of, value))()
        row = jax.tree.map(lambda x, i=i: x[i], found)
        chex.assert_trees_all_close(row, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("start", [0, 1])
def test_a_schedule_may_count_from_zero(start):
    schedule = dbmtl.inverse_power_schedule(0.9, 0.5)
    counts = [start + k for k in range(4)]
    np.testing.assert_allclose(
        [schedule(k) for k in counts], [0.9 / max(k, 1) ** 0.5 for k in counts], rtol=1e-6
    )


@pytest.mark.parametrize("beta", [1.0, 1.5, -0.5, np.inf])
def test_a_computed_beta_is_kept_in_range(beta):
    """A β of 1 would never let a gradient in, and a larger one makes the average grow."""
    tx = dbmtl.task_ema(1, beta=lambda count: jnp.asarray(beta, jnp.float32))
    state = tx.init(jnp.zeros(1))
    for _ in range(3):
        average, state = tx.update(jnp.ones((1, 1)), state)
        assert 0 < float(average[0, 0]) <= 1


def counts():
    """Every option of a method that counts steps or is a size, with the lowest value."""
    lowest = {"warmup_epochs": 0, "warmup_steps": 0, "base_epoch": 0, "train_from_epoch": 0}
    for name, factory in dbmtl.METHODS.items():
        for option, parameter in inspect.signature(factory).parameters.items():
            is_count = parameter.annotation in (Count, int | None)
            if option not in ("num_tasks", "target", "seed") and is_count:
                yield pytest.param(factory, option, lowest.get(option, 1), id=f"{name}-{option}")


@pytest.mark.parametrize(("factory", "option", "low"), list(counts()))
def test_counts_are_ints(factory, option, low):
    factory(T, **{option: low})
    factory(T, **{option: np.int64(low)})
    factory(T, **{option: jnp.asarray(low)})
    for wrong in (low + 0.5, True, jnp.asarray(low + 0.5), "2"):
        with pytest.raises(TypeError, match=rf"^{option}: expected an int, found"):
            factory(T, **{option: wrong})
    with pytest.raises(ValueError, match=rf"^{option}: expected an int of at least {low}, found"):
        factory(T, **{option: low - 1})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [("cagrad", "rescale", 1), ("igbv2", "batch_size", 4), ("igbv2", "buffer_size", 8)],
)
def test_what_cannot_be_traced_says_so(name, option, value):
    with pytest.raises(TypeError, match=rf"^{option}: expected .* list it in `static_args`"):
        jax.eval_shape(lambda: injected(name, **{option: value}).init(PARAMS))


def test_the_number_of_tasks_cannot_be_traced():
    with pytest.raises(TypeError, match=r"^num_tasks: expected an int .* `static_args`"):
        optax.inject_hyperparams(dbmtl.ew)(num_tasks=T).init(PARAMS)
