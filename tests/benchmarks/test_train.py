"""The training loop: single-task models are independent, and every method trains."""

import dataclasses
import functools
import io
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.methods import REPLACES_ADAM, gradients_of
from benchmarks.problems.problem import Problem, stateless
from benchmarks.problems.qm9.models import MoleculeBatch
from benchmarks.progress_bar import ProgressBar
from benchmarks.run_log import RunLog, read_run
from benchmarks.training.programs import Programs
from benchmarks.training.runs import make_method
from benchmarks.training.trainer import Trainer
from benchmarks.training.update import halves, make_update
from benchmarks.training.validation import Result, Run
from tests.benchmarks.conftest import TASKS, TRAIN
from tests.helpers.noisy_problem import NoisyProblem

KEY = jax.random.key(0)


def losses_of(model, params, batch) -> jax.Array:
    """The losses of a model without statistics."""
    return model.losses(params, {}, batch, KEY)[0]


def first_batch(problem) -> MoleculeBatch:
    static, arrays = problem.batches("train")[0]
    return problem.load(problem.data, static, arrays)


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
            return losses_of(model, everyone, batch)[task]

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


def run(problem, method, config, path, stream=None):
    """One run of a method by its name: (its result, its records)."""
    model = problem.single_task if method == "stl" else problem.multi_task
    factory = None if method == "stl" else make_method(method, problem, config)
    optimizer = optax.identity() if method in REPLACES_ADAM else None
    gradients = gradients_of(method) if stream is None else ("stacked", "pending")[stream]
    trainer = Trainer(Programs(problem, model, factory, TRAIN, optimizer, gradients=gradients))
    ones = [[1.0]] * len(problem.tasks)
    baseline = None if method == "stl" else Result(ones, ones)
    console = Console(file=io.StringIO())
    with RunLog(path) as log, ProgressBar(console, method) as progress:
        (result,) = trainer.run([Run(0, baseline, log)], progress)
    return result, read_run(path)


@pytest.mark.parametrize("method", ["stl", "ew", "db_mtl"])
def test_a_method_trains_and_logs(problem, tiny, method, tmp_path):
    result, records = run(problem, method, tiny, tmp_path / "run.jsonl")
    kinds = [record["kind"] for record in records]
    assert kinds == ["start", *(["step"] * 2 + ["epoch"]) * 3, "result"]
    assert np.isfinite(result.test).all()
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert np.mean(epochs[-1]["losses"]) < np.mean(epochs[0]["losses"])
    assert np.all(np.array(epochs[0]["gradient_norms"]) > 0)
    best = records[-1]["best_epoch"]
    for task, epoch in enumerate(np.broadcast_to(best, problem.multi_task.num_tasks)):
        assert records[-1]["validation"][task] == epochs[epoch]["validation"][task]
    scores = np.array([record["score"] for record in epochs])
    np.testing.assert_array_equal(best, scores.argmax(axis=0))


class LinearProblem(Problem):
    """Two noisy linear regressions on one representation: a network that compiles quickly."""

    name, network = "regression", "linear"
    tasks = ("a", "b")
    metric_names = (("MSE",), ("MSE",))
    higher_is_better = ((False,), (False,))

    def __init__(self):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40, 3))
        y = x @ rng.normal(size=(3, 2)) + 0.1 * rng.normal(size=(40, 2))
        self.data = (jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))

        def predict(params, batch):
            encoder, heads = params
            return jnp.stack([batch[0] @ encoder @ head for head in heads], axis=1)

        def losses(params, batch):
            return self.totals(predict(params, batch), batch)[0]

        self.multi_task = stateless(
            init=lambda key: (jax.random.normal(key, (3, 4)), [jnp.ones(4), jnp.ones(4)]),
            losses=losses,
            task_grads=dbmtl.value_and_task_grads(losses, labels=("shared", [0, 1])),
            predict=predict,
            num_tasks=2,
        )

    def batches(self, split, *, seed=0, epoch=0):
        return [(None, np.arange(8 * k, 8 * k + 8)) for k in range(4 if split == "train" else 1)]

    def load(self, data, static, arrays):
        return jax.tree.map(lambda leaf: leaf[arrays], data)

    def totals(self, predictions, batch):
        return jnp.mean((predictions - batch[1]) ** 2, axis=0), 1.0

    def metrics(self, totals):
        losses, count = totals
        return [[float(loss / count)] for loss in losses]


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


@pytest.mark.parametrize("method", [*dbmtl.METHODS, "log+pcgrad"])
def test_every_method_trains(method, tiny, tmp_path):
    result, records = run(LinearProblem(), method, tiny, tmp_path / "run.jsonl")
    assert np.isfinite(result.test).all()
    epochs = [record for record in records if record["kind"] == "epoch"]
    assert np.mean(epochs[-1]["losses"]) < np.mean(epochs[0]["losses"])


@pytest.mark.parametrize("method", [pytest.param("uw", marks=pytest.mark.slow), "db_mtl"])
def test_gradients_that_stream_train_the_same_network(problem, method, tiny, tmp_path):
    results = [
        run(problem, method, tiny, tmp_path / f"{stream}.jsonl", stream)[0]
        for stream in (False, True)
    ]
    np.testing.assert_allclose(results[1].test, results[0].test, rtol=1e-3)


def test_norms_and_cosines_are_means_over_batches(problem):
    programs = Programs(problem, problem.multi_task, None, TRAIN)
    variables = problem.multi_task.init(KEY)
    batches = list(programs.read(problem.batches("train")))
    assert len(batches) == 2
    alone = [programs.probe(variables, [batch]) for batch in batches]
    for got, *both in zip(programs.probe(variables, batches), *alone, strict=True):
        assert (both[0] != both[1]).any()
        np.testing.assert_allclose(got, np.mean(both, axis=0), rtol=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize("method", [*dbmtl.METHODS, "log+pcgrad"])
def test_every_method_trains_on_molecules(problem, method, tiny, tmp_path):
    result, _ = run(problem, method, tiny, tmp_path / "run.jsonl")
    assert np.isfinite(result.test).all()


def test_one_program_per_padding(problem, tmp_path):
    """Later epochs, seeds and learning rates do not compile again."""
    trainer = Trainer(Programs(problem, problem.multi_task, None, TRAIN))
    console = Console(file=io.StringIO())
    ones = [[1.0]] * len(TASKS)
    for seed in range(2):
        with RunLog(tmp_path / f"{seed}.jsonl") as log, ProgressBar(console, "ew") as progress:
            trainer.run([Run(seed, Result(ones, ones), log)], progress)
    assert trainer.programs._train_step._cache_size() == 1


def test_a_run_with_broken_losses_is_recorded_as_failed(problem, tmp_path):
    broken = problem.data._replace(targets=problem.data.targets.at[0].set(jnp.nan))

    class Broken:
        def __getattr__(self, name):
            return broken if name == "data" else getattr(problem, name)

    trainer = Trainer(Programs(Broken(), problem.multi_task, None, TRAIN))
    path = tmp_path / "run.jsonl"
    output = io.StringIO()
    with RunLog(path) as log, ProgressBar(Console(file=output), "EW") as progress:
        run = Run(0, Result([[1.0]] * len(TASKS), [[1.0]] * len(TASKS)), log)
        assert trainer.run([run], progress) == [None]
    last = json.loads(path.read_text().splitlines()[-1])
    assert last["kind"] == "failed"
    assert None in last["losses"]
    assert "not finite at step" in output.getvalue()
