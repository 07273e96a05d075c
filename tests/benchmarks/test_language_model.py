"""The search for the largest language model, and its table; nothing is compiled here."""

import pytest

from benchmarks.accelerators import targets
from benchmarks.accelerators.figures import Figures
from benchmarks.errors import UserError
from benchmarks.perf import language_model
from benchmarks.perf.compiled import Compiled
from benchmarks.perf.language_model import Program, Record

GB = 10**9
PROGRAM = Program("v5e", (1, 8), "DB-MTL", 2048, 12)


def row(layers, needed, collectives=None):
    counts = Figures(0, 0, 0, collectives or {}, 0, 0)
    program = PROGRAM._replace(layers=layers)
    return Compiled(program, 10**9, 12.0, needed=needed, kept=GB, counts=counts)


def search(needed):
    """The depths that the search tries, and what it finds."""
    tried = []

    def measure(program):
        tried.append(program.layers)
        return row(program.layers, needed(program.layers))

    return language_model.deepest(measure, PROGRAM, targets.TARGETS["v5e"].memory), tried


def test_the_deepest_model_fills_the_memory():
    """17 GB of 17.18, with a quarter for each layer."""
    found, tried = search(lambda layers: GB + layers * GB // 4)
    assert (found.program.layers, tried) == (64, [4, 16, 64])


def test_a_model_that_is_refused_gives_way_to_smaller_ones():
    found, tried = search(lambda layers: GB + layers * GB // 4 if layers < 63 else None)
    assert (found.program.layers, tried) == (62, [4, 16, 64, 62])


def test_the_search_goes_on_where_there_is_room_left():
    """As where XLA keeps less of a model that is large."""
    found, tried = search(lambda layers: int((GB + layers * GB // 4) * (0.8 if layers > 60 else 1)))
    assert tried == [4, 16, 64, 83, 81]
    assert found.program.layers == 81


def test_what_was_compiled_is_read_from_the_file(tmp_path, monkeypatch):
    compiled = []

    def measure(program):
        compiled.append(program)
        return row(program.layers, GB, {"all-gather": 5})

    monkeypatch.setattr(language_model, "measure", measure)
    path = tmp_path / "rows.jsonl"
    first = Record(path, print).measure(PROGRAM)
    assert Record(path, print).measure(PROGRAM) == first
    deeper = PROGRAM._replace(layers=13)
    Record(path, print).measure(deeper)
    assert compiled == [PROGRAM, deeper]
    with path.open("a") as file:
        file.write('{"program": {"target": "v5e", "mesh": [8]}}\n')
    with pytest.raises(UserError, match=r"rows.jsonl: line 3: parameters: expected a whole number"):
        Record(path, print)
    path.write_text("half of a li")
    with pytest.raises(UserError, match=r"rows.jsonl: line 1: expected JSON"):
        Record(path, print)


def test_the_table_says_what_does_not_fit():
    full = row(16, 3 * GB, {"all-gather": 1_500_000_000})
    page = language_model.table([full, row(70, 18 * GB), row(80, None)])
    assert "| TPU v5e | 1×8 | DB-MTL | 16 × 2048 | 1000 | 1.00 | 0.00 | 3.00 |" in page
    assert "| 1.50 |" in page
    assert "| 18.00 (too much) |" in page
    assert "| does not fit |" in page
