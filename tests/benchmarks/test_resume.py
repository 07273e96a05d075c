"""Whatever interrupts a run, it ends with the figures that it would have had, bit for bit."""

import dataclasses
import io
import math
import types

import jax
import numpy as np
import optax
import pytest
from rich.console import Console

from benchmarks import progress, run_log
from benchmarks.errors import UserError
from benchmarks.methods import BEYOND, PAPER, REPLACES_ADAM, gradients_of
from benchmarks.problems.qm9.problem import QM9Problem
from benchmarks.progress_bar import ProgressBar
from benchmarks.run_log import RunLog
from benchmarks.training import checkpoints
from benchmarks.training.programs import Programs
from benchmarks.training.runs import make_method
from benchmarks.training.trainer import Trainer
from benchmarks.training.validation import Result, Run
from tests.benchmarks.conftest import TRAIN, make_molecules
from tests.helpers.interruptions import EverySteps, Interruption, before_step, figures
from tests.helpers.noisy_problem import AllTrain, NoisyProblem


def slow(method):
    return pytest.param(method, marks=pytest.mark.slow)


def make_trainer(problem, method, tiny, **train):
    """With rates at which validation soon gets worse, and the rate smaller."""
    options = {"epochs": 5, "learning_rate": 0.3, "plateau_patience": 0} | train
    config = dataclasses.replace(TRAIN, **options)
    if method == "stl":
        return Trainer(Programs(problem, problem.single_task, None, config))
    factory = make_method(method, problem, tiny)
    own = optax.identity() if method in REPLACES_ADAM else None
    gradients = gradients_of(method)
    return Trainer(Programs(problem, problem.multi_task, factory, config, own, gradients=gradients))


def baseline_of(trainer, method):
    if method == "stl":
        return None
    ones = [[1.0] * len(metrics) for metrics in trainer.programs.problem.higher_is_better]
    return Result(ones, ones)


def train(trainer, method, folder, seeds=(0,), n=1):
    """Trains to the end; gives what was printed."""
    output = io.StringIO()
    saved = EverySteps(checkpoints.path(folder, method, seeds), n)
    logs = [RunLog(run_log.run_path(folder, method, seed)) for seed in seeds]
    try:
        for log in logs:
            log.__enter__()
        runs = [
            Run(seed, baseline_of(trainer, method), log)
            for seed, log in zip(seeds, logs, strict=True)
        ]
        with ProgressBar(Console(file=output, width=200), method) as progress:
            trainer.run(runs, progress, saved)
    finally:
        for log in logs:
            log.__exit__()
    return output.getvalue()


def interrupt(trainer, method, folder, step, monkeypatch, **options):
    def act():
        raise Interruption

    with monkeypatch.context() as patch:
        programs = trainer.programs
        patch.setattr(programs, "_train_step", before_step(step, programs._train_step, act))
        with pytest.raises(Interruption):
            train(trainer, method, folder, **options)


def check_resuming(trainer, method, tmp_path, monkeypatch, seeds=(0,)):
    """Interrupts a run twice, after records that its checkpoint does not know, and finishes it."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(trainer, method, whole, seeds, n=10**6)
    steps = len(trainer.programs.problem.batches("train"))
    for step in (3 * steps + 1, steps + 1):
        interrupt(trainer, method, parts, step, monkeypatch, seeds=seeds, n=4)
    printed = train(trainer, method, parts, seeds, n=4)
    assert "resumed at epoch" in printed
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in parts.iterdir())  # no checkpoint is left
    for name in names:
        assert figures(parts / name) == figures(whole / name)


@pytest.mark.parametrize("method", ["db_mtl", "pcgrad", "stl", slow("nash_mtl"), slow("igbv2")])
def test_an_interrupted_run_on_molecules_has_the_same_figures(
    problem, tiny, method, tmp_path, monkeypatch
):
    check_resuming(make_trainer(problem, method, tiny), method, tmp_path, monkeypatch)


STATES = ("stl", "ew", "rlw", "uw", "dwa", "igbv2", "grad_norm", "mtadam", "moco", "db_mtl", "modo")
"""A method for each kind of state; the contract has a checkpoint of every method's."""


@pytest.mark.parametrize(
    "method", [name if name in STATES else slow(name) for name in (*PAPER, *BEYOND)]
)
def test_every_method_goes_on_where_it_was(method, tiny, tmp_path, monkeypatch):
    check_resuming(make_trainer(NoisyProblem(), method, tiny), method, tmp_path, monkeypatch)


@pytest.mark.parametrize("last_epochs", [3, 9])
@pytest.mark.parametrize("method", ["stl", "db_mtl"])
def test_without_validation_the_last_epochs_are_averaged(
    method, last_epochs, tiny, tmp_path, monkeypatch
):
    """Also by a run that is interrupted within them; a run of five epochs has no more of them."""
    trainer = make_trainer(
        AllTrain(), method, tiny, schedule="constant", learning_rate=0.05, last_epochs=last_epochs
    )
    check_resuming(trainer, method, tmp_path, monkeypatch)
    *epochs, result = figures(tmp_path / "whole" / f"{method}-seed0.jsonl")
    tests = [r["test"] for r in epochs if r["kind"] == "epoch" and "test" in r]
    count = min(last_epochs, 5)
    assert len(tests) == result["tested_epochs"] == count
    assert tests[-1] != tests[0]
    for t, task in enumerate(result["test"]):
        np.testing.assert_allclose(task, np.mean([test[t] for test in tests], axis=0), rtol=1e-6)


def test_a_mean_of_no_epochs_is_refused(tiny):
    with pytest.raises(UserError, match=r"--train\.last-epochs: expected at least 1, found 0"):
        make_trainer(AllTrain(), "ew", tiny, schedule="constant", last_epochs=0)


def close(got, expected):
    """Records as those of another program: equal up to rounding."""
    assert [r["kind"] for r in got] == [r["kind"] for r in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if isinstance(value, str) or value is None or key in ("metrics", "tasks"):
                assert ours[key] == value
            else:
                flat = [np.array(jax.tree.leaves(v), float) for v in (ours[key], value)]
                # Scores are improvements in percent: rounding of the metrics, a hundred times.
                atol = 1e-4 if key == "score" else 1e-6
                np.testing.assert_allclose(*flat, rtol=1e-5, atol=atol, err_msg=key)


@pytest.mark.parametrize("method", ["stl", slow("db_mtl"), slow("pcgrad")])
def test_seeds_that_are_trained_together_have_the_figures_of_separate_runs(
    tiny, method, tmp_path, monkeypatch
):
    """Their batches have molecules of different sizes."""
    problem = QM9Problem(dataclasses.replace(tiny.data, chunks=2), 4, make_molecules(5))
    plans = [[b[0] for b in problem.batches("train", seed=s)] for s in (0, 1)]
    assert plans[0] != plans[1]
    trainer = make_trainer(problem, method, tiny, epochs=2, learning_rate=0.01)
    alone, joined = tmp_path / "alone", tmp_path / "joined"
    for folder in (alone, joined):
        folder.mkdir()
    for seed in (0, 1):
        train(trainer, method, alone, (seed,), n=10**6)
    train(trainer, method, joined, (0, 1), n=10**6)
    for path in alone.iterdir():
        close(figures(joined / path.name), figures(path))


@pytest.mark.parametrize("method", ["stl", "igbv2", "db_mtl"])
def test_seeds_that_are_trained_together_go_on_together(method, tiny, tmp_path, monkeypatch):
    trainer = make_trainer(NoisyProblem(), method, tiny)
    check_resuming(trainer, method, tmp_path, monkeypatch, seeds=(0, 2))


def test_a_seed_that_fails_does_not_stop_the_others(tiny, tmp_path, monkeypatch):
    trainer = make_trainer(NoisyProblem(broken_seed=1), "pcgrad", tiny)
    check_resuming(trainer, "pcgrad", tmp_path, monkeypatch, seeds=(0, 1, 2))
    train(trainer, "pcgrad", tmp_path, (2,))
    ends = {p.stem: figures(p)[-1] for p in (tmp_path / "whole").glob("*.jsonl")}
    assert {name: end["kind"] for name, end in ends.items()} == {
        "pcgrad-seed0": "result", "pcgrad-seed1": "failed", "pcgrad-seed2": "result",
    }  # fmt: skip
    assert ends["pcgrad-seed1"]["step"] == 4
    name = "pcgrad-seed2.jsonl"
    close(figures(tmp_path / "whole" / name), figures(tmp_path / name))


def test_a_checkpoint_of_other_records_is_not_used(tiny, tmp_path, monkeypatch):
    trainer = make_trainer(NoisyProblem(), "ew", tiny)
    interrupt(trainer, "ew", tmp_path, 6, monkeypatch)
    path = run_log.run_path(tmp_path, "ew", 0)
    expected = figures(path)
    path.write_text(path.read_text().replace('"epoch": 0', '"epoch": 9'))
    printed = train(trainer, "ew", tmp_path)
    assert "the checkpoint is of other records and not used" in printed
    assert "no checkpoint can be used: starts over" in printed
    assert figures(path)[: len(expected)] == expected


def test_a_damaged_checkpoint_is_not_used(tiny, tmp_path, monkeypatch):
    trainer = make_trainer(NoisyProblem(), "ew", tiny)
    interrupt(trainer, "ew", tmp_path, 6, monkeypatch)
    for path in checkpoints.path(tmp_path, "ew", [0]).rglob("d/*"):
        path.write_bytes(b"")
    printed = train(trainer, "ew", tmp_path)
    assert "is damaged and not used" in printed
    assert "no checkpoint can be used: starts over" in printed
    (tmp_path / "whole").mkdir()
    train(trainer, "ew", tmp_path / "whole")
    assert figures(tmp_path / "ew-seed0.jsonl") == figures(tmp_path / "whole" / "ew-seed0.jsonl")


def test_a_resumed_run_compiles_nothing_again(tiny, tmp_path, monkeypatch):
    """What is restored has the types that it had."""
    trainer = make_trainer(NoisyProblem(), "igbv2", tiny)
    interrupt(trainer, "igbv2", tmp_path, 3, monkeypatch)
    train(trainer, "igbv2", tmp_path)
    assert trainer.programs._train_step._cache_size() == 1


def test_progress_goes_on_where_the_run_does():
    """The bar counts the steps of all processes, the time left follows from this one's."""
    with ProgressBar(Console(file=io.StringIO(), width=200), "EW") as shown:
        shown.begin_epoch(10, 20, steps=4, step=2)
        task = shown._bar.tasks[0]
        assert (task.completed, task.total) == (42, 80)


def test_the_time_left_is_without_the_compilation(monkeypatch):
    now = [0.0]
    clock = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(progress, "time", clock)
    said: list[str] = []
    with progress.Progress(said.append, "EW") as shown:
        shown.begin_epoch(10, 20, steps=4, step=2)
        assert shown.seconds_left == math.inf
        for seconds in (1000, *[10] * 5):  # the first one compiles
            now[0] += seconds
            shown.step([])
        shown.begin_epoch(12, 20, steps=4)
    assert said == ["EW: epoch 12/20, 1050 s, about 320 s left"]
