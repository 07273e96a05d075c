"""Runs on several devices end with the figures of one."""

import dataclasses
import io
import socket

import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks import compare
from benchmarks.errors import UserError
from benchmarks.run_log import MutedLog
from benchmarks.training import distributed, mesh
from benchmarks.training.programs import Programs
from benchmarks.training.trainer import Trainer
from benchmarks.training.validation import Run
from tests.benchmarks.conftest import TRAIN
from tests.helpers import mesh_run
from tests.helpers.interruptions import figures
from tests.helpers.noisy_problem import NoisyProblem
from tests.helpers.processes import finish, started

TOLERANCE = 1e-4
FOUR = ("--devices", "4", "--mesh", "data=2,fsdp=2")


def start(out, *options):
    return started("-W", "error", "-m", "tests.helpers.mesh_run", str(out), *options)


def run_on_one_device(out) -> None:
    compare.run_missing(mesh_run.comparison(out), Console(file=io.StringIO()))


def check_close(out, expected):
    """Every figure of every record."""
    names = sorted(path.name for path in expected.glob("*.jsonl"))
    assert names == sorted(path.name for path in out.glob("*.jsonl"))
    for name in names:
        pairs = list(zip(figures(out / name), figures(expected / name), strict=True))
        for ours, theirs in pairs:
            assert ours.keys() == theirs.keys()
            for key in theirs.keys() - {"kind", "dataset", "network", "tasks", "metrics"}:
                got, right = (np.array(jax.tree.leaves(r[key]), float) for r in (ours, theirs))
                np.testing.assert_allclose(got, right, rtol=TOLERANCE, atol=1e-5, err_msg=key)


@pytest.mark.usefixtures("tiny")  # few molecules and tasks
def test_a_run_on_a_mesh_ends_with_the_figures_of_one_device(tmp_path):
    """Also when it is interrupted: a checkpoint is restored into the same places."""
    with start(tmp_path / "mesh", *FOUR, "--stop", "2") as process:
        assert "resumed at epoch 0, step 1" in finish(process)
    run_on_one_device(tmp_path / "one")
    check_close(tmp_path / "mesh", tmp_path / "one")


def test_axes_that_are_not_named_have_one_device():
    assert mesh.parse("fsdp=2") == {"data": 1, "fsdp": 2}


@pytest.mark.parametrize(
    ("text", "batch_size", "message"),
    [
        ("data=4,tensor=2", 8, "expected the axes data and fsdp once each, found 'tensor=2'"),
        ("data=4,data=2", 8, "once each, found 'data=2'"),
        ("data=x", 8, "expected a size of at least 1 for data, found 'x'"),
        ("data=0", 8, "expected a size of at least 1 for data, found '0'"),
        ("data=4096", 8192, "devices, found 4096"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(text, batch_size, message):
    with pytest.raises(UserError, match=message):
        mesh.make(text, batch_size)


def test_a_batch_that_devices_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(mesh.jax, "devices", lambda: jax.local_devices() * 4)
    with pytest.raises(UserError, match="expected a multiple of the mesh's 4 devices, found 6"):
        mesh.make("data=4", 6)
    with pytest.raises(UserError, match=r"4 devices times 2 \(--chunks\), found 12"):
        mesh.make("data=4", 12, chunks=2)


def test_seeds_in_one_program_are_refused(problem):
    programs = Programs(problem, problem.multi_task, None, TRAIN, mesh=mesh.make("data=1", 8))
    runs = [Run(seed, None, MutedLog()) for seed in (0, 1)]
    with pytest.raises(UserError, match="one by one, found 2 together"):
        Trainer(programs).run(runs, None)


def test_the_axis_of_tasks_is_never_divided():
    shape = {"w": np.zeros((4, 4, 6)), "b": np.zeros(6), "scalar": np.zeros(())}
    two = jax.sharding.AbstractMesh((1, 2), mesh.AXES)
    spec = mesh.Layout(two, 4)._spec_beside(shape)
    assert spec((6,)) == jax.sharding.PartitionSpec("fsdp")
    assert spec((4, 6)) == jax.sharding.PartitionSpec(None, "fsdp")  # the average of b
    assert spec((4, 4, 6)) == jax.sharding.PartitionSpec(None, None, "fsdp")
    assert spec((4, 4, 4, 6)) == jax.sharding.PartitionSpec(None, None, None, "fsdp")
    assert spec((4,)) == jax.sharding.PartitionSpec()  # one number for each task
    assert spec((2,)) == jax.sharding.PartitionSpec()  # no parameter's shape


@pytest.mark.slow
def test_two_processes_end_with_the_figures_of_one(tmp_path, monkeypatch):
    """The parameters are divided between them; the second process prints nothing of its own.

    Of a small problem, as each process compiles all programs.
    """
    out = tmp_path / "two"
    options = (
        "--problem",
        "noisy",
        "--mesh",
        "fsdp=2",
        "--coordinator",
        f"127.0.0.1:{free_port()}",
        "--process",
    )
    with start(out, *options, "0") as first, start(out, *options, "1") as second:
        printed = [finish(first), finish(second)]
    monkeypatch.setattr(compare, "open_problem", lambda *_: NoisyProblem())
    run_on_one_device(tmp_path / "one")
    check_close(out, tmp_path / "one")
    assert [("DB-MTL, seed 0: done" in text) for text in printed] == [True, False]
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "db_mtl-seed0.jsonl",
        "stl-seed0.jsonl",
    ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_process_must_know_which_it_is(tiny):
    config = dataclasses.replace(tiny, distributed=True, coordinator="127.0.0.1:1")
    with pytest.raises(UserError, match="without --process-id, --num-processes"):
        distributed.initialize(config)
    with pytest.raises(UserError, match="--coordinator: needs --distributed"):
        distributed.initialize(dataclasses.replace(config, distributed=False))
