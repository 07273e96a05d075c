"""Several processes on one folder, as `--jobs` starts them."""

import dataclasses
import functools
import os
import signal
import time

import pytest
from rich.console import Console

from benchmarks import compare, jobs
from benchmarks.errors import UserError
from tests.helpers import killed_run, processes
from tests.helpers.interruptions import figures
from tests.helpers.noisy_problem import NoisyProblem

TWO = pytest.mark.skipif(len(jobs._cores()) < 2, reason="needs two cores")


def say_core(console) -> None:
    console.print(f"on {sorted(os.sched_getaffinity(0))}")


def fail_on_the_first_core(console) -> None:
    if jobs._cores() == FIRST:
        raise UserError("a file is damaged")
    console.print("done")


def say_interrupts(console) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    console.print("kept back" if signal.SIGINT in blocked else "let through")


def die(console) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_in(folder, console) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(600)


FIRST = jobs._cores()[:1]


@TWO
def test_each_process_has_a_core_and_its_lines_are_shown():
    lines = []
    jobs.run(say_core, 2, lines.append)
    assert sorted(lines) == [f"on [{core}]" for core in jobs._cores()[:2]]


@TWO
def test_an_error_is_told_when_the_others_are_done():
    lines = []
    assert jobs.run(fail_on_the_first_core, 2, lines.append) == ["a file is damaged"]
    assert len(lines) == 2
    assert "done" in lines
    assert any(line.startswith("a file is damaged") for line in lines)


@TWO
def test_interrupts_are_for_the_process_that_started_them():
    """A terminal sends Ctrl-C to all; a traceback of each child would say nothing."""
    lines = []
    jobs.run(say_interrupts, 2, lines.append)
    assert lines == ["kept back"] * 2
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_process_that_is_killed_is_named():
    (said,) = jobs.run(die, 1, print)
    assert said.startswith("a process ended with exit status -9, as something killed it")


PARENT = """
import functools, pathlib, sys
from benchmarks import jobs
from tests.benchmarks.test_jobs import wait_in
if __name__ == "__main__":
    jobs.run(functools.partial(wait_in, pathlib.Path(sys.argv[1])), 1, print)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_process_outlives_the_one_that_started_it(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    there = tmp_path / "there"
    there.mkdir()
    with processes.started(str(tmp_path / "parent.py"), str(there)) as parent:
        while not (names := os.listdir(there)):
            assert parent.poll() is None, parent.stdout.read()
            time.sleep(0.05)
        parent.kill()
        parent.wait()
        while is_alive(int(names[0])):
            time.sleep(0.05)


@TWO
def test_two_processes_that_die_leave_what_two_others_finish(tmp_path, monkeypatch):
    out, whole = tmp_path / "out", tmp_path / "whole"
    said = []
    ends = jobs.run(functools.partial(killed_run.die_in, out, 7), 2, said.append)
    assert len(ends) == 2
    assert all("exit status -9" in end for end in ends)
    assert not list(out.glob("*.md"))
    assert jobs.run(functools.partial(killed_run.train, out), 2, said.append) == []
    assert any("STL, seed 1: resumed at" in line for line in said)
    monkeypatch.setattr(compare, "open_problem", lambda *_: NoisyProblem())
    compare.run_missing(killed_run.comparison(whole), Console(quiet=True))
    names = sorted(path.name for path in whole.glob("*.jsonl"))
    assert len(names) == 4
    for name in names:
        assert figures(out / name) == figures(whole / name), name


def test_what_one_process_left_another_may_have_done(tmp_path, monkeypatch):
    """Then there is nothing wrong with the folder."""
    monkeypatch.setattr(compare, "open_problem", lambda *_: NoisyProblem())
    monkeypatch.setattr(jobs, "run", lambda *_: ["a process ended with exit status -9"])
    alone = killed_run.comparison(tmp_path)
    several = dataclasses.replace(alone, jobs=2)
    with pytest.raises(UserError, match="status -9; the same command goes on with what is left"):
        compare.run_missing(several, Console(quiet=True))
    compare.run_missing(alone, Console(quiet=True))
    compare.run_missing(several, Console(quiet=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "--jobs: expected 1 to [0-9]+, the number of cores, found 0"),
        ({"jobs": 10_000}, "the number of cores, found 10000"),
        ({"jobs": 2, "mesh": "data=2"}, "--jobs: expected 1 with --mesh"),
    ],
)
def test_jobs_that_cannot_be_are_refused(tmp_path, options, said):
    config = dataclasses.replace(killed_run.comparison(tmp_path / "out"), **options)
    with pytest.raises(UserError, match=said):
        compare.run_missing(config, Console(quiet=True))
    assert not (tmp_path / "out").exists()
