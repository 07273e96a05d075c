"""One step of training: single-task models are independent, and methods get what they read."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dbmtl_jax as dbmtl
from benchmarks.problems.problem import stateless
from benchmarks.training.runs import make_method
from benchmarks.training.update import halves, make_update
from tests.benchmarks.conftest import first_batch
from tests.helpers.noisy_problem import NoisyProblem

KEY = jax.random.key(0)


def test_single_task_models_are_separate_trainings(problem):
    """Several models in one program end where each one ends that is trained alone."""
    model, batch = problem.single_task, first_batch(problem)
    params, _ = model.init(KEY)
    init, step = make_update(model, None, optax.scale_by_adam())
    rates = jnp.linspace(1e-3, 1e-2, model.num_tasks)
    state = init(params, {}, KEY)
    for _ in range(3):
        state, losses = jax.jit(step)(state, batch, rates)

    def alone(task):
        """Task `task` trained by itself, the other models standing still."""
        adam = optax.scale_by_adam()

        def loss(own):
            everyone = jax.tree.map(lambda full, row: full.at[task].set(row), params, own)
            return model.losses(everyone, {}, batch, KEY)[0][task]

        own = jax.tree.map(lambda leaf: leaf[task], params)
        opt_state = adam.init(own)
        value_and_grad = jax.jit(jax.value_and_grad(loss))
        for _ in range(3):
            value, grad = value_and_grad(own)
            update, opt_state = adam.update(grad, opt_state)
            own = jax.tree.map(lambda p, u: p - rates[task] * u, own, update)
        return own, value

    for task in (0, 2):
        own, value = alone(task)
        row = jax.tree.map(lambda leaf, task=task: leaf[task], state.params)
        chex.assert_trees_all_close(row, own, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(losses[task], value, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_halves_of_a_batch(size):
    """Every row is in one of them; a single one, and what belongs to no row, is in both."""
    rows = jnp.arange(2 * size).reshape(2, size)
    parts = halves({"x": rows, "rate": jnp.ones(())}, axis=1)
    sizes = [part["x"].shape[1] for part in parts]
    assert sizes == ([1, 1] if size == 1 else [-(-size // 2), size // 2])
    joined = jnp.concatenate([part["x"] for part in parts], axis=1)
    assert set(joined[0].tolist()) == set(range(size))
    assert all(part["rate"] == 1 for part in parts)


def test_modo_gets_the_gradients_of_both_halves():
    """One step of the loop is one of MoDo's own updates, on the halves by hand."""
    x, labels = jax.random.normal(jax.random.key(0), (4, 3)), ("shared", [0, 1])

    def losses_of(params, x):
        return [jnp.mean((x @ params[0] - own) ** 2) for own in params[1]]

    model = stateless(
        init=lambda key: (jnp.ones(3), [jnp.zeros(()), jnp.ones(())]),
        losses=lambda params, x: jnp.stack(losses_of(params, x)),
        task_grads=dbmtl.value_and_task_grads(losses_of, labels=labels),
        predict=lambda params, x: x,
        num_tasks=2,
    )
    tx = dbmtl.modo(2, labels=labels)
    init, step = make_update(model, tx, optax.identity(), "halves")
    params, _ = model.init(jax.random.key(0))
    state, losses = step(init(params, {}, jax.random.key(1)), [x[::2], x[1::2]], jnp.ones(1))
    (first, grads), (second, others) = (
        model.task_grads(params, {}, part, None) for part in (x[::2], x[1::2])
    )
    update, _ = tx.update(grads, tx.init(params), params, other_grads=[others])
    np.testing.assert_allclose(losses, (first[0] + second[0]) / 2, rtol=1e-6)
    np.testing.assert_allclose(state.params[0], params[0] - update[0], rtol=1e-6)


@pytest.mark.parametrize("active", [[True, True], [True, False], [False, False]])
def test_networks_that_are_not_active_stay_as_they_are(active):
    """The others take the step that they take when all do: parameters, statistics and Adam."""
    problem = NoisyProblem()
    every = problem.single_task
    some = dataclasses.replace(every, active=lambda batch: jnp.array(active))
    init, step_of_all = make_update(every, None, optax.scale_by_adam())
    _, step_of_some = make_update(some, None, optax.scale_by_adam())
    batch = problem.load(problem.data, None, (np.arange(8), np.float32(1)))
    before = init(*every.init(KEY), KEY)
    before, _ = step_of_all(before, batch, jnp.full(2, 0.1))  # so that no state is zero
    expected, _ = step_of_all(before, batch, jnp.full(2, 0.1))
    got, _ = step_of_some(before, batch, jnp.full(2, 0.1))
    for t, on in enumerate(active):
        for part in ("params", "batch_stats", "opt_state"):
            of = (expected if on else before)._asdict()[part][t]
            chex.assert_trees_all_equal(getattr(got, part)[t], of)
            other = (before if on else expected)._asdict()[part][t]
            with pytest.raises(AssertionError):
                chex.assert_trees_all_equal(getattr(got, part)[t], other)


@pytest.mark.parametrize("method", ["uw", "grad_norm", "imtl", "famo+pcgrad"])
def test_learnt_weights_follow_the_models_learning_rate(problem, method, tiny):
    """All but those of FAMO, which has a rate of its own."""
    made = make_method(method, problem, tiny)(0)
    model, batch = problem.multi_task, first_batch(problem)
    init, step = make_update(model, made, optax.scale_by_adam())
    jitted = jax.jit(step)

    def learnt(rate):
        state = init(*model.init(KEY), KEY)
        for _ in range(6):
            state, _ = jitted(state, batch, jnp.full(1, rate))
        found = dbmtl.diagnostics(state.opt_state)
        return np.asarray(found.weights if method == "grad_norm" else found.loss_weights)

    still, slow, fast = map(learnt, (0.0, 1e-3, 1e-2))
    if method.startswith("famo"):
        assert np.ptp(still) > 1e-3
    else:
        first = {"uw": np.exp(0.5) / 2}.get(method, 1.0)
        np.testing.assert_allclose(still, first, rtol=1e-6)
        assert np.abs(fast - first).sum() > 5 * np.abs(slow - first).sum()
