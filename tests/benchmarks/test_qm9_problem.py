"""QM9 as training sees it: task gradients, batches in chunks, and metrics in units."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.training.programs import Programs
from tests.benchmarks.conftest import TASKS, TRAIN, first_batch

KEY = jax.random.key(0)


def losses_of(model, params, batch) -> jax.Array:
    """The losses of a model without statistics."""
    return model.losses(params, {}, batch, KEY)[0]


@pytest.mark.parametrize("kind", ["multi_task", "single_task"])
def test_task_grads_are_those_of_the_losses(problem, kind):
    model, batch = getattr(problem, kind), first_batch(problem)
    params, _ = model.init(KEY)
    (losses, _), grads = jax.jit(model.task_grads)(params, {}, batch, KEY)
    np.testing.assert_allclose(losses, losses_of(model, params, batch), rtol=1e-5)
    rows = jax.jacrev(lambda p: losses_of(model, p, batch))(params)
    for task in range(len(TASKS)):
        if kind == "multi_task":
            expected = jax.tree.map(lambda r, task=task: r[task], rows)
            row = jax.tree.map(lambda g, task=task: g[task], grads[0])
            chex.assert_trees_all_close(row, expected[0], rtol=1e-4, atol=1e-5)
            chex.assert_trees_all_close(grads[1][task], expected[1][task], rtol=1e-4, atol=1e-5)
        else:
            expected = jax.tree.map(lambda r, task=task: r[task, task], rows)
            row = jax.tree.map(lambda g, task=task: g[task], grads)
            chex.assert_trees_all_close(row, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["multi_task", "single_task"])
def test_chunks_and_filling_have_no_influence(problem, kind):
    """Losses and gradients of a batch in chunks are the means of those of its molecules alone."""
    model = getattr(problem, kind)
    params, _ = model.init(KEY)
    by_size = np.argsort(problem.num_atoms("train"), kind="stable")[3:8]  # of several sizes
    index = np.array([[0, *by_size[:2]], by_size[2:]])
    valid = np.array([[False, True, True], [True] * 3])
    sizes = problem.num_atoms("train")[by_size]
    assert sizes[1] < sizes[-1]
    batch = problem.load(problem.data, (int(sizes[1]), 6), (index, valid))
    (losses, _), grads = jax.jit(model.task_grads)(params, {}, batch, KEY)

    @functools.partial(jax.jit, static_argnums=0)
    def alone(size, i):
        own = problem.load(problem.data, (size,), (i[None, None], jnp.ones((1, 1), bool)))
        (losses, _), grads = model.task_grads(params, {}, own, KEY)
        return losses, grads, problem.totals(model.predict(params, {}, own), own)

    separate = [alone(int(size), i) for size, i in zip(sizes, by_size, strict=True)]
    mean_losses, mean_grads, _ = jax.tree.map(lambda *rows: sum(rows) / 5, *separate)
    np.testing.assert_allclose(losses, mean_losses, rtol=1e-5)
    chex.assert_trees_all_close(grads, mean_grads, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(losses, losses_of(model, params, batch), rtol=1e-5)
    errors, count = problem.totals(model.predict(params, {}, batch), batch)
    np.testing.assert_allclose(errors, sum(own[2][0] for own in separate), rtol=1e-5)
    assert count == 5


def test_metrics_are_mean_absolute_errors_in_units(problem):
    programs = Programs(problem, problem.multi_task, None, TRAIN)
    params, _ = problem.multi_task.init(KEY)
    got = np.array(programs.evaluate((params, {}), "test"))[:, 0]
    train = slice(0, 16)  # the order in which the problem keeps its split
    test = slice(24, 34)
    molecules = problem.data
    targets = np.asarray(molecules.targets)
    np.testing.assert_allclose(targets[train].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(targets[train].std(0), 1, rtol=1e-4)
    indices = np.arange(test.start, test.stop)
    batch = problem.load(molecules, (6,), (indices[None], np.ones((1, 10), bool)))
    errors, count = problem.totals(problem.multi_task.predict(params, {}, batch), batch)
    assert count == 10
    np.testing.assert_allclose(got, np.array(problem.metrics((errors, count)))[:, 0], rtol=1e-5)
    scales = 10.0 ** np.arange(-2, 9)[np.array(TASKS)]
    ratio = got / np.asarray(errors / 10) / scales  # the standard deviation, up to its scale
    assert np.all((ratio > 1) & (ratio < 100))
