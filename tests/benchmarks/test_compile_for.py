"""Tables and a picture of programs that were compiled, not run."""

from benchmarks.perf import compile_for, compile_for_picture


def test_a_page_says_that_nothing_was_run(tmp_path):
    numbers = (30_000_000, 10_000_000, 5_000_000, 7_000_000_000, 12, 1, 2_000_000)
    row = compile_for.Row("v5e", "mlp", 3, "db_mtl", "vmap", 4.2, *numbers, fits=True)
    large = row._replace(mode="stream", needed=0, fits=False)
    page = compile_for.page([row, large])
    assert "**TPU v5e, mlp (compiled, not run)**" in page
    assert "| DB-MTL | 3 | vmap | 10 | 30 | 5 | 7.0 | 12 | 1 | 2.00 | 4 |" in page
    assert "does not fit" in page
    compile_for_picture.draw([row, row._replace(target="h100")], tmp_path / "compiled.png")
    assert (tmp_path / "compiled.png").stat().st_size > 1000
