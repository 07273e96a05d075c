import json
import resource

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import run_log
from benchmarks.errors import UserError


def test_records_come_back(tmp_path):
    path = run_log.run_path(tmp_path, "db_mtl", 3)
    with run_log.RunLog(path) as log:
        log.write("epoch", losses=jnp.arange(2.0), score=np.float32(np.nan), nested=[[1.5]])
        assert not run_log.is_complete(run_log.read_run(path))  # on disk at once
        log.write("result", test=[[1.0]])
    records = run_log.read_run(path)
    assert records[0] == {"kind": "epoch", "losses": [0.0, 1.0], "score": None, "nested": [[1.5]]}
    assert run_log.is_complete(records)
    assert run_log.read_folder(tmp_path) == ({"db_mtl": {3: records}}, [], [])


def test_runs_under_a_former_name_are_those_of_the_method(tmp_path):
    """They are read, and gone on with where they are; new ones have the present name."""
    former = tmp_path / "scale_by_mtadam-seed0.jsonl"
    former.write_text('{"kind": "result", "test": [[1.0]]}\n')
    assert run_log.run_path(tmp_path, "mtadam", 0) == former
    assert run_log.run_path(tmp_path, "mtadam", 1) == tmp_path / "mtadam-seed1.jsonl"
    assert run_log.read_folder(tmp_path).runs == {"mtadam": {0: run_log.read_run(former)}}


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "ew-seed0.jsonl"
    path.write_text('{"kind": "step"}\n{"kind": "resu')
    assert run_log.read_run(path) == [{"kind": "step"}]
    assert run_log.read_folder(tmp_path) == ({}, ["ew-seed0"], [])


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "ew-seed0.jsonl"
    path.write_text('{"kind": "step"}\nnonsense\n')
    with pytest.raises(
        UserError, match=r"ew-seed0.jsonl, line 2: expected JSON, found b'nonsense'"
    ):
        run_log.read_run(path)


def test_a_folder_has_one_setting(tmp_path):
    folder = tmp_path / "new" / "folder"
    settings = {"train": {"epochs": 3, "beta": 0.9}}
    run_log.open_folder(folder, settings)
    run_log.open_folder(folder, settings)
    assert json.loads((folder / "config.json").read_text()) == settings
    with pytest.raises(UserError, match=r"train.epochs is 3 there and 4 here"):
        run_log.open_folder(folder, {"train": {"epochs": 4, "beta": 0.9}})


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run_log.open_folder(tmp_path / "file" / "out", {})
    with (
        pytest.raises(UserError, match="cannot write"),
        run_log.RunLog(tmp_path / "missing" / "run.jsonl"),
    ):
        pass


def test_a_file_has_one_writer(tmp_path):
    path = tmp_path / "ew-seed0.jsonl"
    with run_log.RunLog(path) as log:
        log.write("start")
        assert run_log.is_held(path)
        with pytest.raises(run_log.HeldError, match=r"ew-seed0.jsonl"), run_log.RunLog(path):
            pass
        log.write("result")
    assert not run_log.is_held(path)
    run_log.wait(path)  # for nobody
    assert [record["kind"] for record in run_log.read_run(path)] == ["start", "result"]


def test_records_can_be_taken_away(tmp_path):
    path = tmp_path / "ew-seed0.jsonl"
    with run_log.RunLog(path) as log:
        log.write("start", name="µ")
        mark = log.mark
        log.write("step")
        assert log.begins_with(mark)
    path.write_bytes(path.read_bytes() + b'{"kind": "res')  # cut off
    with run_log.RunLog(path) as log:
        assert log.begins_with(mark)
        assert not log.begins_with(mark._replace(checksum=1))
        assert not log.begins_with(mark._replace(size=1_000))
        log.rewind(mark)
        assert log.mark == mark
        log.write("epoch")
    assert [record["kind"] for record in run_log.read_run(path)] == ["start", "epoch"]


def test_a_full_disk_is_one_line(tmp_path):
    """The limit on a file's size fails as a full disk does, here in the middle of a record."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "ew-seed0.jsonl"
    with run_log.RunLog(path) as log:
        log.write("start")
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, limits[1]))
        try:
            with pytest.raises(UserError, match=r"ew-seed0.jsonl: cannot write \(File too large\)"):
                log.write("step", losses=[1.0] * 10)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == 40
    assert run_log.read_run(path) == [{"kind": "start"}]


def test_the_environment_names_versions_and_device():
    environment = run_log.environment()
    assert {"jax", "optax", "flax"} <= environment["versions"].keys()
    assert environment["device"]
    json.dumps(environment)


def test_float32_is_written_with_as_many_digits_as_it_has(tmp_path):
    value = np.float32(0.1)
    with run_log.RunLog(tmp_path / "run.jsonl") as log:
        log.write("epoch", losses=jnp.full(2, value), score=value, nested=[np.full((1, 1), value)])
    (record,) = run_log.read_run(tmp_path / "run.jsonl")
    assert record == {"kind": "epoch", "losses": [0.1, 0.1], "score": 0.1, "nested": [[[0.1]]]}
    assert np.float32(record["score"]) == value
