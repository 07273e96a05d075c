"""Processes that are killed, and several of them on one folder."""

import dataclasses
import io
import signal
import time

import optax
import pytest
from rich.console import Console

from benchmarks import compare, methods, run_log
from benchmarks.errors import UserError
from benchmarks.report import rendered, study_report
from benchmarks.report.records import study
from benchmarks.run_log import RunLog
from benchmarks.schedule import Schedule
from benchmarks.training import checkpoints
from tests.helpers import processes
from tests.helpers.interruptions import figures
from tests.helpers.killed_run import comparison
from tests.helpers.noisy_problem import AllTrain, NoisyProblem


def start(out, what: str, number: int):
    return processes.started("-m", "tests.helpers.killed_run", str(out), what, str(number))


def killed(out, what: str, number: int) -> str:
    with start(out, what, number) as process:
        return processes.finish(process, -signal.SIGKILL)


@pytest.fixture
def finish(monkeypatch):
    """Runs the rest of the comparison in this process; gives what was printed."""
    monkeypatch.setattr(compare, "open_problem", lambda *_: NoisyProblem())

    def run(out, hear=lambda text: None, **changes) -> str:
        class Listening(Console):
            def print(self, *objects, **options):
                hear(str(objects[0]) if objects else "")
                super().print(*objects, **options)

        output = io.StringIO()
        config = dataclasses.replace(comparison(out), **changes)
        compare.run_missing(config, Listening(file=output, width=200, markup=False))
        return output.getvalue()

    return run


@pytest.fixture
def whole(finish, tmp_path):
    """The folder of a comparison that nothing has interrupted."""
    finish(tmp_path / "whole", checkpoint_seconds=1e9)
    return tmp_path / "whole"


def assert_same(out, whole) -> None:
    names = {path.name for path in whole.iterdir()}
    assert names == {path.name for path in out.iterdir()} - {"holding", "go"}
    for path in whole.glob("*.jsonl"):
        assert figures(out / path.name) == figures(path), path.name


def test_killed_processes_leave_what_can_be_finished_to_the_same_figures(whole, tmp_path, finish):
    out = tmp_path / "out"
    killed(out, "step", 7)  # seed 0 of the baseline
    printed = killed(out, "publish", 4)
    assert "STL, seed 0: resumed at epoch 1, step 6" in printed
    folder = checkpoints.path(out, "stl", [0])
    assert any(path.name.endswith("-tmp") for path in folder.iterdir())
    printed = killed(out, "publish", 35)
    assert "STL, seed 0: resumed at epoch 2, step 8" in printed
    assert "IGBv2, seed 0: resumed at epoch 0, step 4" in finish(out)
    assert_same(out, whole)


def test_a_process_takes_over_from_one_that_is_killed(whole, tmp_path, finish):
    out = tmp_path / "out"
    with start(out, "hold", 6) as other:
        while not (out / "holding").exists():
            assert other.poll() is None, other.stdout.read()
            time.sleep(0.05)

        def hear(text):
            if text.startswith("waiting for stl-seed0.jsonl, which another process is training"):
                (out / "go").touch()

        printed = finish(out, hear)
    # What did not depend on the other process came first.
    order = [printed.index(text) for text in (
        "STL, seed 1: done", "IGBv2, seed 1: done", "waiting for", "STL, seed 0: resumed",
        "STL, seed 0: done", "IGBv2, seed 0: done",
    )]  # fmt: skip
    assert order == sorted(order)
    assert printed.count("waiting for") == 1
    assert_same(out, whole)


def complete(folder, method, seed, kind="result"):
    with RunLog(run_log.run_path(folder, method, seed)) as log:
        log.write(kind)


def trained(schedule) -> list[tuple[str, tuple[int, ...]]]:
    """What a schedule trains, in its order, where every run ends at once."""
    calls = []

    def train(method, logs):
        calls.append((method, tuple(logs)))
        for log in logs.values():
            log.write("result")

    schedule.run(train, print)
    return calls


def test_the_baseline_comes_first_and_what_is_complete_is_left_out(tmp_path):
    complete(tmp_path, "stl", 1)
    complete(tmp_path, "ew", 0, "failed")
    schedule = Schedule(tmp_path, ["ew", "stl"], range(2))
    assert trained(schedule) == [("stl", (0,)), ("ew", (1,))]
    assert trained(schedule) == []


def test_seeds_that_began_together_go_on_together(tmp_path):
    complete(tmp_path, "stl", 1)  # and was cut off before the other one was
    checkpoints.path(tmp_path, "stl", (1, 2)).mkdir()
    checkpoints.path(tmp_path, "ew", (0,)).mkdir()
    assert trained(Schedule(tmp_path, ["stl", "ew"], range(4), together=True)) == [
        ("stl", (0, 3)), ("stl", (1, 2)), ("ew", (0,)), ("ew", (1, 2, 3)),
    ]  # fmt: skip


def test_the_checkpoint_of_complete_runs_is_removed(tmp_path):
    for method in ("stl", "ew"):
        complete(tmp_path, method, 0)
    left = checkpoints.path(tmp_path, "ew", (0,))
    left.mkdir()
    assert trained(Schedule(tmp_path, ["stl", "ew"], range(1))) == []
    assert not left.exists()


def test_a_missing_baseline_is_an_error_unless_it_is_being_trained(tmp_path):
    schedule = Schedule(tmp_path, ["ew"], range(1))
    with pytest.raises(UserError, match=r"stl is missing, and .* for seed 0"):
        schedule.check_baselines()
    with RunLog(run_log.run_path(tmp_path, "stl", 0)) as log:
        schedule.check_baselines()
        log.write("result")
    schedule.check_baselines()


def test_broken_losses_do_not_stop_the_others(tmp_path, finish, monkeypatch):
    """A failed run is kept in the table."""
    build = methods.build

    def broken(name, *arguments, **options):
        """PCGrad breaks the parameters."""
        made = build(name, *arguments, **options)
        nothing = optax.scale(float("nan")) if name == "pcgrad" else optax.identity()
        return optax.chain(made, nothing)

    monkeypatch.setattr(methods, "build", broken)
    printed = finish(tmp_path, methods=("stl", "pcgrad", "mgda"), seeds=1, checkpoint_seconds=1e9)
    assert "PCGrad, seed 0: the losses of seed 0 are not finite at step 1: run given up" in printed
    outcomes = {outcome.method: outcome for outcome in study.load(tmp_path).outcomes}
    assert {method: o.failed for method, o in outcomes.items()} == {
        "stl": [], "pcgrad": ["seed 0 at step 1"], "mgda": [],
    }  # fmt: skip
    shown = rendered.markdown(study_report.make(study.load(tmp_path), figures=False))
    assert "failed: seed 0 at step 1" in shown
    again = finish(tmp_path, methods=("stl", "pcgrad", "mgda"), seeds=1)
    assert "all runs are complete" in again


def test_a_run_that_could_not_be_trained_is_not_tried_for_ever(tmp_path):
    calls = []
    schedule = Schedule(tmp_path, ["stl"], range(1))
    schedule.run(lambda method, logs: calls.append(method), print)
    assert calls == ["stl"]


@pytest.mark.parametrize(
    ("problem", "changes", "said"),
    [
        (NoisyProblem, {"methods": ("stl", "db_mtl@measured=last")}, "has no last shared layer"),
        (NoisyProblem, {"methods": ("stl", "ew", "mgda@wrt=representation")}, "no representation"),
        (AllTrain, {}, "--train.schedule"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(monkeypatch, tmp_path, problem, changes, said):
    monkeypatch.setattr(compare, "open_problem", lambda *_: problem())
    config = dataclasses.replace(comparison(tmp_path / "out"), **changes)
    with pytest.raises(UserError, match=said):
        compare.run_missing(config, Console(quiet=True))
    assert not (tmp_path / "out").exists()
