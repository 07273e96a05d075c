"""Learnt weights survive losses of zero, negative ones and spikes; skipped tasks are reported."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from dbmtl_jax.core._transformation import fused

GRADS = jnp.eye(2)
FAST = optax.adam(1e-2)
LEARNING = ("uw", "imtl_l", "imtl", "grad_norm")


def run(tx, losses, steps, grads=GRADS, state=None):
    """Updates [steps, 2] and the last state, with losses [2] or [steps, 2]."""
    losses = jnp.broadcast_to(jnp.asarray(losses, jnp.float32), (steps, 2))

    def body(state, values):
        update, state = tx.update(grads, state, jnp.zeros(2), losses=values)
        return state, update

    state = tx.init(jnp.zeros(2)) if state is None else state
    state, updates = jax.jit(lambda s: jax.lax.scan(body, s, losses))(state)
    return np.asarray(updates), state


@pytest.mark.parametrize("name", LEARNING)
def test_a_solved_task_lets_the_other_train_on(name):
    tx = dbmtl.METHODS[name](2, weight_optimizer=FAST)
    updates, state = run(tx, [1.0, 0.0], 6000, jnp.array([[1.0, 0.0], [0.0, 0.0]]))
    assert np.all(np.isfinite(updates))
    assert np.all(updates[:, 0] > 0)
    values = optax.tree.get(state, "values")
    assert np.all(np.abs(values) <= 30)


def test_learnt_values_are_bounded_and_forget_what_overflows():
    """In one step: a learning rate of a million, and a slope whose square is infinite."""
    _, state = run(dbmtl.uw(2, weight_optimizer=optax.sgd(1e6)), [1e-9, 9.0], 1)
    np.testing.assert_array_equal(optax.tree.get(state, "values"), [-30, 30])
    _, state = run(dbmtl.uw(2), [9.0, 1e25], 1)  # Adam at 1e-4
    moved = optax.tree.get(state, "values") + 0.5
    np.testing.assert_allclose(moved, [1e-4, 0], atol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", ["uw", "imtl_l", "imtl"])
def test_a_negative_loss_leaves_its_task_out(name):
    tx = dbmtl.METHODS[name](2, weight_optimizer=FAST)
    updates, state = run(tx, [1.0, -0.5], 100)
    np.testing.assert_array_equal(updates[:, 1], 0)
    np.testing.assert_array_equal(dbmtl.diagnostics(state).skipped, [0, 100])


@pytest.mark.parametrize("name", LEARNING)
def test_a_spike_is_forgotten(name):
    """One loss of 1e20: Adam's second moment would be infinite for ever."""
    losses = np.ones((400, 2))
    losses[200, 1] = 1e20
    tx = dbmtl.METHODS[name](2, weight_optimizer=FAST)
    updates, state = run(tx, losses, 400)
    assert np.all(np.isfinite(updates))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
    before, after = (run(tx, [1.0, 3.0], n, state=state)[1] for n in (1, 101))
    moved = optax.tree.get(after, "values") - optax.tree.get(before, "values")
    if name != "grad_norm":  # whose weights learn from norms, which are those of before
        assert np.abs(moved[1]) > 0.1  # still learns


def test_the_weight_of_a_task_alone_stands_still():
    tx = dbmtl.grad_norm(2, weight_optimizer=optax.sgd(0.05))
    state = tx.init(jnp.zeros(2))
    grads = jnp.array([[0.1, 0.3], [7.0, 0.0]])
    for _ in range(8):
        mask = jnp.array([True, False])
        _, state = tx.update(grads, state, losses=jnp.ones(2), task_mask=mask)
    np.testing.assert_array_equal(optax.tree.get(state, "values"), 1)


def test_nash_mtl_solves_again_if_other_tasks_are_present():
    grads = jnp.array([[1.0, 0.0], [0.0, 1000.0]])
    rare, always = dbmtl.nash_mtl(2, update_every=5), dbmtl.nash_mtl(2)
    state, other = rare.init(jnp.zeros(2)), always.init(jnp.zeros(2))
    for k in range(6):
        mask = jnp.array([True, k != 0])
        found, state = rare.update(grads, state, task_mask=mask)
        expected, other = always.update(grads, other, task_mask=mask)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("tx", "losses", "expected"),
    [
        (dbmtl.stch(2, mu=0.01), [1e38, 1.0], [0.5, 0]),
        (dbmtl.stch(2, mu=1e-6), [3e38, 3e38], [0.25, 0.25]),
        (dbmtl.famo(2), [1e38, 1e38], [0.5, 0.5]),
        (dbmtl.famo(2), [3e38, 1e30], [0, 1]),
    ],
)
def test_losses_as_large_as_numbers_are(tx, losses, expected):
    _, state = tx.update(jnp.eye(2), tx.init(jnp.zeros(2)), losses=jnp.array(losses))
    found = dbmtl.diagnostics(state)
    np.testing.assert_allclose(found.loss_weights, expected, atol=1e-6)
    assert list(found.present) == [True, True]


def test_weights_that_are_not_finite_leave_their_task_out():
    def weigh(tasks, memory):
        return jnp.array([1.0, jnp.inf]), memory

    for tx in (dbmtl.gradient_balancer(2, weigh), dbmtl.loss_balancer(2, weigh)):
        update, state = tx.update(GRADS, tx.init(jnp.zeros(2)), losses=jnp.ones(2))
        np.testing.assert_array_equal(update, [1, 0])
        np.testing.assert_array_equal(dbmtl.diagnostics(state).skipped, [0, 1])


def test_what_a_loss_balancer_keeps_of_absent_tasks():
    def weigh(tasks, memory):
        return jnp.where(tasks.losses == 5, jnp.inf, 1.0), memory

    tx = fused(
        dbmtl.scale_by_log_loss(2), dbmtl.gradient_balancer(2, weigh), name="log, with a limit"
    )
    state = tx.init(jnp.zeros(2))
    np.testing.assert_array_equal(optax.tree.get(state, "loss_weights"), 0)
    # Left out by a later stage; by a mask; for a loss that is not finite; for a negative one.
    cases = ((5.0, True, 0), (-1.0, False, 0), (jnp.nan, True, 0), (-1.0, True, 1))
    for loss, mask, refused in cases:
        _, state = tx.update(
            GRADS, state, losses=jnp.array([2.0, loss]), task_mask=jnp.array([True, mask])
        )
        np.testing.assert_allclose(optax.tree.get(state, "loss_weights"), [0.5, 0], rtol=1e-6)
        np.testing.assert_array_equal(optax.tree.get(state, "refused"), [0, refused])


def test_the_average_of_a_loss_of_zero_still_pushes_as_in_the_paper():
    """Documented: mask a task whose loss is exactly zero."""
    tx = dbmtl.db_mtl(2, 0.9)
    _, state = tx.update(GRADS, tx.init(jnp.zeros(2)), losses=jnp.ones(2))
    solved = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    losses = jnp.array([1.0, 0.0])
    pushed, _ = tx.update(solved, state, losses=losses)
    np.testing.assert_allclose(pushed[1], pushed[0], rtol=1e-5)
    masked, _ = tx.update(solved, state, losses=losses, task_mask=losses > 0)
    assert masked[1] == 0


@pytest.mark.parametrize(
    ("losses", "grads", "reason"),
    [
        ([1.0, jnp.nan], GRADS, "its loss was not finite"),
        ([1.0, 1.0], GRADS.at[1, 1].set(jnp.inf), "its gradient was not finite"),
        ([1.0, -1.0], GRADS, "its loss cannot be weighed"),
    ],
)
@pytest.mark.parametrize("chained", [False, True])
def test_skipped_tasks_are_reported_with_the_cause(losses, grads, reason, chained):
    tx = dbmtl.db_mtl(2)
    if chained:
        tx = optax.chain(dbmtl.scale_by_log_loss(2), dbmtl.mgda(2), optax.sgd(1.0))
    state = tx.init(jnp.zeros(2))
    assert dbmtl.report_skipped(state) == []
    for k in range(5):
        good = k in (0, 2)
        arguments = {"losses": jnp.ones(2) if good else jnp.asarray(losses)}
        _, state = tx.update(GRADS if good else grads, state, **arguments)
    (line,) = dbmtl.report_skipped(state, names=("b", "a"))
    assert line.startswith("task 'b' was skipped in 3 of 5 steps, in the last 2 of them: ")
    assert reason in line or (chained and "gradient" in line and "finite" in reason)


@pytest.mark.parametrize("name", ["uw", "db_mtl", "imtl"])
def test_the_last_cause_is_told(name):
    """A loss that was refused once does not explain a gradient that is not finite later."""
    tx = dbmtl.METHODS[name](2)
    state, bad = tx.init(jnp.zeros(2)), GRADS.at[1, 1].set(jnp.nan)
    _, state = tx.update(GRADS, state, losses=jnp.array([1.0, -1.0]))
    assert "its loss cannot be weighed" in dbmtl.report_skipped(state)[0]
    _, state = tx.update(bad, state, losses=jnp.ones(2))
    (line,) = dbmtl.report_skipped(state)
    assert line.endswith("its gradient was not finite")


def test_a_masked_step_neither_ends_nor_continues_a_streak():
    tx = dbmtl.ew(2)
    state = tx.init(jnp.zeros(2))
    bad = GRADS.at[1].set(jnp.nan)
    _, state = tx.update(bad, state)
    _, state = tx.update(bad, state, task_mask=jnp.array([True, False]))
    np.testing.assert_array_equal(optax.tree.get(state, "streak"), [0, 1])
    _, state = tx.update(GRADS, state)
    np.testing.assert_array_equal(optax.tree.get(state, "streak"), [0, 0])


def test_counters_saturate():
    tx = dbmtl.ew(2)
    state = tx.init(jnp.zeros(2))
    largest = jnp.full((2,), jnp.iinfo(jnp.int32).max, jnp.int32)
    _, state = tx.update(GRADS.at[1].set(jnp.nan), state._replace(skipped=largest, steps=largest))
    np.testing.assert_array_equal(state.skipped, largest)
    np.testing.assert_array_equal(state.steps, largest)
