"""Bad input, refused by name while tracing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax import testing
from tests.helpers import samplers

T = 3
PARTS = {
    "db_mtl": dbmtl.db_mtl,
    "scale_by_log_loss": dbmtl.scale_by_log_loss,
    "task_ema": dbmtl.task_ema,
    "balance_magnitudes": dbmtl.balance_magnitudes,
    "sum_tasks": dbmtl.sum_tasks,
}


@pytest.fixture(params=PARTS)
def part(request):
    return PARTS[request.param]


def test_unstacked_gradients_are_refused(part):
    unstacked = jax.tree.map(lambda g: g[0], testing.sample_task_grads(T))
    message = "updates['dense']['bias']: expected shape (3, 2)"
    with pytest.raises(ValueError, match=re.escape(message) + r".*found \(2,\)"):
        samplers.step(part(T), updates=unstacked)


def test_another_number_of_tasks_is_refused(part):
    with pytest.raises(ValueError, match=r"expected shape \(3, 2\).*found \(4, 2\)"):
        samplers.step(part(T), updates=testing.sample_task_grads(4))


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
    with pytest.raises(ValueError, match=r": params\['scale'\] is only in params$"):
        samplers.step(part(T), updates=grads)


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
        samplers.step(PARTS[name](T), losses=None)


def test_losses_of_another_shape_are_refused(part):
    for losses in (jnp.ones(4), jnp.ones(()), jnp.ones((3, 1)), 1.0):
        with pytest.raises(ValueError, match=r"losses: expected shape \(3,\), found"):
            samplers.step(part(T), losses=losses)


def test_masks_of_another_kind_are_refused(part):
    for mask in (jnp.ones(3), jnp.ones(2, bool), jnp.array(True)):
        with pytest.raises(ValueError, match=r"task_mask: expected a bool array of shape \(3,\)"):
            samplers.step(part(T), task_mask=mask)


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
        samplers.step(tx)


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
    with pytest.raises(
        TypeError, match=r"params\['act'\]: expected an array of numbers, found function"
    ):
        dbmtl.METHODS[name](2).init({"w": jnp.ones(3), "act": lambda x: x})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a": "shared", "x": 1}, r"entry for params\['b'\]\[0\], found no 'b' in 'a', 'x'"),
        ({"a": 0, "b": 1, "c": 0}, r"labels\['c'\]: expected the path of a parameter"),
        ({"a": 0}, "found no 'b' in 'a'"),
        ({"a": 0, "b": [1]}, "found no 1 in 1"),
        ({}, "found no 'a' in "),
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
