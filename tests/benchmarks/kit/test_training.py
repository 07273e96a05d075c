"""Training in pieces ends with the figures of a whole one, and every piece ends in time."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.errors import UserError
from benchmarks.kit import pieces, single_task, training
from benchmarks.kit.deadline import Deadline, OutOfTime
from benchmarks.report.records.study import load
from tests.benchmarks.conftest import make_molecules
from tests.benchmarks.kit.conftest import Clock
from tests.helpers.interruptions import figures


@pytest.fixture(autouse=True)
def programs_of_the_tests(monkeypatch):
    monkeypatch.setattr(training, "_keep_programs", lambda folder: None)


def train(config, clock, minutes=5):
    said = []
    left = training.train(config, make_molecules(), Deadline(minutes, clock=clock), said.append)
    return left, said


def test_pieces_have_the_figures_of_a_whole_training(tiny, tmp_path):
    config = dataclasses.replace(tiny, methods=("stl", "db_mtl"))
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    assert train(whole, Clock())[0] == []
    outlooks = []
    for _ in range(20):
        clock = Clock(tick=21)
        left, said = train(config, clock)
        assert clock.now < 5 * 60
        outlooks += said
        if not left:
            break
    text = "\n".join(outlooks)
    assert "piece 2 on cpu" in text
    assert "resumed at epoch" in text
    assert "left: STL, seed 0; DB-MTL, seed 0" in text
    assert "% done; pieces that it still takes: " in text
    assert outlooks[-1] == "all runs are complete: unpack them"
    assert max(path.stat().st_size for path in config.out.iterdir()) <= pieces.PIECE_BYTES
    folders = [tmp_path / "whole runs", tmp_path / "runs"]
    for packed, folder in zip((whole.out, config.out), folders, strict=True):
        pieces.unpack(packed, folder)
    for name in ("stl-seed0.jsonl", "db_mtl-seed0.jsonl"):
        assert figures(folders[0] / name) == figures(folders[1] / name)
    log = [json.loads(line) for line in (folders[1] / training.LOG).read_text().splitlines()]
    assert log[-1]["environment"]["device"] == "cpu"
    assert len(log) == text.count("piece ") >= 2
    assert {row.method for row in load(folders[1]).outcomes} == {"stl", "db_mtl"}


def test_a_finished_folder_has_nothing_to_do(tiny):
    config = dataclasses.replace(tiny, methods=("stl",))
    train(config, Clock())
    left, said = train(config, Clock())
    assert left == []
    assert "all runs are complete" in said[1]


def test_pieces_of_other_settings_are_refused(tiny):
    config = dataclasses.replace(tiny, methods=("stl",))
    train(config, Clock())
    other = dataclasses.replace(config, preset="small")
    with pytest.raises(UserError, match="preset is 'quick' there and 'small' here"):
        train(other, Clock())
    (config.out / "state-2-0.part").unlink(missing_ok=True)
    (config.out / "state-1-0.part").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"\.part: cannot read"):
        train(config, Clock())


@pytest.mark.slow
def test_the_baseline_in_groups_has_the_records_of_one(tiny, tmp_path):
    config = dataclasses.replace(tiny, methods=("stl", "ew"))
    whole = dataclasses.replace(config, methods=("stl",), out=tmp_path / "whole")
    train(whole, Clock())
    said = []
    deadline = Deadline(5, clock=Clock())
    assert not training.train(config, make_molecules(), deadline, said.append, at_once=6)
    assert "STL, seed 0 (mu, alpha, eps_HOMO, eps_LUMO, R2, ZPVE): done" in said
    assert "STL, seed 0 (U0, U, H, G, c_v): done" in said
    pieces.unpack(whole.out, tmp_path / "one")
    pieces.unpack(config.out, tmp_path / "groups")
    ours, theirs = (figures(tmp_path / x / "stl-seed0.jsonl") for x in ("groups", "one"))
    assert [record.keys() for record in ours] == [record.keys() for record in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for key, value in other.items():
            if isinstance(value, list):
                assert len(mine[key]) == len(value) == 11
            else:
                assert mine[key] == value
    # They are trained as among all, but sums have another order.
    np.testing.assert_allclose(ours[1]["losses"], theirs[1]["losses"], rtol=1e-5)
    np.testing.assert_allclose(ours[-1]["test"], theirs[-1]["test"], rtol=1e-3)
    assert {row.method for row in load(tmp_path / "groups").outcomes} == {"stl", "ew"}


def test_a_group_that_failed_fails_the_run():
    start = {"kind": "start", "tasks": ["a"], "num_parameters": 2, "seed": 0}
    failed = {"kind": "failed", "step": 3, "losses": [None]}
    done = {"kind": "result", "test": [[1.0]], "seconds": 2.0, "steps_per_second": 4.0}
    assert single_task.joined([[start, done], [start, failed]]) == [
        {"kind": "start", "tasks": ["a", "a"], "num_parameters": 4, "seed": 0},
        failed,
    ]
    assert single_task.joined([[start, done], [start, done]])[1] == {
        "kind": "result", "test": [[1.0], [1.0]], "seconds": 4.0, "steps_per_second": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("at_once", [0, 12])
def test_a_wrong_group_is_refused(tiny, clock, at_once):
    deadline = Deadline(5, clock=clock)
    with pytest.raises(UserError, match=f"--at-once: expected 1 to 11, found {at_once}"):
        training.train(tiny, make_molecules(), deadline, at_once=at_once)


class Checkpoint(training.PackedCheckpoints):
    """Writes nothing."""

    def __init__(self, tmp_path, deadline):
        self.packed = 0
        super().__init__(tmp_path / "x.checkpoint", 1e9, deadline=deadline, pack=self.count)

    def count(self):
        self.packed += 1


def test_the_farthest_look_is_kept_free(tmp_path, clock):
    """A trainer that once compiled for 90 seconds may do so again before it looks at the clock."""
    saved = Checkpoint(tmp_path, Deadline(9, clock=clock))
    last = 540 - training.RESERVE - 90
    for now in (90, 150, 240, 330, 400, last - 1):
        clock.now = now
        assert not saved.due
    clock.now = last + 1
    assert saved.due


def test_the_last_checkpoint_ends_the_piece(tmp_path, clock):
    deadline = Deadline(9, clock=clock)
    saved = Checkpoint(tmp_path, deadline)
    saved.save({"x": 1.0})
    assert saved.packed == 1
    clock.now = 520
    assert saved.due
    with pytest.raises(OutOfTime):
        saved.save({"x": 2.0})
    assert saved.packed == 2
    (found,) = saved.restore({"x": 0.0}, print)
    assert found == {"x": 2.0}


def test_no_run_begins_without_time_to_compile(tmp_path, clock):
    deadline = Deadline(9, clock=clock)
    clock.now = 540 - training.TO_BEGIN + 1
    with pytest.raises(OutOfTime):
        Checkpoint(tmp_path, deadline)


def test_old_programs_are_left_out(tmp_path):
    import os

    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(b"x" * 10)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    training._limit(tmp_path, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "middle"}
    training._limit(tmp_path / "nowhere", 25)
