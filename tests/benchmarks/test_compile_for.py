"""Tables and a picture of programs that were compiled, not run."""

import io
import json
import types

import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks.accelerators import targets
from benchmarks.accelerators.figures import Figures
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import compile_for, compile_for_picture, mlp
from benchmarks.perf.compile_for_row import Program
from benchmarks.perf.compiled import Compiled, from_json

PROGRAM = Program("v5e", "mlp", 3, 256, "db_mtl", "vmap")
COUNTS = Figures(5_000_000, 7_000_000_000, 12, {"all-reduce": 3}, 2_000_000, 1)
ROW = Compiled(PROGRAM, 10**7, 4.2, 20_000_000, 10_000_000, 30_000_000, COUNTS)


def of(**changes):
    return ROW._replace(program=PROGRAM._replace(**changes))


def test_a_page_says_that_nothing_was_run(tmp_path):
    refused = Compiled(PROGRAM._replace(mode="stream"), 10**7, 4.2)
    large = of(mode="loop")._replace(needed=18 * 10**9)
    page = compile_for.page([ROW, refused, large])
    assert "**TPU v5e, mlp, batches of 256 (compiled, not run)**" in page
    assert "| DB-MTL | 3 | vmap | 10 | 30 | 5 | 7.0 | 12 | 1 | 2.00 | 4 |" in page
    assert "| DB-MTL | 3 | stream | does not fit |" in page
    assert "| DB-MTL | 3 | loop | 10 | 18000 (too much) |" in page
    assert "largest batch" not in page
    searched = compile_for.page([ROW._replace(largest_batch=990), of(mode="loop")])
    assert "| 2.00 | 4 | 990 |" in searched
    assert "| 2.00 | 4 | – |" in searched
    compile_for_picture.draw([ROW, of(target="h100")], tmp_path / "compiled.png")
    assert (tmp_path / "compiled.png").stat().st_size > 1000


@pytest.mark.parametrize(("fixed", "per_example"), [(2e9, 3e6), (16.9e9, 1e3), (1e9, 0)])
def test_the_largest_batch_that_fits(monkeypatch, fixed, per_example):
    memory = targets.TARGETS["v5e"].memory

    def row(step, size):
        return of(batch_size=size)._replace(needed=int(fixed + per_example * size))

    monkeypatch.setattr(compile_for.Step, "row", row)
    step = compile_for.Step(PROGRAM, None, None)
    found = step.largest_batch(step.row(256))
    assert step.row(found).fits(memory)
    if per_example:
        assert 0.9 < found / ((memory - fixed) / per_example) <= 1


def test_a_refused_batch_is_larger_than_the_largest(monkeypatch):
    """XLA tells no size of a program that it refuses."""

    def row(step, size):
        refused = Compiled(PROGRAM._replace(batch_size=size), 10**7, 4.2)
        return of(batch_size=size)._replace(needed=10**7 * size) if size < 1000 else refused

    monkeypatch.setattr(compile_for.Step, "row", row)
    step = compile_for.Step(PROGRAM, None, None)
    assert step.largest_batch(step.row(256)) == 990


@pytest.mark.parametrize(("method", "mode"), [("db_mtl", "loop"), ("mgda", "auto")])
def test_a_step_is_compiled_for_batches_of_any_size(monkeypatch, method, mode):
    """Here for the CPU; what is found is read again as it was written."""
    monkeypatch.setattr(mlp, "_WIDTHS", (4, 8, 6))
    monkeypatch.setattr(mlp, "_BATCH", 4)
    program = Program("v5e", "mlp", 2, 4, method, mode)
    step = compile_for.Step(program, mlp.mlp(2), jax.devices()[0])
    small, large = step.row(4), step.row(64)
    assert large.program == program._replace(batch_size=64)
    assert small.parameters == 4 * 8 + 8 + 8 * 6 + 6 + 2 * 6
    assert large.needed > small.needed > small.kept >= 4 * small.parameters
    assert large.counts.flops > 8 * small.counts.flops > 0
    for row in (small, large):
        assert from_json(json.loads(json.dumps(row.as_json())), Program, "file") == row


def test_what_was_compiled_by_the_same_code_is_not_compiled_again(tmp_path, monkeypatch):
    config = Perf(out=tmp_path)
    rows = [ROW._replace(largest_batch=990), Compiled(PROGRAM._replace(mode="loop"), 10**7, 4.2)]
    compile_for._write(config, rows)
    assert compile_for._known(config) == {row.program: row for row in rows}
    monkeypatch.setattr(compile_for.run_log, "environment", lambda: {"commit": "another"})
    assert compile_for._known(config) == {}


def test_a_command_goes_on_where_the_one_before_stopped(tmp_path, monkeypatch):
    """Rows of other options stay in the file."""
    monkeypatch.setattr(targets, "prepare", lambda: None)
    monkeypatch.setattr(targets, "devices", lambda target: [None])
    monkeypatch.setitem(
        compile_for.NETWORKS, "mlp", lambda t: types.SimpleNamespace(batch=np.ones(8), num_tasks=t)
    )
    measured = []

    def row(step, size):
        measured.append((step.program.num_tasks, step.program.mode, size))
        return ROW._replace(program=step.program)

    monkeypatch.setattr(compile_for.Step, "row", row)

    def run(num_tasks):
        config = Perf(
            networks=("mlp",), num_tasks=num_tasks, modes=("vmap",), out=tmp_path,
            compile_for=("v5e",),
        )  # fmt: skip
        return compile_for.measure(config, Console(file=io.StringIO()))

    assert [row.program.mode for row in run((2,))] == ["EW", "vmap"]
    assert len(run((2, 3))) == 4
    assert measured == [(t, mode, 8) for t in (2, 3) for mode in ("EW", "vmap")]
    assert [row.program.num_tasks for row in run((3,))] == [3, 3]
    assert len(measured) == 4
    kept = json.loads((tmp_path / "compiled.json").read_text())["compiled"]
    assert [row["program"]["num_tasks"] for row in kept] == [2, 2, 3, 3]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("program"), "program: expected an object, found None"),
        (lambda row: row["program"].pop("mode"), "program: mode: expected a name"),
        (lambda row: row["program"].update(target="v9"), "expected one of v5e, v5p, v6e, h100"),
        (lambda row: row.update(compile_seconds="long"), "compile_seconds: expected a number"),
        (lambda row: row.update(needed=-1), "needed: expected a whole number, or null, found -1"),
        (lambda row: row["counts"].update(kernels=None), "counts: kernels: expected a whole"),
        (
            lambda row: row["counts"].update(collectives={"all-reduce": "3"}),
            "counts: collectives: expected an object of whole numbers",
        ),
    ],
)
def test_rows_that_are_damaged_are_refused(tmp_path, change, said):
    config = Perf(out=tmp_path)
    compile_for._write(config, [ROW])
    path = tmp_path / "compiled.json"
    record = json.loads(path.read_text())
    change(record["compiled"][0])
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"compiled.json: compiled: {said}"):
        compile_for._known(config)


def test_lists_of_methods_are_spelt_out():
    """Without single-task networks, and without a method that reads two batches."""
    found = compile_for._other_methods(["all", "beyond", "mgda"])
    assert {"mgda", "db_mtl", "upgrad"} <= set(found)
    assert not {"stl", "ew", "modo"} & set(found)
    with pytest.raises(UserError, match="modo reads two batches"):
        compile_for._other_methods(["modo"])


def test_bad_options_are_refused_before_a_compiler_is_looked_for(tmp_path):
    def config(**changes):
        return Perf(**{"out": tmp_path / "out", "compile_for": ("v5e",)} | changes)

    for changes, expected in (
        ({"compile_for": ()}, "--compile-for: expected some of v5e, v5p, v6e, h100, found none"),
        ({"batch_size": 0}, "--batch-size: expected at least 1, found 0"),
        ({"num_tasks": (3, 0)}, "--num-tasks: expected at least 1, found 0"),
    ):
        with pytest.raises(UserError, match=expected):
            compile_for.measure(config(**changes), None)
    assert not (tmp_path / "out").exists()
