"""Tables and a picture of programs that were compiled, not run."""

import pytest

from benchmarks.accelerators import targets
from benchmarks.config import Perf
from benchmarks.errors import UserError
from benchmarks.perf import compile_for, compile_for_picture


def test_a_page_says_that_nothing_was_run(tmp_path):
    numbers = (30_000_000, 10_000_000, 5_000_000, 7_000_000_000, 12, 1, 2_000_000)
    row = compile_for.Row("v5e", "mlp", 3, 256, "db_mtl", "vmap", 4.2, *numbers, fits=True)
    large = row._replace(mode="stream", needed=0, fits=False)
    page = compile_for.page([row, large])
    assert "**TPU v5e, mlp, batches of 256 (compiled, not run)**" in page
    assert "| DB-MTL | 3 | vmap | 10 | 30 | 5 | 7.0 | 12 | 1 | 2.00 | 4 |" in page
    assert "does not fit" in page
    compile_for_picture.draw([row, row._replace(target="h100")], tmp_path / "compiled.png")
    assert (tmp_path / "compiled.png").stat().st_size > 1000


@pytest.mark.parametrize(("fixed", "per_example"), [(2e9, 3e6), (16.9e9, 1e3), (1e9, 0)])
def test_the_largest_batch_that_fits(monkeypatch, fixed, per_example):
    memory = targets.TARGETS["v5e"].memory

    def row(_, size):
        needed = int(fixed + per_example * size)
        what = ("v5e", "mlp", 3, size, "db_mtl", "vmap", 1.0)
        return compile_for.Row(*what, needed, *(0,) * 6, fits=needed <= memory)

    monkeypatch.setattr(compile_for.Program, "row", row)
    program = compile_for.Program("v5e", None, "mlp", None, "db_mtl", "vmap")
    found = program.largest_batch(program.row(256))
    assert program.row(found).fits
    if per_example:
        assert 0.9 < found / ((memory - fixed) / per_example) <= 1


def test_what_was_compiled_by_the_same_code_is_not_compiled_again(tmp_path, monkeypatch):
    row = compile_for.Row("v5e", "mlp", 3, 256, "db_mtl", "vmap", 4.2, *(1,) * 7, fits=True)
    config = Perf(out=tmp_path)
    compile_for._write(config, [row])
    assert compile_for._known(config) == [row]
    monkeypatch.setattr(compile_for.run_log, "environment", lambda: {"commit": "another"})
    assert compile_for._known(config) == []


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
