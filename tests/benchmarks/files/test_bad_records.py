"""Damaged files of runs: reports leave them out with a line, and readers say what is wrong."""

import io
import json
import re
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import run_log
from benchmarks.errors import UserError
from benchmarks.report import command, page, rendered, study_report
from benchmarks.report.records import study
from benchmarks.report.tables import terminal
from benchmarks.schedule import Schedule
from benchmarks.training import runs
from tests.benchmarks.runs import SETS, metrics, write_folder, write_run, write_settings

START = {"dataset": "cityscapes", **SETS["cityscapes"]}


def good():
    """The records of a run."""
    test = metrics("cityscapes", 3)
    epoch = {
        "kind": "epoch", "step": 5, "losses": [0.5, 0.4], "validation": test,
        "gradient_norms": [1.0, 2.0], "cosine_similarity": [[1.0, 0.5], [0.5, 1.0]],
    }  # fmt: skip
    return [
        {"kind": "start", "seed": 0, **START, "environment": {"device": "cpu", "versions": {}}},
        {"kind": "step", "step": 0, "losses": [1.0, 1.0]},
        epoch,
        epoch,
        {"kind": "result", "validation": test, "test": test, "steps": 10, "seconds": 2.5,
         "steps_per_second": 4.0},
    ]  # fmt: skip


def lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def with_field(line, field, value):
    """The records with another value of a field; `...` removes it."""
    records = [dict(record) for record in good()]
    records[line][field] = value
    if value is ...:
        del records[line][field]
    return lines(records)


def with_last(**fields):
    return lines([*good()[:-1], fields])


HUGE = "9" * 5000
BAD = {
    "not UTF-8": (b"\xff\xfe\n", "line 1: expected JSON"),
    "a list": ("[1]\n", "line 1: expected a record"),
    "a number": ("17\n", "line 1: expected a record"),
    "no kind": ("{}\n", "line 1: expected a record"),
    "kind of another type": ('{"kind": []}\n', "line 1: expected a record"),
    "not JSON": (lines(good()[:2]) + "nonsense\n", "line 3: expected JSON, found b'nonsense'"),
    "5,000 digits": (f'{{"kind": "step", "x": {HUGE}}}\n', "line 1: expected JSON"),
    "400 digits": (with_field(4, "test", [[10**400] * 2] * 2), "line 5: test: expected a list"),
    "nested deep": ("[" * 100_000 + "\n", "line 1: expected JSON"),
    "half a character": (with_field(0, "x", "\ud800"), "line 1: expected JSON"),
    "text in test": (with_field(4, "test", [["a", "b"]] * 2), "line 5: test: expected a list"),
    "text for losses": (with_field(2, "losses", "abc"), "line 3: losses: expected a list"),
    "null for losses": (with_field(2, "losses", None), "line 3: losses: expected a list"),
    "no losses": (with_field(2, "losses", ...), "line 3: expected losses"),
    "fewer losses": (with_field(2, "losses", [1.0]), "line 3: losses: expected 2"),
    "fewer norms": (with_field(2, "gradient_norms", [1.0]), "line 3: gradient_norms: expected 2"),
    "ragged cosines": (with_field(2, "cosine_similarity", [[1.0], [1.0, 2.0]]), "line 3: expected"),
    "shape of validation": (with_field(2, "validation", [[1.0]]), "line 3: validation: expected"),
    "shape of test": (with_field(4, "test", [[1.0], [1.0]]), r"line 5: test: expected \[2, 2\]"),
    "empty test": (with_field(4, "test", []), r"line 5: test: expected \[2, 2\]"),
    "flat test": (with_field(4, "test", [1.0, 2.0]), "line 5: test: expected a list"),
    "no speed": (with_field(4, "steps_per_second", ...), "line 5: expected steps_per_second"),
    "speed of 0": (with_field(4, "steps_per_second", 0), "expected a number above 0, found 0"),
    "speed of null": (with_field(4, "steps_per_second", None), "a number above 0, found None"),
    "steps as text": (with_field(4, "steps", "ten"), "line 5: steps: expected a whole number"),
    "failed without step": (with_last(kind="failed"), "line 5: expected step"),
    "failed at a text": (with_last(kind="failed", step="x"), "line 5: step: expected a whole"),
    "environment of a list": (with_field(0, "environment", []), "environment: expected an object"),
    "versions of a list": (with_field(0, "environment", {"versions": []}), "expected an object"),
    "tasks of null": (with_field(0, "tasks", None), "line 1: tasks: expected a list"),
    "tasks of numbers": (with_field(0, "tasks", [1, 2]), "line 1: tasks: expected a list"),
    "no tasks": (with_field(0, "tasks", ...), "expected tasks, found"),
    "empty tasks": (
        lines([good()[0] | {"tasks": [], "metrics": [], "higher_is_better": []}, *good()[1:]]),
        "expected 1 to 200 metrics, found 0",
    ),
    "a task of many lines": (with_field(0, "tasks", ["a\nb", "c"]), "printable characters"),
    "dataset of a list": (with_field(0, "dataset", ["x"]), "line 1: dataset: expected a name"),
    "weights of a number": (with_field(0, "initial_weights", 3), "initial_weights: expected the"),
    "weights of a text": (with_field(0, "initial_weights", "x"), "initial_weights: expected the"),
    "weights of nothing": (with_field(0, "initial_weights", {}), "initial_weights: expected the"),
    "no start": (lines(good()[1:]), 'expected a record of the kind "start" first, found none'),
    "directions of numbers": (with_field(0, "higher_is_better", [[1, 1]] * 2), "true or false"),
}  # fmt: skip
FAULTS = [pytest.param(*bad, id=name) for name, bad in BAD.items()]


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path, "cityscapes", methods=("stl", "ew"), seeds=1)
    return tmp_path


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def pages(folder):
    """Everything that a report says, without figures."""
    found = study.load(folder)
    shown = study_report.make(found, figures=False)
    console = Console(file=io.StringIO(), markup=False, width=200)
    console.print(terminal.table(found.outcomes, study_report.title(found)))
    section = page.Section(shown, folder, "study")
    page.write(folder / "report.html", "title", [section])
    return rendered.markdown(shown), rendered.latex(shown)


@pytest.mark.parametrize(("text", "said"), FAULTS)
def test_a_damaged_run_is_left_out_with_a_line(folder, text, said):
    write(folder / "db_mtl-seed0.jsonl", text)
    found = study.load(folder)
    assert set(found.runs) == {"stl", "ew"}
    (line,) = found.left_out
    assert "db_mtl-seed0.jsonl" in line
    assert re.search(said, line)
    assert "Left out: " in pages(folder)[0]


def test_an_undamaged_run_is_shown(folder):
    """Otherwise the faults above could be anything else."""
    write(folder / "db_mtl-seed0.jsonl", lines(good()))
    found = study.load(folder)
    assert set(found.runs) == {"stl", "ew", "db_mtl"}
    assert found.left_out == found.unfinished == []


@pytest.mark.parametrize(
    "name",
    ["ew-seed0 (1).jsonl", "x-seedfoo.jsonl", "ew-seed00.jsonl", "-seed0.jsonl", "ew-seed-1.jsonl",
     "ew@-seed0.jsonl", "a\nb-seed0.jsonl", "ew-seed0-seed.jsonl", f"{'x' * 101}-seed0.jsonl"],
)  # fmt: skip
def test_a_stray_file_stops_neither_report_nor_training(folder, name):
    (folder / name).write_text(lines(good()))
    found = study.load(folder)
    assert set(found.runs) == {"stl", "ew"}
    assert len(found.left_out) == 1
    printed = Console(width=300)
    with printed.capture() as capture:
        command._checked(folder, printed)
    assert capture.get().startswith(f"left out of {folder}: ")
    assert str(folder) not in pages(folder)[0]  # which is published
    write_settings(folder, "cityscapes")
    run_log.open_folder(folder, json.loads((folder / "config.json").read_text()))
    (folder / f"{name}.checkpoint").mkdir()
    assert Schedule(folder, ("stl", "ew"), range(1)).left() == []
    assert Schedule(folder, ("stl", "ew"), range(2)).left() == [
        ("stl", (1,), False),
        ("ew", (1,), False),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_field(4, "validation", ...), "line 5: expected validation, found"),
        (with_field(4, "test", None), "line 5: expected test, found"),
        (with_field(4, "test", [[1.0], [1.0]]), r"line 5: expected \[2, 2\] metrics of the tasks"),
        (with_field(4, "test", [["a"]]), "line 5: test: expected a list"),
        ("nonsense\n", "line 1: expected JSON"),
    ],
)
def test_a_damaged_baseline_is_named_before_training(folder, text, said):
    problem = types.SimpleNamespace(higher_is_better=START["higher_is_better"])
    work = runs.Work(types.SimpleNamespace(out=folder), lambda: problem, None)
    write(folder / "stl-seed0.jsonl", lines(good()))
    assert runs._baseline(work, 0).test == good()[4]["test"]
    write(folder / "stl-seed0.jsonl", text)
    with pytest.raises(UserError, match=rf"stl-seed0\.jsonl, {said}"):
        runs._baseline(work, 0)


def test_a_folder_where_a_file_should_be(folder):
    (folder / "uw-seed0.jsonl").mkdir()
    assert (
        study.load(folder).left_out[0].endswith("uw-seed0.jsonl: expected a file, found a folder")
    )
    with pytest.raises(UserError, match=r"uw-seed0.jsonl: expected a file, found a folder"):
        run_log.read_run(folder / "uw-seed0.jsonl")


def test_two_files_of_one_run(folder):
    """The one that training goes on with counts, which has the present name."""
    for name in ("mtadam", "scale_by_mtadam"):
        write_run(folder, name, 0, START, metrics("cityscapes", 5))
    found = study.load(folder)
    assert found.left_out[0].endswith("expected one file of a run, found mtadam-seed0.jsonl, too")
    assert set(found.runs) == {"stl", "ew", "mtadam"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff", "expected JSON"),
        ("[]", "expected an object"),
        ("[" * 100_000, "expected JSON"),
        (HUGE, "expected JSON"),
        ('{"dataset": []}', "dataset: expected a name"),
        ('{"train": []}', "train: expected an object"),
        ('{"train": {"epochs": []}}', "train: epochs: expected a whole number"),
        ('{"data": {"train_size": "x"}}', "data: train_size: expected a whole number"),
        ('{"preset": {}}', "preset: expected a name"),
    ],
)
@pytest.mark.parametrize("read", [study.load, lambda folder: run_log.open_folder(folder, {})])
def test_damaged_settings_are_named(folder, text, said, read):
    write(folder / "config.json", text)
    with pytest.raises(UserError, match=rf"config.json: {said}"):
        read(folder)


TIMES = {"methods": {"ew": {"milliseconds": 2.0, "over_ew": 1.0}}, "steps_per_epoch": 5,
         "sample_data": False, "rounds": 3, "environment": {}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": []}, "methods: expected an object"),
        ({"methods": {"ew": 3}}, "'ew': expected an object"),
        ({"methods": {"ew": {}}}, "'ew': expected milliseconds"),
        ({"methods": {"ew": {"milliseconds": 0}}}, "milliseconds: expected a number above 0"),
        ({"methods": {"ew": {"milliseconds": 1.0, "over_ew": None}}}, "over_ew: expected a number"),
        ({"methods": {"a\n": {"milliseconds": 1.0}}}, "expected a name"),
        ({"steps_per_epoch": None}, "expected steps_per_epoch"),
        ({"steps_per_epoch": "5"}, "steps_per_epoch: expected a whole number"),
        ({"environment": []}, "environment: expected an object"),
        ({"reading": "fast"}, "reading: expected a number"),
    ],
)
def test_damaged_times_are_named(folder, change, said):
    write(folder / "step_times.json", json.dumps(TIMES))
    assert study.load(folder).step_times.rounds == 3
    write(folder / "step_times.json", json.dumps(TIMES | change))
    with pytest.raises(UserError, match=rf"step_times.json.*{said}"):
        study.load(folder)


NAMES = ["$x^{$", r"\$a$", "<script>alert(1)</script>", "a|b `c` *d* [e](f)", "€ & %"]


def test_names_are_shown_as_they_are(tmp_path):
    """Matplotlib would look for formulas in `$…$`, a browser for scripts, GitHub for columns."""
    start = {
        "dataset": "$x^{$",
        "network": "$$",
        "tasks": NAMES,
        "metrics": [[name] for name in NAMES],
        "higher_is_better": [[True]] * len(NAMES),
    }
    for method in ("stl", "ew", "uw$$"):
        write_run(tmp_path, method, 0, start, [[0.5]] * len(NAMES), cosines=True)
    shown = study_report.make(study.load(tmp_path))
    rendered.write(shown, tmp_path)
    written = page.write(tmp_path / "p.html", "x", [page.Section(shown, tmp_path, "study")])
    assert "<script" not in written.read_text()
    text = (tmp_path / "table.md").read_text()
    assert "<script" not in text.replace(r"\<script", "")
    rows = [line.replace(r"\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {len(NAMES) + 4}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, 1e308, -1e-320, "\ud800", "$", "a" * 500]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner,
                                                                max_size=3),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted({(line, name) for line, record in enumerate(good()) for name in record})


def texts():
    """Files of a run: some fields are anything, or bytes are changed, or lines are missing."""
    fields = st.dictionaries(st.sampled_from(FIELDS), st.one_of(JSON, st.just(...)), max_size=3)

    def changed(fields, kept, cut):
        records = [dict(record) for record in good()]
        for (line, name), value in fields.items():
            records[line][name] = value
            if value is ...:
                del records[line][name]
        text = lines([record for line, record in enumerate(records) if line in kept]).encode()
        for position, byte in cut:
            where = position % max(len(text), 1)
            text = text[:where] + byte + text[where + 1 :]
        return text

    all_lines = frozenset(range(len(good())))
    kept = st.just(all_lines) | st.frozensets(st.sampled_from(sorted(all_lines)))
    cut = st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=2)), max_size=2)
    return st.builds(changed, fields, kept, st.just([]) | cut)


@pytest.mark.filterwarnings("ignore")  # of NumPy, for figures out of its range
@settings(
    max_examples=300, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(text=texts(), method=st.sampled_from(["stl", "db_mtl", "ew"]))
def test_no_record_ends_in_a_traceback(folder, text, method):
    write(folder / f"{method}-seed0.jsonl", text)
    try:
        found = study.load(folder)
        pages(folder)
    except UserError:
        return
    named = {line.partition("-seed0.jsonl")[0].rpartition("/")[2] for line in found.left_out}
    unfinished = {name.removesuffix("-seed0") for name in found.unfinished}
    assert method in {*found.runs, *named, *unfinished}  # nothing is lost without a word
