"""Bad input: refused by name while tracing, or left out of the step and counted."""

import functools
import re
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
PARTS = {
    "db_mtl": dbmtl.db_mtl,
    "scale_by_log_loss": dbmtl.scale_by_log_loss,
    "task_ema": dbmtl.task_ema,
    "balance_magnitudes": dbmtl.balance_magnitudes,
    "sum_tasks": dbmtl.sum_tasks,
}


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


@pytest.fixture(params=PARTS)
def part(request):
    return PARTS[request.param]


def step(tx, **kwargs):
    params = testing.sample_params()
    arguments = {
        "updates": testing.sample_task_grads(T),
        "losses": testing.sample_losses(T),
    } | kwargs
    updates = arguments.pop("updates")
    return tx.update(updates, tx.init(params), params, **arguments)


def test_unstacked_gradients_are_refused(part):
    unstacked = jax.tree.map(lambda g: g[0], testing.sample_task_grads(T))
    message = "updates['dense']['bias']: expected shape (3, 2)"
    with pytest.raises(ValueError, match=re.escape(message) + r".*found \(2,\)"):
        step(part(T), updates=unstacked)


def test_another_number_of_tasks_is_refused(part):
    with pytest.raises(ValueError, match=r"expected shape \(3, 2\).*found \(4, 2\)"):
        step(part(T), updates=testing.sample_task_grads(4))


def test_leading_axis_is_checked_without_params(part):
    tx = part(T)
    state = tx.init(testing.sample_params())
    with pytest.raises(ValueError, match=r"updates\['dense'\]\['bias'\]: expected shape \(3, "):
        tx.update(testing.sample_task_grads(4), state, losses=testing.sample_losses(T))


def test_an_unstacked_gradient_never_broadcasts_into_the_average():
    """[3, 3] looks stacked for T = 3; only the average knows that it should be [3, 3, 3]."""
    tx = dbmtl.task_ema(3)
    with pytest.raises(ValueError, match=r"expected shape \(3, 3, 3\).*found \(3, 3\)"):
        tx.update(jnp.ones((3, 3)), tx.init(jnp.zeros((3, 3))))


def test_another_tree_is_refused(part):
    grads = testing.sample_task_grads(T)
    del grads["scale"]
    with pytest.raises(ValueError, match=r"params\['scale'\] is only in params"):
        step(part(T), updates=grads)


def test_gradients_that_do_not_fit_the_average_are_refused():
    """Without params nothing else knows their shapes: [3, 5] would broadcast against [3, 1]."""
    tx = dbmtl.task_ema(3)
    state = tx.init({"w": jnp.zeros(1)})
    message = r"updates\['w'\]: expected shape \(3, 1\) .*average\), found \(3, 5\)"
    with pytest.raises(ValueError, match=message):
        tx.update({"w": jnp.ones((3, 5))}, state)
    with pytest.raises(ValueError, match=r"updates: expected the tree of the state's average"):
        tx.update([jnp.ones((3, 1))], state)


@pytest.mark.parametrize("name", ["db_mtl", "scale_by_log_loss"])
def test_missing_losses_are_refused(name):
    with pytest.raises(TypeError, match=rf"losses: {name} needs .* shape \(3,\)"):
        step(PARTS[name](T), losses=None)


def test_losses_of_another_shape_are_refused(part):
    for losses in (jnp.ones(4), jnp.ones(()), jnp.ones((3, 1)), 1.0):
        with pytest.raises(ValueError, match=r"losses: expected shape \(3,\), found"):
            step(part(T), losses=losses)


def test_masks_of_another_kind_are_refused(part):
    for mask in (jnp.ones(3), jnp.ones(2, bool), jnp.array(True)):
        with pytest.raises(ValueError, match=r"task_mask: expected a bool array of shape \(3,\)"):
            step(part(T), task_mask=mask)


def test_numbers_of_tasks_are_checked(part):
    with pytest.raises(ValueError, match="num_tasks: expected at least 1, found 0"):
        part(0)
    for bad in (2.0, True, "3"):
        with pytest.raises(TypeError, match="num_tasks: expected an int"):
            part(bad)
    assert part(1).num_tasks == part(np.int64(1)).num_tasks == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": 1.0}, ValueError, r"beta: expected a number in \[0, 1\), found 1.0"),
        ({"beta": -0.1}, ValueError, "beta: expected a number"),
        ({"beta": "0.9"}, TypeError, "beta: expected a number, found '0.9'"),
        ({"beta": float("nan")}, ValueError, "beta: expected a number"),
        ({"scale": "maximum"}, ValueError, "scale: expected .*'max'.*found 'maximum'"),
        ({"scale": -1.0}, ValueError, "scale: expected"),
        ({"eps": -1e-8}, ValueError, "eps: expected"),
        ({"eps": True}, TypeError, "eps: expected a number, found True"),
    ],
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        dbmtl.db_mtl(T, **options)


def test_labels_are_checked(part):
    params = testing.sample_params()
    message = r"labels\['scale'\]: .*'frozen' or a task index in \[0, 3\), found "
    for bad in (3, -1, True, 1.0, "1"):
        with pytest.raises(ValueError, match=message + repr(bad)):
            part(T, labels={"dense": "shared", "scale": bad}).init(params)
    with pytest.raises(ValueError, match=r"labels: expected an entry for params\['scale'\]"):
        part(T, labels={"dense": "shared"}).init(params)


def test_own_leaves_come_without_the_task_axis(part):
    tx = part(T, labels={"dense": "shared", "scale": 1})
    with pytest.raises(ValueError, match=r"updates\['scale'\]: expected shape \(\).*task 1"):
        step(tx)


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
    _, state = step(tx)
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
        _, state = step(tx, updates=grads, losses=losses.at[BAD].set(value))
        np.testing.assert_array_equal(optax.tree.get(state, "skipped"), [0, 1, 0])
        assert optax.tree.get(state, "weights")[BAD] == 0
    _, state = step(tx, updates=grads, losses=losses.at[BAD].set(-1.0))
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
            update, _ = step(tx, losses=losses, task_mask=mask)
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


def test_another_methods_state_is_refused():
    grads = jnp.ones((2, 3))
    for state, found in ((dbmtl.db_mtl(2).init(grads[0]), "that of another method"), ((), "tuple")):
        with pytest.raises(TypeError, match=f"state: expected the state of mgda, found {found}"):
            dbmtl.mgda(2).update(grads, state, losses=jnp.ones(2))


def test_complex_losses_are_refused():
    tx = dbmtl.uw(2)
    with pytest.raises(TypeError, match="losses: expected real numbers, found complex64"):
        tx.update(jnp.ones((2, 3)), tx.init(jnp.zeros(3)), losses=jnp.ones(2, jnp.complex64))


def test_a_bound_of_losses_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match="above: expected a number, found 'zero'"):
        dbmtl.loss_balancer(2, lambda tasks, memory: (tasks.losses, memory), above="zero")


def test_a_path_without_a_label_is_named():
    labels = dbmtl.labels_by_path({"w": "shared"}.get)
    with pytest.raises(ValueError, match="labels: expected a label for the path 'b', found None"):
        dbmtl.mgda(2, labels=labels).init({"w": jnp.zeros(2), "b": jnp.zeros(2)})


def test_other_words_for_axes_are_refused():
    fun = dbmtl.per_task_value_and_grads(lambda p, x: jnp.sum(p * x), in_axes="seq")
    with pytest.raises(ValueError, match="in_axes: expected 'sequence', or axes"):
        fun(jnp.ones(3), jnp.ones((2, 3)))


@pytest.mark.parametrize("name", ["mgda", "db_mtl", "ew"])
def test_a_parameter_that_is_no_array_is_named(name):
    with pytest.raises(TypeError, match=r"params\['act'\]: expected an array, found function"):
        dbmtl.METHODS[name](2).init({"w": jnp.ones(3), "act": lambda x: x})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": "shared", "x": 1}, r"entry for params\['b'\]\[0\], found no 'b' in 'a', 'x'"),
        ({"a": 0, "b": 1, "c": 0}, r"labels\['c'\]: expected the path of a parameter"),
        ({"a": 0}, "found no 'b' in 'a'"),
        ({"a": 0, "b": [1]}, "found no 1 in 1"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        dbmtl.mgda(2, labels=labels).init({"a": jnp.ones(2), "b": [jnp.ones(2), jnp.ones(3)]})


def test_a_gradient_without_a_task_axis_hints_at_labels():
    params = {"w": jnp.ones(2)}
    tx = dbmtl.mgda(3)
    with pytest.raises(ValueError, match="this transformation needs labels"):
        tx.update(params, tx.init(params), params)


def test_an_encoder_and_heads_that_are_no_pair_are_refused():
    heads = [lambda v, z, x: v * z] * 2
    fun = dbmtl.encoder_value_and_task_grads(lambda p, x: p * x, heads)
    with pytest.raises(ValueError, match=r"params: expected a pair .*, found dict"):
        fun({"encoder": 2.0, "heads": (1.0, 3.0)}, 1.0)
