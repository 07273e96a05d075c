"""Methods of one's own: `gradient_balancer` and `loss_balancer`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing

GRADS = jnp.array([[3.0, 4.0], [0.0, 10.0]])
PARAMS = jnp.zeros(2)


def inverse_norms(num_tasks, **options):
    """A Gramian method in a few lines: unit gradients."""

    def weigh(tasks, memory):
        return 1 / jnp.where(tasks.norms > 0, tasks.norms, 1), memory

    return dbmtl.gradient_balancer(num_tasks, weigh, **options)


def decorrelated(num_tasks, labels=None):
    """Reads cosines, and counts its steps."""

    def weigh(tasks, memory):
        ridge = 0.1 * jnp.eye(num_tasks)
        return jnp.linalg.solve(tasks.cosines + ridge, jnp.ones(num_tasks)), memory + 1

    return dbmtl.gradient_balancer(
        num_tasks, weigh, init=lambda shared: jnp.zeros(()), reads="gramian", labels=labels
    )


def median_of_tasks(num_tasks, labels=None):
    """Reads rows, and returns updates."""

    def merge(tasks, memory):
        mean = jax.tree.map(lambda g: jnp.mean(g, axis=0), tasks.task_grads)
        return mean, jax.tree.map(lambda m, u: 0.9 * m + u, memory, mean)

    return dbmtl.gradient_balancer(
        num_tasks,
        merge=merge,
        init=lambda shared: jax.tree.map(jnp.zeros_like, shared),
        labels=labels,
    )


def focus(num_tasks, labels=None):
    """A loss balancer with memory."""

    def weigh(tasks, memory):
        slow = jnp.where(tasks.present, 0.9 * memory + 0.1 * tasks.losses, memory)
        return slow / jnp.sum(slow), slow

    return dbmtl.loss_balancer(
        num_tasks, weigh, init=lambda shared: jnp.ones(num_tasks), above=0.0, labels=labels
    )


def focus_then_pcgrad(num_tasks, labels=None):
    return optax.chain(focus(num_tasks, labels).scale_by, dbmtl.pcgrad(num_tasks, labels=labels))


OWN = [inverse_norms, decorrelated, median_of_tasks, focus, focus_then_pcgrad]


@pytest.mark.parametrize("factory", OWN)
def test_methods_of_ones_own_keep_the_contract(factory):
    testing.assert_contract(factory)


@pytest.mark.parametrize("per_leaf", [False, True])
def test_weights_make_the_update(per_leaf):
    tx = inverse_norms(2, per_leaf=per_leaf)
    grads = {"a": GRADS, "b": 2 * GRADS}
    updates, state = tx.update(grads, tx.init({"a": PARAMS, "b": PARAMS}))
    units = np.array([0.6, 0.8]) + np.array([0, 1])
    scale = 1 if per_leaf else 1 / np.sqrt(5)
    np.testing.assert_allclose(updates["a"], scale * units, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], (1 if per_leaf else 2) * scale * units, rtol=1e-6)
    seen = dbmtl.diagnostics(state)
    np.testing.assert_allclose(seen.norms, np.sqrt(5) * np.array([5, 10]), rtol=1e-6)
    assert (seen.weights is None) == per_leaf


def test_what_a_method_makes_wrong_of_good_rows_is_not_hidden():
    """Only where no row was computed any task may be the cause."""
    tx = dbmtl.gradient_balancer(2, merge=lambda tasks, memory: (jnp.full(2, jnp.nan), memory))
    updates, state = tx.update(GRADS, tx.init(PARAMS))
    assert np.all(np.isnan(updates))
    np.testing.assert_array_equal(state.skipped, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_weights_may_make_a_sum_whose_square_overflows(stream):
    """Its rows were read and are finite, so nothing is wrong with any task."""
    tx = dbmtl.gradient_balancer(2, lambda tasks, memory: (jnp.array([1e30, 1.0]), memory))
    fun = dbmtl.per_task_value_and_grads(lambda w, row: w @ row, stream=stream, mode="loop")
    updates, state = tx.update(fun(PARAMS, GRADS)[1], tx.init(PARAMS))
    np.testing.assert_allclose(updates, [3e30, 4e30], rtol=1e-6)
    np.testing.assert_array_equal(state.skipped, 0)


def test_own_parameters_get_the_weights_that_are_asked_for():
    labels = {"a": "shared", "b": 1}
    grads, params = {"a": GRADS, "b": jnp.ones(3)}, {"a": PARAMS, "b": jnp.zeros(3)}
    for own_weights, expected in ((None, 1.0), (lambda weights, memory: weights, 0.1)):
        tx = inverse_norms(2, labels=labels, own_weights=own_weights)
        updates, _ = tx.update(grads, tx.init(params), params)
        np.testing.assert_allclose(updates["b"], expected, rtol=1e-6)


def test_a_loss_balancer_has_both_forms():
    tx = focus(2)
    losses = jnp.array([1.0, 3.0])
    updates, state = tx.update(GRADS, tx.init(PARAMS), losses=losses)
    weights = np.array([1.0, 1.2]) / 2.2
    np.testing.assert_allclose(updates, weights @ np.asarray(GRADS), rtol=1e-6)
    np.testing.assert_allclose(dbmtl.diagnostics(state).loss_weights, weights, rtol=1e-6)
    scale = tx.scale_by
    stacked, _ = scale.update(GRADS, scale.init(PARAMS), losses=losses)
    np.testing.assert_allclose(stacked, weights[:, None] * np.asarray(GRADS), rtol=1e-6)


def test_the_scaling_form_has_the_arguments_of_the_method():
    tx = dbmtl.scale_by_uw(2, initial=0.0)
    stacked, _ = tx.update(GRADS, tx.init(PARAMS), losses=jnp.ones(2))
    np.testing.assert_allclose(stacked, np.asarray(GRADS) / 2, rtol=1e-6)
    with pytest.raises(TypeError, match="losses: scale_by_uw needs"):
        tx.update(GRADS, tx.init(PARAMS))
    with pytest.raises(TypeError):
        dbmtl.scale_by_uw(2, temperature=1.0)


def test_extra_arguments_of_update_reach_the_method():
    def weigh(tasks, memory):
        return tasks.extra_args["priorities"], memory

    tx = dbmtl.gradient_balancer(2, weigh, reads="sum")
    priorities = jnp.array([1.0, 0.5])
    updates, _ = tx.update(GRADS, tx.init(PARAMS), priorities=priorities, unknown="ignored")
    np.testing.assert_allclose(updates, [3, 9], rtol=1e-6)
    chained = optax.chain(tx, optax.sgd(1.0))
    updates, _ = chained.update(GRADS, chained.init(PARAMS), priorities=priorities)
    np.testing.assert_allclose(updates, [-3, -9], rtol=1e-6)


def test_the_first_memory_may_depend_on_the_shared_parameters():
    labels = {"a": "shared", "b": 0}
    seen = []

    def init(shared):
        seen.append([leaf.shape for leaf in jax.tree.leaves(shared)])
        return jnp.zeros(())

    tx = dbmtl.gradient_balancer(
        2, lambda tasks, memory: (jnp.ones(2), memory), init=init, labels=labels
    )
    tx.init({"a": jnp.zeros((4, 3)), "b": jnp.zeros(7)})
    assert seen == [[(4, 3)]]


def test_scales_in_front_are_seen_by_norms_cosines_and_gradients():
    seen = {}

    def weigh(tasks, memory):
        seen.update(norms=tasks.norms, gramian=tasks.gramian.matrix, grads=tasks.task_grads)
        return jnp.ones(2), memory

    from dbmtl_jax.core._transformation import fused

    read = dbmtl.gradient_balancer(2, weigh, reads="gramian")
    tx = fused(dbmtl.scale_by_log_loss(2), read, name="both")
    tx.update(GRADS, tx.init(PARAMS), losses=jnp.array([0.5, 10.0]))
    scaled = np.asarray(GRADS) / np.array([[0.5], [10.0]])
    np.testing.assert_allclose(seen["norms"], np.linalg.norm(scaled, axis=1), rtol=1e-5)
    np.testing.assert_allclose(seen["gramian"], scaled @ scaled.T, rtol=1e-5)
    np.testing.assert_allclose(seen["grads"], scaled, rtol=1e-5)


def test_averaged_norms_are_read_along_the_gradients_which_are_summed_as_they_are():
    seen = {}

    def weigh(tasks, memory):
        seen.update(norms=tasks.norms, grads=tasks.task_grads)
        return jnp.ones(2), memory

    from dbmtl_jax.core._task_ema import averaging
    from dbmtl_jax.core._transformation import fused

    parts = dbmtl.scale_by_constant(2, weights=[2.0, -1.0]), averaging(2, 0.5, average="norms")
    tx = fused(*parts, dbmtl.gradient_balancer(2, weigh, reads="rows"), name="all")
    scaled = np.array([[6.0, 8.0], [0.0, -10.0]])
    state = tx.init(PARAMS)
    for factor, size in ((1.0, 1.0), (4.0, 3.0)):  # (0.25 + 0.5 · 4) / (1 - 0.25)
        updates, state = tx.update(factor * GRADS, state, losses=jnp.ones(2))
        np.testing.assert_allclose(seen["norms"], [10 * size, 10 * size], rtol=1e-6)
        np.testing.assert_allclose(seen["grads"], size * scaled, rtol=1e-6)
        np.testing.assert_allclose(updates, factor * scaled.sum(axis=0), rtol=1e-6)


def test_absent_tasks_have_no_norm_and_no_cosine():
    seen = {}

    def weigh(tasks, memory):
        seen.update(norms=tasks.norms, cosines=tasks.cosines, grads=tasks.task_grads)
        return jnp.ones(3), memory

    tx = dbmtl.gradient_balancer(3, weigh, reads="gramian")
    rows = jnp.array([[3.0, 4.0], [0.0, 10.0], [1.0, 0.0]])
    tx.update(rows, tx.init(PARAMS), task_mask=jnp.array([True, False, True]))
    np.testing.assert_allclose(seen["norms"], [5, 0, 1], rtol=1e-6)
    np.testing.assert_allclose(seen["cosines"], [[1, 0, 0.6], [0, 0, 0], [0.6, 0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(seen["grads"], rows * jnp.array([[1.0], [0.0], [1.0]]))


def test_fused_transformations_are_the_chain():
    """DB-MTL reads the gradients once; its parts in an `optax.chain` give the same."""
    parts = (dbmtl.scale_by_log_loss(3), dbmtl.task_ema(3, 0.8), dbmtl.balance_magnitudes(3))
    whole, chained = dbmtl.db_mtl(3, 0.8), optax.chain(*parts)
    state, other = (tx.init(testing.sample_params()) for tx in (whole, chained))
    for k in range(3):
        grads, losses = testing.sample_task_grads(3, k), testing.sample_losses(3, k)
        found, state = whole.update(grads, state, losses=losses)
        expected, other = chained.update(grads, other, losses=losses)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), found, expected)


def test_what_comes_out_is_optaxs_and_tells_its_parts():
    tx = dbmtl.db_mtl(3)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    assert isinstance(tx, dbmtl.TaskTransformation)
    assert (tx.num_tasks, tx.name, len(tx.parts)) == (3, "db_mtl", 2)
    assert tx.aggregator.reads == "norms"
    init, update = tx
    assert (init, update) == (tx.init, tx.update)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, TypeError, "weigh, merge: expected one of the two, found neither"),
        (
            {"weigh": len, "merge": len},
            TypeError,
            "weigh, merge: expected one .* found both",
        ),
        ({"weigh": len, "reads": "everything"}, ValueError, "reads: expected one of .*'sum'"),
        ({"merge": len, "reads": "norms"}, TypeError, "reads: expected None with merge"),
        ({"merge": len, "own_weights": len}, TypeError, "own_weights: expected None with merge"),
        (
            {"weigh": len, "per_leaf": True, "own_weights": len},
            TypeError,
            "own_weights: expected None with per_leaf",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        dbmtl.gradient_balancer(2, **arguments)


def test_weights_of_another_shape_are_refused():
    tx = dbmtl.gradient_balancer(2, lambda tasks, memory: (jnp.ones(3), memory))
    with pytest.raises(ValueError, match=r"weigh: expected weights of shape \(2,\), found \(3,\)"):
        tx.update(GRADS, tx.init(PARAMS))
    balancer = dbmtl.loss_balancer(2, lambda tasks, memory: (jnp.ones(()), memory))
    with pytest.raises(ValueError, match=r"weigh: expected weights of shape \(2,\), found \(\)"):
        balancer.update(GRADS, balancer.init(PARAMS), losses=jnp.ones(2))


@pytest.mark.parametrize(
    ("tx", "name"), [(focus(2), "focus"), (focus(2).scale_by, "scale_by_focus")]
)
def test_errors_name_the_function_that_makes_the_method(tx, name):
    state = tx.init(PARAMS)
    with pytest.raises(TypeError, match=f"losses: {name} needs the raw task losses"):
        tx.update(GRADS, state)


def two(value, memory=()):
    """A function that returns these, whatever it sees."""
    return lambda tasks, _: (value, memory)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dbmtl.gradient_balancer(2, 3), TypeError, "^weigh: expected a function"),
        (lambda: dbmtl.gradient_balancer(2, merge=3), TypeError, "^merge: expected a function"),
        (
            lambda: dbmtl.gradient_balancer(2, two(1), own_weights=jnp.ones(2)),
            TypeError,
            "^own_weights: expected a function",
        ),
        (lambda: dbmtl.gradient_balancer(2, two(1), init=3), TypeError, "^init: expected a func"),
        (lambda: dbmtl.loss_balancer(2, None), TypeError, "^weigh: expected a function"),
        (lambda: dbmtl.loss_balancer(2, two(1), init=3), TypeError, "^init: expected a function"),
    ],
)
def test_what_is_no_function_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weigh": lambda t, m: jnp.ones(2)}, TypeError, "weigh: expected a pair .weights, memory"),
        ({"weigh": lambda t, m: (1, 2, 3)}, TypeError, "weigh: expected a pair .* a tuple of 3"),
        ({"merge": lambda t, m: None}, TypeError, "merge: expected a pair .* found NoneType"),
        (
            {"merge": two(jnp.ones((2, 3)))},
            ValueError,
            r"merge: updates: expected shape \(3,\) \(that of the shared parameters\)",
        ),
        ({"merge": two({"w": jnp.ones(3)})}, ValueError, "merge: updates: expected the tree of"),
        (
            {"weigh": two(jnp.ones(2), jnp.ones(3)), "init": lambda shared: jnp.ones(2)},
            ValueError,
            r"memory: expected shape \(2,\) \(that of the memory before the step\), found \(3,\)",
        ),
        (
            {"weigh": two(jnp.ones(2), None), "init": lambda shared: jnp.ones(2)},
            ValueError,
            "memory: expected the tree of the memory before the step",
        ),
    ],
)
def test_what_functions_return_is_checked(options, error, message):
    tx = dbmtl.gradient_balancer(2, **options)
    with pytest.raises(error, match=message):
        tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)))
