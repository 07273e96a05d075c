"""The gradients of further batches: what they must be, and who takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.core._other_batches import products

FIRST = jnp.array([[1.0, 0.0], [0.0, 2.0]])
SECOND = jnp.array([[2.0, 1.0], [-1.0, 3.0]])
PARAMS = jnp.zeros(2)
METHODS = {"modo": dbmtl.modo, "sdmgrad": dbmtl.sdmgrad}


def updated(tx, grads, others, params=PARAMS, **extra):
    return tx.update(grads, tx.init(params), params, other_grads=others, **extra)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [1e-6, 2e4, 1e6])
def test_weights_stay_on_the_simplex(name, size):
    tx = METHODS[name](2)
    grads, state = size * jnp.array([[1.0, 0.2], [0.1, 2.0]]), tx.init(PARAMS)
    for _ in range(3):
        _, state = tx.update(grads, state, PARAMS, other_grads=[grads])
        np.testing.assert_allclose(jnp.sum(state.aggregator), 1, rtol=1e-5)


def test_opposite_batches_leave_weights_on_the_simplex():
    _, state = updated(dbmtl.sdmgrad(2), jnp.eye(2), [-jnp.eye(2)])
    np.testing.assert_allclose(state.weights, 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_bad_row_of_another_batch_skips_its_task(name):
    labels = {"w": "shared", "head": 0}
    tx = METHODS[name](2, labels=labels)
    params = {"w": PARAMS, "head": jnp.zeros(())}
    grads = {"w": FIRST, "head": jnp.ones(())}
    other = {"w": SECOND.at[0, 0].set(jnp.nan), "head": jnp.ones(())}
    found, state = updated(tx, grads, [other], params)
    assert list(state.present) == [False, True]
    assert list(state.skipped) == [1, 0]
    assert found["head"] == 0
    assert bool(jnp.all(jnp.isfinite(found["w"])))


def test_products_of_complex_batches_are_those_of_real_and_imaginary_parts():
    first, second = (
        jax.random.normal(key, (3, 4), jnp.complex64) for key in jax.random.split(jax.random.key(0))
    )
    found = products([first], [second], jnp.array([True, False, True]))
    rows = [np.concatenate([x.real, x.imag], axis=1)[[0, 2]] for x in (first, second)]
    np.testing.assert_allclose(found[::2, ::2], rows[0] @ rows[1].T, rtol=1e-5)
    np.testing.assert_array_equal(found[1], 0)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_without_a_task_moves_no_weight(name):
    tx = METHODS[name](2)
    _, state = updated(tx, FIRST, [SECOND])
    before = state.aggregator
    found, state = tx.update(
        FIRST, state, PARAMS, other_grads=[SECOND], task_mask=jnp.zeros(2, bool)
    )
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(state.aggregator, before)


def test_half_precision_does_not_overflow():
    grads = jnp.array([[4e4, 0], [0.0, 4e4]], jnp.float16)
    found, _ = updated(dbmtl.modo(2, gamma=0.0), grads, [grads], jnp.zeros(2, jnp.float16))
    np.testing.assert_allclose(found, 2e4, rtol=1e-3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: dbmtl.smooth_weights(dbmtl.sdmgrad(2)), TypeError, "weighs the gradients of one"),
        (lambda: dbmtl.multi_steps(dbmtl.modo(2), 2), TypeError, "as multi_steps averages"),
        (
            lambda: dbmtl.chain(dbmtl.scale_by_log_loss(2), dbmtl.modo(2)),
            TypeError,
            r"as part 0 \(scale_by_log_loss\) stands in front",
        ),
        (
            lambda: dbmtl.sdmgrad(2, measured=True),
            TypeError,
            "other_grads: expected None with measured=",
        ),
    ],
)
def test_who_cannot_take_them_says_so(make, error, message):
    with pytest.raises(error, match=message):
        updated(make(), FIRST, [SECOND], losses=jnp.ones(2))


@pytest.mark.parametrize("name", METHODS)
def test_another_tree_is_refused(name):
    tx = METHODS[name](2)
    params = {"a": PARAMS, "b": PARAMS}
    grads = {"a": FIRST, "b": SECOND}
    for other in ([FIRST, SECOND], {"a": FIRST, "c": SECOND}, {"a": FIRST}):
        with pytest.raises(ValueError, match=r"other_grads\[0\]: expected a tree like the updates"):
            updated(tx, grads, [other], params)


@pytest.mark.parametrize("name", METHODS)
def test_pending_gradients_are_named(name):
    fun = dbmtl.value_and_task_grads(lambda w: [w.sum(), (w**2).sum()], stream=True)
    with pytest.raises(
        TypeError, match=r"other_grads\[0\]: expected stacked gradients, found pend"
    ):
        updated(METHODS[name](2), FIRST, [fun(PARAMS)[1]])


def test_a_method_within_a_wrapper_gets_them():
    build = optax.inject_hyperparams(dbmtl.modo, static_args=("num_tasks",))
    tx = dbmtl.chain(build(2, gamma=0.5), optax.sgd(1.0))
    found, _ = updated(tx, FIRST, [SECOND])
    expected, _ = updated(dbmtl.modo(2, gamma=0.5), FIRST, [SECOND])
    np.testing.assert_allclose(found, -expected, rtol=1e-6)


def test_optimizers_without_task_arguments_do_not_see_them():
    tx = dbmtl.chain(dbmtl.modo(2), dbmtl.without_task_args(optax.lbfgs()))
    w = jnp.ones(2)

    def value(w):
        return jnp.sum(w**2)

    found, _ = updated(tx, FIRST, [SECOND], w, value=value(w), grad=2 * w, value_fn=value)
    assert bool(jnp.all(jnp.isfinite(found)))
