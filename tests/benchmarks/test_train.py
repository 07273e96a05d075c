"""The training loop: every method trains, and what runs record."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

import dbmtl_jax as dbmtl
from benchmarks.methods import REPLACES_ADAM, gradients_of
from benchmarks.problems.problem import Problem, stateless
from benchmarks.progress_bar import ProgressBar
from benchmarks.run_log import RunLog, read_run
from benchmarks.training.programs import Programs
from benchmarks.training.runs import make_method
from benchmarks.training.trainer import Trainer
from benchmarks.training.validation import Result, Run
from tests.benchmarks.conftest import TASKS, TRAIN

KEY = jax.random.key(0)


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
